"""Whole or absent; continued, refused or finished."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raffect.code import code_digest
from raffect.errors import ConflictError, NotThereError, SettingsError, StoreError
from raffect.settings import hash_json
from raffect.store import Stage, Store, read_manifest
from raffect.store.layout import check_name, trial_folder
from raffect.store.stage import diff
from raffect.testing.s3 import S3Server, environment
from tests.durability.proxy import wire_to


@pytest.fixture(params=["folder", "s3"])
def any_store(request: pytest.FixtureRequest) -> Store:
    return request.getfixturevalue({"folder": "store", "s3": "s3_store"}[request.param])


def make(store: Store, overwrite: bool = False, **config: object) -> Stage:
    return Stage(store, "features/f", "features", dict(config), {"dataset": "d1"}, overwrite)


def test_nothing_exists_before_the_manifest(store: Store):
    stage = make(store, a=1)
    stage.write_part("0.bin", b"xx")
    with pytest.raises(NotThereError, match="features/f"):
        read_manifest(store, "features/f")


def test_an_interrupted_stage_keeps_what_verifies(store: Store):
    first = make(store, a=1)
    first.write_part("0.bin", b"zero", {"rows": 4})
    first.write_part("1.bin", b"one!")
    first.write_part("2.bin", b"two!")
    store.write_bytes("features/f/1.bin", b"cut")
    store.delete("features/f/2.bin")
    again = make(store, a=1)
    assert again.finished is None
    assert set(again.parts()) == {"0.bin"}
    assert again.parts()["0.bin"].facts == {"rows": 4}


RIGHTS = ("s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:DeleteObject")


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("missing", RIGHTS)
@pytest.mark.slow
def test_a_missing_right_is_told_before_the_work(
    s3_server: S3Server, s3_store: Store, missing: str, begun: bool
):
    if begun:
        make(s3_store, a=1)
    before = s3_store.filesystem.listed(s3_store.path(""), True)
    with (
        environment(s3_server.user_who_may(*(right for right in RIGHTS if right != missing))),
        pytest.raises(StoreError) as told,
    ):
        make(Store(s3_store.uri), a=1)
    assert f"this request needs {missing}" in told.value.got
    # What comes before is only read.
    assert missing == "s3:GetObject" or told.value.got.endswith("Nothing was done.")
    assert "grant" in told.value.next_step
    assert s3_store.filesystem.listed(s3_store.path(""), True) == before


def test_a_stage_tries_its_rights_in_few_requests(s3_server: S3Server, s3_store: Store):
    """Of a sweep, whose lease lists, in one; what is finished needs the right to read alone."""
    with wire_to(s3_server.endpoint) as wire, environment({"AWS_ENDPOINT_URL": wire.endpoint}):
        store = Store(s3_store.uri)
        with wire.counting() as of_sweep:
            Stage(store, "sweeps/s", "sweep", {}, {})
        with wire.counting() as of_features:
            stage = make(store, a=1)
    assert [one.split()[0] for one in of_sweep] == ["GET", "GET", "DELETE", "PUT"]
    assert [one.split()[0] for one in of_features] == ["GET", "GET", "DELETE", "GET", "PUT"]
    stage.finish([])
    with environment(s3_server.user_who_may("s3:GetObject")):
        assert make(Store(s3_store.uri), a=1).finished is not None


@pytest.mark.parametrize("then", ["deleted", "begun anew"])
def test_what_is_deleted_meanwhile_is_not_finished(any_store: Store, then: str):
    """Nor does another command take over what the first one still wrote."""
    first = make(any_store, a=1)
    parts = [first.write_part("0.bin", b"zero")]
    any_store.write_bytes("features/f/checkpoint/00000001/whole.json", b"{}")
    any_store.delete("features/f")
    if then == "begun anew":
        make(any_store, a=2)
    parts.append(first.write_part("1.bin", b"one!"))
    with pytest.raises(ConflictError, match=f"was {then}.* while this command made it"):
        first.finish(parts)
    with pytest.raises(NotThereError):
        read_manifest(any_store, "features/f")
    if then == "deleted":
        any_store.write_bytes("features/f/checkpoint/00000001/whole.json", b"{}")
        again = make(any_store, a=2)
        assert again.parts() == {}
        assert "checkpoint" not in any_store.names("features/f")
        again.finish([again.write_part("1.bin", b"others")])
        assert len(read_manifest(any_store, "features/f").files) == 1


def test_a_finished_stage_says_so(store: Store):
    stage = make(store, a=1)
    part = stage.write_part("sub/0.bin", b"zero")
    manifest = stage.finish([part], counts={"rows": 4})
    again = make(store, a=1)
    assert again.finished == manifest
    assert store.names("features/f/parts") == []
    assert manifest.files[0].name == "sub/0.bin"
    assert manifest.files[0].size == 4


def test_the_digest_is_of_the_work_not_of_the_time(store: Store, tmp_path):
    digests = []
    for name in ("x", "y"):
        stage = make(Store(str(tmp_path / name)), a=1)
        manifest = stage.finish([stage.write_part("0", b"z")])
        digests.append(manifest.model_copy(update={"created": name}).digest())
    assert digests[0] == digests[1]


def test_a_manifest_is_the_same_whichever_worker_was_first(store: Store, tmp_path: Path):
    texts = set()
    for name, order in (("x", (1, -1)), ("y", (-1, 1))):
        stage = make(Store(str(tmp_path / name)), a=1)
        parts = [stage.write_part(f"{of}", b"z", {"rows": of}) for of in order]
        made = stage.finish(parts)
        texts.add(made.model_copy(update={"created": ""}).model_dump_json())
    assert len(texts) == 1


def test_a_manifest_records_the_code_and_its_digest_is_that_of_before(store: Store):
    stage = make(store, a=1)
    made = stage.finish([stage.write_part("0", b"z")])
    assert made.code == code_digest("features")
    # As 0.2.0 wrote it, and took its digest.
    old = store.read_json("features/f/manifest.json")
    del old["code"], old["checksum"]
    store.write_json("features/f/manifest.json", old)
    found = read_manifest(store, "features/f")
    assert found.code == ""
    del old["created"]
    assert found.digest() == made.digest() == hash_json(old)


@pytest.mark.parametrize("finished", [True, False])
def test_other_settings_are_refused_with_what_differs(store: Store, finished: bool):
    stage = make(store, a=1, b={"c": 2})
    if finished:
        stage.finish([stage.write_part("0", b"z")])
    with pytest.raises(ConflictError, match=r"b\.c: 2 -> 3"):
        make(store, a=1, b={"c": 3})


def test_overwrite_makes_it_anew(store: Store):
    stage = make(store, a=1)
    stage.finish([stage.write_part("0", b"z")])
    again = make(store, overwrite=True, a=2)
    assert again.finished is None
    assert not store.exists("features/f/0")


def test_overwrite_makes_anew_what_is_finished_with_the_same_settings(store: Store):
    stage = make(store, a=1)
    stage.finish([stage.write_part("0", b"z")])
    again = make(store, overwrite=True, a=1)
    assert again.finished is None
    assert again.parts() == {}
    assert store.files("features/f") == ["features/f/plan.json"]
    again.write_part("0", b"z")
    # Interrupted, it goes on.
    assert set(make(store, overwrite=True, a=1).parts()) == {"0"}


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("steps", range(1, 7))
def test_what_was_half_deleted_is_never_continued(
    store: Store, monkeypatch: pytest.MonkeyPatch, steps: int, overwrite: bool
):
    """Killed after each step of an --overwrite; then the command is given without, and with."""

    class KilledError(BaseException):
        pass

    stage = make(store, a=1)
    stage.finish([stage.write_part(name, b"z") for name in ("0", "1", "2")])
    done = []

    def then_counted(real: Callable[..., None]) -> Callable[..., None]:
        def step(*arguments: Any, **named: Any) -> None:
            real(*arguments, **named)
            done.append(real.__name__)
            if len(done) == steps:
                raise KilledError

        return step

    with monkeypatch.context() as patch:
        for kind, name in ((Path, "unlink"), (Store, "write_json")):
            patch.setattr(kind, name, then_counted(getattr(kind, name)))
        with pytest.raises(KilledError):
            make(store, overwrite=True, a=1)
    assert done == ["unlink", "write_json", *["unlink"] * 4][:steps]
    again = make(store, overwrite=overwrite, a=1)
    assert again.finished is None
    assert again.parts() == {}
    there = {key for key in store.files("features/f") if key.rsplit("/")[-1] in "012"}
    # All of the old work, whole, before a plan says that it goes; afterwards none of it.
    assert len(there) == (3 if steps == 1 else 0)


@pytest.mark.parametrize("name", ["manifest.json", "plan.json"])
def test_overwrite_makes_anew_what_has_a_folder_in_a_files_place(store: Store, name: str):
    stage = make(store, a=1)
    stage.finish([stage.write_part("0", b"z")])
    store.delete(f"features/f/{name}")
    store.write_bytes(f"features/f/{name}/x", b"")
    assert make(store, overwrite=True, a=1).is_new
    assert store.files("features/f") == ["features/f/plan.json"]


def test_other_sources_are_refused(store: Store):
    make(store, a=1)
    with pytest.raises(ConflictError, match="dataset"):
        Stage(store, "features/f", "features", {"a": 1}, {"dataset": "d2"})


def test_a_missing_thing_names_its_siblings(store: Store):
    stage = make(store, a=1)
    stage.finish([])
    with pytest.raises(NotThereError, match="features in this store: f"):
        read_manifest(store, "features/g")


def test_a_damaged_manifest_is_one_message(store: Store):
    store.write_bytes("features/f/manifest.json", b"{")
    with pytest.raises(StoreError, match=r"manifest.json is damaged"):
        read_manifest(store, "features/f")


def test_a_manifest_is_json_that_people_can_read(store: Store):
    stage = make(store, a=1)
    stage.finish([stage.write_part("0", b"z")], notes={"unreadable": []})
    tree = json.loads(store.read_bytes("features/f/manifest.json"))
    assert tree["kind"] == "features"
    assert tree["sources"] == {"dataset": "d1"}
    assert len(tree["files"][0]["sha256"]) == 64


@pytest.mark.parametrize("name", ["", "a/b", "..", ".x", "a b", "é", "x" * 101])
def test_names_that_are_no_folder_are_refused(name: str):
    with pytest.raises(SettingsError):
        check_name(name)


def test_trial_folders_sort_by_number():
    assert trial_folder("va", 7) == "sweeps/va/trials/00007"


def test_diff_lists_leaves():
    assert diff({"a": 1, "b": {"c": [1]}}, {"a": 1, "b": {"c": [2]}, "d": 0}) == [
        "  b.c: [1] -> [2]",
        "  d: null -> 0",
    ]
