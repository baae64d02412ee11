from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

from raffect.affwild2.annotations import load_annotations
from raffect.affwild2.check import check
from raffect.affwild2.findings import findings_of
from raffect.affwild2.labels import load_labels
from raffect.affwild2.prepare import prepare
from raffect.affwild2.tasks import Split, Task
from raffect.context import Context
from raffect.errors import ConflictError, DataError, SettingsError, StoreError
from raffect.store import DATASET, Manifest, Store, read_manifest
from raffect.store.manifest import has_manifest
from tests.builders import QUIRKY_COUNTS, QUIRKY_ROOTS, RawTree, quirky_tree, upload

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_local")]

SHARDS = [f"dataset/frames/{i:05d}.parquet" for i in range(4)]


@pytest.fixture
def tree(tmp_path: Path) -> RawTree:
    return quirky_tree(tmp_path / "raw")


def run(store: Store, tree: RawTree, **settings: Any) -> Manifest:
    roots = [tree.root(name) for name in QUIRKY_ROOTS]
    return prepare(store, roots, tree.annotations, **{"shard_bytes": 8000, **settings})


def written(store: Store) -> dict[str, int]:
    """When each shard was written."""
    return {key: Path(store.path(key)).stat().st_mtime_ns for key in store.files("dataset/frames")}


class StopError(Exception):
    pass


def interrupted(store: Store, tree: RawTree, after: int) -> None:
    """Prepare, stopped once this many shards are there."""
    calls: list[int] = []

    def progress(done: int, total: int) -> None:
        calls.append(done)
        if len(calls) > after:
            raise StopError

    with pytest.raises(StopError):
        run(store, tree, context=Context(progress=progress))


def test_counts_are_those_of_the_raw_tree(store: Store, tree: RawTree) -> None:
    calls: list[tuple[int, int]] = []
    manifest = run(store, tree, context=Context(progress=lambda *call: calls.append(call)))
    assert manifest.counts == QUIRKY_COUNTS
    assert check(store) == QUIRKY_COUNTS
    assert store.files("dataset/frames") == SHARDS
    assert calls[0] == (0, 15)
    assert calls[-1] == (15, 15)
    assert [done for done, _ in calls] == sorted({done for done, _ in calls})
    assert len(manifest.notes["misplaced"]) == 7
    assert {f.kind: f.count for f in findings_of(manifest) if f.warning} == {
        "losing": 1,
        "annotated_without_crops": 1,
        "few_crops": 2,
        "far_beyond": 1,
    }
    assert list(manifest.notes["unreadable"]) == ["454/00005.jpg"]
    assert manifest.notes["annotated_without_crops"] == ["77"]
    assert manifest.notes["crops_without_annotations"] == ["99"]
    stored = load_labels(store, Task.AU)
    for split in Split:
        for name, raw in load_annotations(tree.annotations, Task.AU, split).items():
            assert stored[name].values.tolist() == raw.values.tolist()
            assert stored[name].split is split


def test_given_again_it_does_nothing_wherever_the_raw_tree_lies(
    store: Store, tree: RawTree, tmp_path: Path
) -> None:
    manifest = run(store, tree)
    before = written(store)
    moved = RawTree(tmp_path / "moved")
    shutil.move(tree.folder, moved.folder)
    assert run(store, moved) == manifest
    assert written(store) == before


def test_interrupted_it_keeps_what_verifies_and_makes_the_rest(
    store: Store, tree: RawTree, tmp_path: Path
) -> None:
    interrupted(store, tree, after=4)
    assert not has_manifest(store, DATASET)
    assert store.files("dataset/frames") == SHARDS
    deleted, damaged = Path(store.path(SHARDS[0])), Path(store.path(SHARDS[2]))
    deleted.unlink()
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    before = written(store)
    calls: list[tuple[int, int]] = []
    manifest = run(store, tree, context=Context(progress=lambda *call: calls.append(call)))
    after = written(store)
    assert [key for key in SHARDS if before.get(key) == after[key]] == [SHARDS[1], SHARDS[3]]
    assert calls[0] == (9, 15)
    assert check(store) == QUIRKY_COUNTS
    fresh = run(Store(str(tmp_path / "fresh")), tree)
    assert manifest.digest() == fresh.digest()
    assert not store.files("dataset/parts")


def test_overwrite_mends_a_damaged_dataset(store: Store, tree: RawTree) -> None:
    manifest = run(store, tree)
    Path(store.path(SHARDS[1])).write_bytes(b"damaged")
    assert run(store, tree) == manifest
    with pytest.raises(StoreError, match=r"00001\.parquet") as caught:
        check(store)
    assert "raffect check --repair" in caught.value.next_step
    assert run(store, tree, context=Context(overwrite=True)).digest() == manifest.digest()
    assert check(store) == QUIRKY_COUNTS


def test_interrupted_at_once_it_leaves_nothing_that_counts(store: Store, tree: RawTree) -> None:
    interrupted(store, tree, after=0)
    assert not has_manifest(store, DATASET)
    assert run(store, tree).counts == QUIRKY_COUNTS


@pytest.mark.parametrize(
    ("change", "told"),
    [("crop", "images.crops: 15 -> 16"), ("label", "annotations.va"), ("size", "shard_bytes")],
)
def test_another_raw_tree_is_refused_with_what_differs(
    store: Store, tree: RawTree, change: str, told: str
) -> None:
    run(store, tree)
    settings = {"shard_bytes": 9000} if change == "size" else {}
    if change == "crop":
        tree.crops("99", [2])
    if change == "label":
        tree.annotate(Task.VA, Split.VALIDATION, "454", ["0,1"] * 6)
    with pytest.raises(ConflictError, match=told):
        run(store, tree, **settings)
    assert check(store) == QUIRKY_COUNTS
    manifest = run(store, tree, context=Context(overwrite=True), **settings)
    assert check(store) == manifest.counts
    assert manifest.counts["crops"]["readable"] == (15 if change == "crop" else 14)


