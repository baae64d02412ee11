from __future__ import annotations

import io
import logging
import os
import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from raffect.affwild2.naming import MOST_BYTES
from raffect.affwild2.pixels import UnreadableImageError
from raffect.affwild2.scan import VideoCrops, scan
from raffect.affwild2.shards import plan_shards, read_crop, write_shard
from raffect.errors import DataError
from raffect.store import DATASET, Stage, Store
from raffect.store.raw import RawFile, RawFolder
from tests.builders import QUIRKY_ROOTS, RawTree, jpeg, quirky_tree, upload


def video_of(name: str, size: int) -> VideoCrops:
    one = np.ones(1)
    sizes = np.array([size], np.int64)
    return VideoCrops(
        name, (RawFolder.of(".", "--images"),), one.astype(np.int32), sizes, one.astype(np.uint8)
    )


def read(path: Path) -> bytes:
    return read_crop(RawFile(RawFolder.of(path.parent, "--images"), path.name))


@given(st.lists(st.integers(0, 500), min_size=1, max_size=30), st.integers(1, 1000))
def test_every_video_lies_whole_in_one_shard_in_order(sizes: list[int], limit: int) -> None:
    videos = [video_of(f"{i:02d}", size) for i, size in enumerate(sizes)]
    shards = plan_shards(videos, limit)
    assert [v for shard in shards for v in shard.videos] == videos
    assert [s.name for s in shards] == [f"frames/{i:05d}.parquet" for i in range(len(shards))]
    assert all(shard.videos for shard in shards)
    # A share of all bytes, and at each end at most half of the video that crosses it.
    share = sum(sizes) / max(1, -(-sum(sizes) // limit))
    for shard in shards:
        assert sum(v.bytes for v in shard.videos) <= share + max(sizes)


def test_shards_are_balanced() -> None:
    videos = [video_of(f"{i:02d}", 10) for i in range(12)]
    counts = [len(shard.videos) for shard in plan_shards(videos, 35)]
    assert counts == [3, 3, 3, 3]
    assert len(plan_shards(videos, 120)) == 1
    assert len(plan_shards(videos, 119)) == 2


def test_a_shard_holds_the_files_as_they_were(tmp_path: Path, store: Store) -> None:
    tree = quirky_tree(tmp_path)
    found = scan([tree.root(name) for name in QUIRKY_ROOTS])
    stage = Stage(store, DATASET, "dataset", {}, {})
    [shard] = plan_shards(found.videos, 10**9)
    part = write_shard(stage, shard)
    assert part.facts["videos"] == {
        "28-30-1280x720-1": 4,
        "454": 3,
        "99": 2,
        "video10_1_left": 3,
        "video10_1_right": 2,
    }
    assert part.facts["rows"] == 14
    assert list(part.facts["unreadable"]) == ["454/00005.jpg"]
    assert "truncated" in part.facts["unreadable"]["454/00005.jpg"]
    table = pq.read_table(io.BytesIO(store.read_bytes("dataset/frames/00000.parquet")))
    types = {field.name: str(field.type) for field in table.schema}
    strings = "dictionary<values=string, indices=int32, ordered=0>"
    expected = {"video": strings, "source": strings, "frame": "int32", "jpeg": "binary"}
    assert types == expected
    rows = table.to_pylist()
    assert rows == sorted(rows, key=lambda row: (row["video"], row["frame"]))
    assert {(r["video"], r["source"]) for r in rows if "video10" in r["video"]} == {
        ("video10_1_left", "video10_1"),
        ("video10_1_right", "video10_1"),
    }
    for row in rows:
        assert row["jpeg"] == jpeg(row["frame"])


def test_row_groups_are_small_and_nothing_is_compressed(tmp_path: Path, store: Store) -> None:
    tree = RawTree(tmp_path)
    folder = tree.crops("a", [1])
    data = (folder / "00001.jpg").read_bytes()
    for frame in range(2, 2101):
        (folder / f"{frame:05d}.jpg").write_bytes(data)
    [shard] = plan_shards(scan([tree.root()]).videos, 10**9)
    write_shard(Stage(store, DATASET, "dataset", {}, {}), shard)
    data = store.read_bytes("dataset/frames/00000.parquet")
    metadata = pq.ParquetFile(io.BytesIO(data)).metadata
    assert [metadata.row_group(i).num_rows for i in range(3)] == [1000, 1000, 100]
    assert metadata.row_group(0).column(3).compression == "UNCOMPRESSED"


@pytest.mark.parametrize("kept", [0, 1, 2, 100, 0.5, 0.9, -100])
def test_a_crop_that_is_cut_anywhere_is_unreadable(tmp_path: Path, kept: float) -> None:
    data = jpeg()
    path = tmp_path / "00001.jpg"
    path.write_bytes(data[: int(kept * len(data)) if 0 < kept < 1 else int(kept)])
    with pytest.raises(UnreadableImageError):
        read(path)
    path.write_bytes(data)
    assert read(path) == data


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP"])
def test_the_content_decides_the_format_and_is_kept_as_it_was(tmp_path: Path, form: str) -> None:
    path = tmp_path / "00001.jpg"
    Image.linear_gradient("L").save(path, form)
    assert read(path) == path.read_bytes()
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(UnreadableImageError):
        read(path)


def test_what_is_no_image_is_not_waited_for_nor_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "00001.jpg"
    Image.new("RGB", (8, 8)).save(path, "GIF")
    with pytest.raises(UnreadableImageError, match="GIF"):
        read(path)
    with pytest.raises(UnreadableImageError, match="directory"):
        read(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UnreadableImageError, match="no regular file"):
        read(tmp_path / "pipe")
    os.truncate(path, 10 * 2**30)
    tracemalloc.start()
    with pytest.raises(UnreadableImageError, match="above 128 MiB"):
        read(path)
    assert tracemalloc.get_traced_memory()[1] < 1.1 * MOST_BYTES
    tracemalloc.stop()


def test_a_bomb_costs_its_crop_and_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "00001.jpg"
    Image.new("L", (14000, 14000), 90).save(path, quality=5)
    with pytest.raises(UnreadableImageError, match="14000 x 14000"):
        read(path)


def test_a_crop_that_a_worker_does_not_see_is_an_error(tmp_path: Path, store: Store) -> None:
    tree = RawTree(tmp_path)
    tree.crops("a", [1, 2])
    [shard] = plan_shards(scan([tree.root()]).videos, 10**9)
    (tree.root() / "a" / "00002.jpg").unlink()
    with pytest.raises(DataError, match=r"00002\.jpg") as caught:
        write_shard(Stage(store, DATASET, "dataset", {}, {}), shard)
    assert "same path" in caught.value.allowed
    assert not store.files("dataset/frames")


def test_a_bucket_makes_the_same_shard_with_one_request_a_crop(
    tmp_path: Path, store: Store, s3_store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    tree = quirky_tree(tmp_path)
    tree.crops("a b 50% #1 ?*[x]", [1, 2])
    (tree.root() / "99" / "frame_00002.jpg").write_bytes(b"")
    upload(tree.folder, s3_store)
    parts = []
    for place, roots in (
        ("folder", [tree.root(name) for name in QUIRKY_ROOTS]),
        ("bucket", [s3_store.where(name) for name in QUIRKY_ROOTS]),
    ):
        stage = Stage(Store(f"{store.uri}/{place}"), DATASET, "dataset", {}, {})
        [shard] = plan_shards(scan(roots).videos, 10**9)
        travelled = pickle.loads(pickle.dumps(shard))
        caplog.clear()
        with caplog.at_level(logging.DEBUG, "s3fs"):
            parts.append(write_shard(stage, travelled))
    assert parts[0] == parts[1]
    calls = [message.split()[1] for message in caplog.messages if message.startswith("CALL")]
    assert calls == ["get_object"] * shard.crops


def test_an_object_that_goes_after_the_scan_is_an_error_with_advice(
    store: Store, s3_store: Store
) -> None:
    for frame in (1, 2):
        s3_store.write_bytes(f"crops/a/{frame:05d}.jpg", jpeg())
    [shard] = plan_shards(scan([s3_store.where("crops/")]).videos, 10**9)
    s3_store.delete("crops/a/00002.jpg")
    with pytest.raises(DataError, match=r"00002\.jpg") as caught:
        write_shard(Stage(store, DATASET, "dataset", {}, {}), shard)
    assert s3_store.where("crops/a/00002.jpg") in caught.value.got
    assert "--overwrite" in caught.value.next_step
    assert not store.files("dataset/frames")
