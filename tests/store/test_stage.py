"""Whole or absent; continued, refused or finished."""

from __future__ import annotations

import json

import pytest

from raffect.code import code_digest
from raffect.errors import ConflictError, NotThereError, SettingsError, StoreError
from raffect.settings import hash_json
from raffect.store import Stage, Store, read_manifest
from raffect.store.layout import check_name, trial_folder
from raffect.store.stage import diff


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