def test_another_dataset_is_refused_in_words_that_help(store: Store, tree: RawTree) -> None:
    run(store, tree)
    tree.annotate(Task.VA, Split.VALIDATION, "454", ["0,1"] * 6)
    with pytest.raises(ConflictError) as caught:
        # Shards are as large as they were: no option says how large.
        run(store, tree, shard_bytes=None)
    told = str(caught.value)
    assert "shard_bytes" not in told
    assert "\n  annotations.va.content: " in told
    assert "or another store" in told
    assert "--name" not in told
    assert "Give another --store, or --overwrite" in told
    assert max(map(len, told.splitlines()[1:-2])) <= 80


def test_what_a_worker_meets_arrives_as_a_user_error(
    store: Store, tree: RawTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    from raffect.affwild2 import prepare as module

    def vanish(*arguments: Any) -> Any:
        shutil.rmtree(tree.root() / "99")
        return plan(*arguments)

    plan = module.plan_shards
    monkeypatch.setattr(module, "plan_shards", vanish)
    with pytest.raises(DataError, match=r"99/00001\.jpg") as caught:
        run(store, tree)
    assert "same path" in caught.value.allowed
    assert not has_manifest(store, DATASET)


def test_a_wrong_annotation_leaves_nothing_behind(store: Store, tree: RawTree) -> None:
    tree.annotate(Task.EXPR, Split.TRAIN, "99", ["0", "9"])
    with pytest.raises(DataError, match="line 3"):
        run(store, tree)
    assert not store.files("")


def test_a_shard_size_below_a_byte_is_refused(store: Store, tree: RawTree) -> None:
    with pytest.raises(SettingsError, match="shard_bytes"):
        run(store, tree, shard_bytes=0)


def test_crops_of_any_name_and_format_counted_from_0(store: Store, tmp_path: Path) -> None:
    tree = RawTree(tmp_path / "raw")
    folder = tree.crops("a", [])
    names = [f"caf\udce9 {name}" for name in ("0.jpg", "1.PNG", "2.bmp", "10.webp")]
    forms = ["PNG", "PNG", "BMP", "WEBP"]
    for name, form in zip(names, forms, strict=True):
        Image.linear_gradient("L").save(folder / name, form)
    tree.annotate(Task.VA, Split.TRAIN, "a", ["0,0"] * 3 + ["-5,-5"] * 7 + ["1,1"] * 2)
    cut = tree.crops("b", [0]) / "00000.jpg"
    cut.write_bytes(cut.read_bytes()[:-400])
    arguments = (store, [tree.root()], tree.annotations)
    with pytest.raises(DataError, match="crop of frame 0") as caught:
        prepare(*arguments)
    assert "--first-frame 0" in caught.value.next_step
    assert not store.files("")
    with pytest.raises(DataError, match=r"lose a tenth of their crops: 1, e\.g\. b"):
        prepare(*arguments, first_frame=0, strict=True)
    assert not has_manifest(store, DATASET)
    before = written(store)
    manifest = prepare(*arguments, first_frame=0)
    assert written(store) == before
    assert manifest.config["images"]["first_frame"] == 0
    table = pq.read_table(store.path("dataset/frames/00000.parquet")).to_pydict()
    assert table["frame"] == [1, 2, 3, 11]
    assert table["jpeg"] == [(folder / name).read_bytes() for name in names]
    assert check(store)["labels"]["va"]["train"]["valid_without_crop"] == 1
    # A task without annotations is empty.
    assert load_labels(store, Task.EXPR) == {}
    assert prepare(*arguments, first_frame=0) == manifest
    with pytest.raises(DataError, match="lose a tenth"):
        prepare(*arguments, first_frame=0, strict=True)


def test_crops_of_which_none_can_be_read_are_no_dataset(store: Store, tmp_path: Path) -> None:
    tree = RawTree(tmp_path / "raw")
    for n in (1, 2):
        (tree.crops("a", []) / f"{n:05d}.jpg").write_text("version https://git-lfs.github.com/")
    tree.annotate(Task.VA, Split.TRAIN, "a", ["0,0"] * 3)
    with pytest.raises(DataError, match="None of 2 crops") as caught:
        prepare(store, [tree.root()], tree.annotations)
    assert "a/00001.jpg: an unknown format, not a JPEG, PNG, WebP or BMP image" in caught.value.got
    assert not has_manifest(store, DATASET)


@pytest.mark.long
def test_it_works_on_s3(store: Store, s3_store: Store, tree: RawTree) -> None:
    """Crops and labels in a bucket, and the store, too: the same dataset as from folders."""
    local = run(store, tree)
    upload(tree.folder, s3_store)
    # A process of its own: the session's workers were started without the server's credentials.
    code = (
        "import sys; from raffect.store import Store;"
        "from raffect.affwild2.prepare import prepare; *roots, last = sys.argv[2:];"
        "prepare(Store(sys.argv[1]), roots, last, shard_bytes=8000)"
    )
    roots = [s3_store.where(name) for name in QUIRKY_ROOTS]
    target = Store(s3_store.where("store"))
    roots.append(s3_store.where("annotations"))
    command = [sys.executable, "-c", code, target.uri, *roots]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    manifest = read_manifest(target, DATASET)
    assert (manifest.digest(), manifest.notes) == (local.digest(), local.notes)
    assert check(target) == QUIRKY_COUNTS
    assert len(target.files("dataset/frames")) == 4
    assert run(target, tree).counts == QUIRKY_COUNTS
