from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raffect.affwild2.check import check
from raffect.affwild2.labels import VideoLabels, count_dataset, labels_file, to_parquet
from raffect.affwild2.scan import scan
from raffect.affwild2.shards import Shard, write_shard
from raffect.affwild2.tasks import SPECS, Split, Task
from raffect.errors import NotThereError, StoreError
from raffect.store import DATASET, Manifest, Stage, Store
from tests.builders import RawTree

Change = Callable[[pa.Table], pa.Table]


def dataset(
    store: Store,
    folder: Path,
    change_frames: Change = lambda table: table,
    counts: dict[str, object] | None = None,
    valid: bool = True,
) -> Manifest:
    """A dataset of two videos in two shards, made without Ray; `a` has 3 lines and crops 1, 3."""
    tree = RawTree(folder)
    tree.crops("a", [1, 3])
    tree.crops("b_left", [1])
    stage = Stage(store, DATASET, "dataset", {}, {})
    parts = []
    for number, video in enumerate(scan([tree.root()]).videos):
        part = write_shard(stage, Shard(f"frames/{number:05d}.parquet", (video,)))
        data = store.read_bytes(f"{DATASET}/{part.entry.name}")
        sink = io.BytesIO()
        pq.write_table(change_frames(pq.read_table(io.BytesIO(data))), sink)
        parts.append(stage.write_part(part.entry.name, sink.getvalue(), part.facts))
    values = np.zeros((3, 2), np.float32)
    labels = {"a": VideoLabels("a", Split.TRAIN, values, np.full(3, valid))}
    for task in Task:
        data = to_parquet(task, labels if task is Task.VA else {})
        parts.append(stage.write_part(labels_file(task), data))
    crops = {"a": np.array([1, 3], np.int32), "b_left": np.array([1], np.int32)}
    real = count_dataset({Task.VA: labels}, crops, ["a/00002.jpg"])
    return stage.finish(parts, {**real, **(counts or {})})


def set_column(name: str, value: object) -> Change:
    def change(table: pa.Table) -> pa.Table:
        index = table.column_names.index(name)
        values = [value] * len(table)
        kind = table.schema.field(name).type
        array = pa.array(values).dictionary_encode() if name != "frame" else pa.array(values, kind)
        return table.set_column(index, name, array)

    return change


def test_counts_the_rows_and_reports_progress(store: Store, tmp_path: Path) -> None:
    manifest = dataset(store, tmp_path)
    calls: list[tuple[int, int]] = []
    counts = check(store, progress=lambda *call: calls.append(call))
    assert counts == manifest.counts
    assert counts["crops"] == {"readable": 3, "unreadable": ["a/00002.jpg"]}
    train = {"videos": 1, "frames": 3, "valid": 3, "valid_without_crop": 1}
    assert counts["labels"]["va"]["train"] == train
    assert calls == [(n, 5) for n in range(6)]


@pytest.mark.parametrize(
    "name",
    ["frames/00000.parquet", "frames/00001.parquet", *(labels_file(task) for task in Task)],
)
@pytest.mark.parametrize("damage", ["byte", "size", "gone"])
def test_a_damaged_file_is_named(store: Store, tmp_path: Path, name: str, damage: str) -> None:
    dataset(store, tmp_path)
    path = Path(store.path(f"{DATASET}/{name}"))
    data = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        middle = len(data) // 2
        byte = bytes([data[middle] ^ 1]) if damage == "byte" else b""
        path.write_bytes(data[:middle] + byte + data[middle + 1 :])
    with pytest.raises(StoreError) as caught:
        check(store)
    assert name in caught.value.got
    told = {"byte": "SHA-256", "size": "bytes, where", "gone": "missing"}[damage]
    assert told in caught.value.got


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (set_column("frame", 0), "do not ascend from 1"),
        (set_column("frame", 7), "do not ascend from 1"),
        (set_column("video", "a"), "do not lie together"),
        (set_column("source", "c"), "another source"),
    ],
)
def test_what_other_stages_rely_on_is_checked(
    store: Store, tmp_path: Path, change: Change, told: str
) -> None:
    if told == "do not lie together":
        dataset(store, tmp_path, lambda t: set_column("source", "a")(change(t)))
    else:
        dataset(store, tmp_path, change)
    with pytest.raises(StoreError, match=told) as caught:
        check(store)
    assert "frames/0000" in caught.value.got


@pytest.mark.parametrize(
    ("counts", "told"),
    [
        ({"crops": {"readable": 4, "unreadable": []}}, "crops.readable: 4 -> 3"),
        ({"crops": {"readable": 3, "unreadable": ["a/00003.jpg"]}}, "among the crops"),
        ({"labels": {}}, "labels.va"),
    ],
)
def test_the_manifest_is_not_believed(
    store: Store, tmp_path: Path, counts: dict[str, object], told: str
) -> None:
    dataset(store, tmp_path, counts=counts)
    with pytest.raises(StoreError, match=told):
        check(store)


def test_a_wrong_mark_of_validity_is_found(store: Store, tmp_path: Path) -> None:
    assert SPECS[Task.VA].valid(np.zeros((1, 2))).all()
    dataset(store, tmp_path, valid=False)
    with pytest.raises(StoreError, match=r"labels/va\.parquet.*marked wrongly"):
        check(store)


def test_a_store_that_was_never_prepared_says_so(store: Store) -> None:
    with pytest.raises(NotThereError, match="raffect prepare"):
        check(store)
