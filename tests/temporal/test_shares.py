"""Which videos, rows and segments a worker has; what workers of real processes make of it is in
tests/training/test_shards.py."""

from dataclasses import dataclass
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raffect.affwild2.tasks import Task
from raffect.config import SegmentConfig
from raffect.context import Context
from raffect.errors import ConflictError, SettingsError
from raffect.store import read_manifest
from raffect.temporal.blocks import FeatureBlocks
from raffect.temporal.normalise import training_statistics
from raffect.temporal.segments import index_segments
from raffect.temporal.sharding import Sharding
from raffect.temporal.shares import BatchOrder, Shares, share_videos
from raffect.temporal.timelines import build_timelines
from raffect.temporal.train import train
from raffect.training.reduce import Reducer
from tests.temporal.builders import small_config


@dataclass
class Worker(Reducer):
    """A place among workers; these tests reduce nothing."""

    rank: int
    size: int


def timelines_of(lengths, order):
    """Videos of so many frames with a crop each, whose rows are stored in this order."""
    first = np.zeros(len(lengths), dtype=int)
    first[order] = np.cumsum([0, *np.asarray(lengths)[order]])[:-1]
    crops = {f"v{i}": (np.arange(n) + 1, first[i] + np.arange(n)) for i, n in enumerate(lengths)}
    return build_timelines(list(crops), crops, {})


@given(st.data())
def test_shares_are_neighbours_balanced_by_frames_and_none_is_empty(data):
    lengths = data.draw(st.lists(st.integers(1, 500), min_size=1, max_size=40))
    order = data.draw(st.permutations(range(len(lengths))))
    count = data.draw(st.integers(1, len(lengths)))
    found = share_videos(timelines_of(lengths, order), count)
    assert set(found.tolist()) == set(range(count))
    stored = found[list(order)]
    assert (np.diff(stored) >= 0).all()
    # The nearest boundary is half a video away at most, on either side; unless a share would be
    # empty, which a video that is longer than its due may bring about.
    frames = np.bincount(found, np.asarray(lengths))
    if max(lengths) * count <= sum(lengths):
        assert np.abs(frames - sum(lengths) / count).max() <= max(lengths)


@given(st.data())
def test_any_number_of_workers_passes_the_same_batches_and_each_segment_once(data):
    lengths = data.draw(st.lists(st.integers(1, 300), min_size=1, max_size=20))
    timelines = timelines_of(lengths, range(len(lengths)))
    segments = index_segments(timelines, SegmentConfig(window=20, stride=15))
    count = data.draw(st.integers(1, min(6, len(lengths))))
    size = data.draw(st.integers(1, 40))
    found = []
    for workers in {1, count, data.draw(st.integers(1, count))}:
        epochs = []
        for rank in range(workers):
            split = share_videos(timelines, count)
            shares = Shares(count, split, split, Worker(rank, workers))
            order = BatchOrder(shares, shares.of_segments(timelines, segments), size, (0, 1))
            epochs.append([own.tolist() for own in order.epoch(3)])
            assert len(epochs[-1]) == order.steps == -(-len(segments) // size)
            assert max(map(len, epochs[-1])) <= order.largest
            again = [own.tolist() for own in order.epoch(3)]
            assert again == epochs[-1]
        found.append([sorted(chain(*parts)) for parts in zip(*epochs, strict=True)])
    assert all(batches == found[0] for batches in found)
    assert sorted(chain(*found[0])) == list(range(len(segments)))
    assert all(1 <= len(batch) <= size for batch in found[0])


def test_each_epoch_has_an_order_of_its_own():
    timelines = timelines_of([200] * 6, range(6))
    segments = index_segments(timelines, SegmentConfig(window=20, stride=15))
    split = share_videos(timelines, 3)
    shares = Shares(3, split, split)
    of = shares.of_segments(timelines, segments)
    first, second = (
        np.concatenate(list(BatchOrder(shares, of, 8, (0, 1)).epoch(epoch))) for epoch in (0, 1)
    )
    assert sorted(first) == sorted(second)
    assert first.tolist() != second.tolist()


@pytest.mark.parametrize("in_blocks", [False, True])
def test_a_worker_holds_the_rows_of_its_videos_and_no_others(task_data, in_blocks):
    data = task_data(Task.VA)
    whole, fetched = data.features, []
    if in_blocks:

        class Blocks(FeatureBlocks):
            def block(self, number):
                fetched.append(number)
                return super().block(number)

        blocks = Blocks(np.array_split(whole, 7), whole.shape[1], whole.dtype)
        data = type(data)(**{**vars(data), "features": blocks})
    rows = 0
    for rank in range(3):
        shares = Shares.of(data, 3, Worker(rank, 3))
        held = shares.hold(data)
        assert isinstance(held.features, np.ndarray)
        rows += len(held.features)
        for before, after, split in (
            (data.train, held.train, shares.train),
            (data.validation, held.validation, shares.validation),
        ):
            own = np.repeat(split == rank, before.lengths)
            known = own & (before.row >= 0)
            found = held.features[after.row[known]]
            np.testing.assert_array_equal(found, whole[before.row[known]])
            assert (after.row[own & (before.row < 0)] < 0).all()
            assert (after.row[~own] == 0).all()
    assert rows == len(whole)
    # Each block once by each worker that has rows of it: none is read again for each video.
    assert not in_blocks or len(fetched) <= 3 * 7


def test_statistics_of_shares_are_those_of_the_whole(task_data):
    data = task_data(Task.VA)
    for found, expected in zip(
        training_statistics(data, Shares.of(data, 4)), training_statistics(data), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("workers", "changes", "sharding", "message"),
    [
        (1, {}, Sharding(wanted=True), r"(?s)with one worker.*Give more workers"),
        (6, {}, Sharding(wanted=True), r"(?s)6 workers .* 5 training videos.*at most 5 workers"),
        (3, {"optimiser__shards": 2}, Sharding(), r"(?s)3 workers.* in 2 shares.*at most 2"),
        (1, {"optimiser__shards": 6}, Sharding(), r"(?s)5 training videos"),
    ],
)
def test_what_can_not_be_shared_is_refused_before_anything_is_written(
    small_store, workers, changes, sharding, message
):
    config = small_config(Task.VA, **changes)
    with pytest.raises(SettingsError, match=message):
        train(small_store, config, "clip", "m", workers, sharding=sharding)
    assert small_store.files("models") == []


def test_more_workers_than_shares_are_the_users_mistake(task_data):
    with pytest.raises(SettingsError, match=r"(?s)3 workers.* in 2 shares.*at most 2"):
        Shares.of(task_data(Task.VA), 2, Worker(0, 3))


def test_a_run_in_shares_is_recorded_and_goes_on_as_it_began(small_store):
    config = small_config(Task.VA, optimiser__shards=3, optimiser__epochs=1)
    manifest = train(small_store, config, "clip", "m")
    assert manifest.config["optimiser"]["shards"] == 3
    alone = small_config(Task.VA, optimiser__epochs=1)
    assert train(small_store, alone, "clip", "m") == manifest
    with pytest.raises(ConflictError, match=r"optimiser\.shards: 3 -> null"):
        train(small_store, alone, "clip", "m", sharding=Sharding(wanted=False))
    again = Context(overwrite=True)
    anew = train(small_store, alone, "clip", "m", context=again)
    assert "shards" not in read_manifest(small_store, "models/m").config["optimiser"]
    assert anew.counts["score"] != manifest.counts["score"]
