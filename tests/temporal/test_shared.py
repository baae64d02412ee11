"""Features in the object store, read by threads or by Ray Data, are those of one process."""

from dataclasses import replace

import numpy as np
import pytest
import ray

from raffect.affwild2.tasks import Task
from raffect.errors import DamagedError
from raffect.store import DATASET, features_folder, read_manifest
from raffect.temporal import shared
from raffect.temporal.data import load_task_data
from raffect.temporal.rows import read_features
from raffect.temporal.shared import SharedBlocks, read_once, shared_reader
from tests.nodes import two_nodes
from tests.temporal.builders import fill, small_videos, write_features
from tests.temporal.test_sets import with_audio

pytestmark = pytest.mark.ray
WIDE = 4_000
"""Features that make a block too large to travel with its reference."""


def wide_videos(seed=0, share=1.0):
    rng = np.random.default_rng(seed)
    made = []
    for video in small_videos():
        values = rng.normal(size=(len(video.frames), WIDE)).astype(np.float32)
        kept = rng.random(len(values)) < share
        made.append(replace(video, frames=video.frames[kept], features=values[kept]))
    return made


def check_same(store, rows, videos, features="clip"):
    """Each frame of each video has the features that one process reads."""
    expected = read_features(store, features, videos)
    assert rows.dims == expected.dims
    np.testing.assert_equal(rows.own, expected.own)
    assert set(rows.crops) == set(expected.crops)
    assert len(rows.values) == len(expected.values)
    for name, (frames, index) in expected.crops.items():
        found_frames, found = rows.crops[name]
        np.testing.assert_array_equal(found_frames, frames)
        np.testing.assert_array_equal(rows.values[found], expected.values[index])


def test_what_threads_read_is_shared_without_a_copy(store, ray_local):
    fill(store, wide_videos())
    videos = [video.name for video in small_videos()]
    for wanted in (videos, videos[1::2], ["nobody"]):
        rows = shared_reader(None)(store, "clip", wanted)
        check_same(store, rows, wanted)
    rows = shared_reader(None)(store, "clip", videos)
    once, again = (ray.get(ray.put(rows.values)) for _ in range(2))
    assert isinstance(once, SharedBlocks)
    addresses = [[array.ctypes.data for array in each.arrays] for each in (once, again)]
    assert addresses[0] == addresses[1]


def fill_three_sets(store):
    """Sets of other frames, types and sizes, in other files."""
    fill(store, small_videos())
    dataset = read_manifest(store, DATASET).digest()
    write_features(store, wide_videos(1, 0.7)[::-1], "wide", dataset)
    with_audio(store)


@pytest.mark.parametrize("size", [50_000, shared.JOINED_BYTES])
def test_several_sets_are_joined_in_blocks(store, ray_local, monkeypatch, size):
    monkeypatch.setattr(shared, "JOINED_BYTES", size)
    fill_three_sets(store)
    videos = [video.name for video in small_videos()]
    for features in (["clip", "wide", "audio"], ["audio", "clip"]):
        for wanted in (videos, videos[1::2], ["nobody"]):
            rows = shared_reader(None)(store, features, wanted)
            check_same(store, rows, wanted, features)
    readers = (None, shared_reader(None))
    alone, found = (load_task_data(store, features, Task.VA, read=each) for each in readers)
    np.testing.assert_array_equal(found.features[np.arange(len(found.features))], alone.features)
    np.testing.assert_array_equal(found.train.row, alone.train.row)


def test_tasks_join_what_this_process_does(ray_local, monkeypatch):
    monkeypatch.setattr(shared, "JOINED_BYTES", 200)
    rng = np.random.default_rng(0)
    sources = np.stack([rng.integers(-1, 9, 40), rng.integers(-1, 6, 40)], axis=1)
    values = rng.normal(size=(9, 3)).astype(np.float16), rng.normal(size=(6, 2))
    expected = np.concatenate(
        [
            np.where(rows[:, None] < 0, 0, whole[rows])
            for rows, whole in zip(sources.T, values, strict=True)
        ],
        axis=1,
    )
    for with_tasks in (False, True):
        sets = []
        for whole in values:
            parts = np.split(whole, [2, 5])
            sizes = [len(part) for part in parts]
            refs = [ray.put(part) for part in parts] if with_tasks else parts
            sets.append(shared._blocks(refs, sizes, whole.shape[1], whole.dtype))
        found = shared._side_by_side(sets, sources, with_tasks)
        assert len(found.refs) == 8
        np.testing.assert_array_equal(found[np.arange(40)], expected)
        # What all new blocks have is not kept twice.
        assert all(ref is None for each in sets for ref in each.refs)


def test_what_is_read_once_for_several_tasks_is_to_each_what_it_would_read(store, ray_local):
    fill(store, small_videos())
    videos = [video.name for video in small_videos()]
    calls = []

    def counted(*call):
        calls.append(call)
        return shared_reader(None)(*call)

    read = read_once(counted, videos)
    for wanted in (videos[:1], videos[1:]):
        rows, alone = read(store, "clip", wanted), read_features(store, "clip", wanted)
        assert set(rows.crops) == set(alone.crops)
        for name, (frames, index) in alone.crops.items():
            np.testing.assert_array_equal(rows.crops[name][0], frames)
            np.testing.assert_array_equal(rows.values[rows.crops[name][1]], alone.values[index])
    assert len(calls) == 1
    assert load_task_data(store, "clip", Task.VA, read=read).digest == (
        load_task_data(store, "clip", Task.VA).digest
    )


@pytest.mark.long
def test_a_cluster_reads_again_what_is_lost_with_a_node(store, monkeypatch):
    monkeypatch.setattr(shared, "PIPELINE_BYTES", 0)
    monkeypatch.setattr(shared, "JOINED_BYTES", 1 << 20)
    fill(store, wide_videos())
    dataset = read_manifest(store, DATASET).digest()
    write_features(store, wide_videos(1, 0.7), "more", dataset)
    videos = [video.name for video in small_videos()][1:]
    with two_nodes(monkeypatch) as cluster:
        read = shared_reader(cluster.address)
        found = [(wanted, read(store, wanted, videos)) for wanted in ("clip", ["clip", "more"])]
        refs = [ref for _, rows in found for ref in rows.values.refs]
        places = ray.experimental.get_object_locations(refs)
        holders = {node for of in places.values() for node in of["node_ids"]}
        assert ray.get_runtime_context().get_node_id() not in holders
        lost = [node for node in cluster.worker_nodes if node.node_id in holders]
        assert lost
        for node in lost:
            cluster.remove_node(node, allow_graceful=False)
            cluster.add_node(num_cpus=1)
        for wanted, rows in found:
            check_same(store, rows, videos, wanted)


@pytest.mark.parametrize(
    "size",
    [pytest.param(0, marks=pytest.mark.long, id="pipeline"), pytest.param(1 << 40, id="threads")],
)
def test_a_damaged_file_is_named(store, ray_local, monkeypatch, size):
    monkeypatch.setattr(shared, "PIPELINE_BYTES", size)
    monkeypatch.setattr("raffect.engine.is_local", lambda address: False)
    fill(store, small_videos())
    key = f"{features_folder('clip')}/00001.parquet"
    data = bytearray(store.read_bytes(key))
    data[len(data) // 2] ^= 1
    store.write_bytes(key, bytes(data))
    with pytest.raises(DamagedError, match=r"00001\.parquet is damaged: its SHA-256"):
        shared_reader("auto")(store, "clip", ["train-0"])
