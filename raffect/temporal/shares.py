"""Shares of the videos: a worker of a data-parallel run holds the features of its own ones alone.

Shares are cut at the boundaries of videos that are nearest to equal numbers of frames, in stored
order, so that the rows of one lie in few blocks. A worker copies its rows out of those blocks one
after the other: the object store has to hold one at a time, and may spill the rest.

Blocks come by Ray Data where there are many (shared.py), but its own split over Ray Train workers
is not used: `streaming_split` deals out blocks as they are read, by rows and again in each epoch,
so that a video would be torn apart, `equal` drops the rows that are left over, and what a worker
got would depend on which one asked first. Here it follows from the timelines alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from raffect.temporal.blocks import FeatureBlocks
from raffect.temporal.data import TaskData
from raffect.temporal.rows import Features
from raffect.temporal.segments import Segments
from raffect.temporal.sharding import check_workers
from raffect.temporal.timelines import NO_ROW, Timelines
from raffect.training.reduce import LOCAL, Reducer

Index = NDArray[np.int64]


def share_videos(timelines: Timelines, count: int) -> Index:
    """The share of each video, `(videos,)`, from 0; none is empty if there are videos enough."""
    rows = np.append(timelines.row, NO_ROW)[timelines.offsets[:-1]]
    order = np.argsort(rows, kind="stable")
    ends = np.cumsum([0, *timelines.seen[order]])
    videos, least = len(order), int(len(order) >= count)
    bounds = [0]
    for number in range(1, count):
        nearest = int(np.abs(ends - ends[-1] * number / count).argmin())
        most = videos - least * (count - number)
        bounds.append(min(max(nearest, bounds[-1] + least), most))
    found = np.empty(videos, dtype=np.int64)
    found[order] = np.repeat(np.arange(count), np.diff([*bounds, videos]))
    return found


@dataclass(frozen=True)
class Shares:
    """The shares of a task's videos, and which of them are this worker's; `count` 1 is no split.

    Shares decide which segments a batch has (order.py), and workers hold whole ones: so any
    number of workers up to that of shares trains the same model.

    Attributes:
        train: The share of each training video.
        validation: The share of each validation video.
    """

    count: int
    train: Index
    validation: Index
    reducer: Reducer = LOCAL

    @classmethod
    def of(cls, data: TaskData, count: int, reducer: Reducer = LOCAL) -> Shares:
        """So many shares of a task's videos.

        Raises:
            SettingsError: There are more workers than shares.
        """
        check_workers(reducer.size, count)
        train, validation = (share_videos(of, count) for of in (data.train, data.validation))
        return cls(count, train, validation, reducer)

    @property
    def own(self) -> range:
        """The shares of this worker."""
        return range(self.reducer.rank, self.count, self.reducer.size)

    @property
    def is_part(self) -> bool:
        """Whether other workers hold the rest of the videos."""
        return self.count > 1 and self.reducer.size > 1

    def of_segments(self, timelines: Timelines, segments: Segments) -> Index:
        """The share of each training segment."""
        return self.train[_videos_at(timelines, segments.start)]

    def is_own(self, timelines: Timelines, segments: Segments) -> NDArray[np.bool_] | None:
        """Which segments of validation are this worker's; None where it holds all videos."""
        if not self.is_part:
            return None
        return np.isin(self.validation[_videos_at(timelines, segments.start)], self.own)

    def hold(self, data: TaskData) -> TaskData:
        """The data with the features of this worker's videos only, copied into its own memory.

        Frames of other videos point to any row: they are only passed where they count for nothing.
        """
        if not self.is_part:
            return data
        splits = (data.train, self.train), (data.validation, self.validation)
        frames = [np.repeat(np.isin(of, self.own), lines.lengths) for lines, of in splits]
        own = [lines.row[mine] for (lines, _), mine in zip(splits, frames, strict=True)]
        rows = np.unique(np.concatenate(own))
        rows = rows[rows != NO_ROW]
        placed = []
        for (lines, _), mine, old in zip(splits, frames, own, strict=True):
            row = np.zeros_like(lines.row)
            row[mine] = np.where(old == NO_ROW, NO_ROW, np.searchsorted(rows, old))
            placed.append(replace(lines, row=row))
        train, validation = placed
        features = _copy_rows(data.features, rows)
        return replace(data, features=features, train=train, validation=validation)


def _videos_at(timelines: Timelines, frames: Index) -> Index:
    """The number of the video of each timeline entry."""
    return np.searchsorted(timelines.offsets, frames, side="right") - 1


def _copy_rows(features: Features, rows: Index) -> NDArray[np.floating]:
    """Rows, sorted, out of one block at a time."""
    if not isinstance(features, FeatureBlocks):
        return features[rows]
    found = np.empty((len(rows), features.shape[1]), features.dtype)
    for here, number, inside in features.find(rows):
        # With other modes NumPy fills a second array first.
        np.take(features.block(number), inside, axis=0, out=found[here], mode="clip")
    return found


@dataclass(frozen=True)
class BatchOrder:
    """Which segments each batch has, and this worker's part of them.

    Of one share, seed and epoch alone decide on the order, and workers take turns. Of several,
    each is shuffled by itself and dealt out evenly over the epoch: a batch has of all shares what
    is their due, and all workers make equally many steps.

    Attributes:
        shares: Whose they are.
        of: The share of each segment, `(segments,)`.
        key: Decides on the order, together with the epoch.
    """

    shares: Shares
    of: Index
    batch_size: int
    key: tuple[int, ...]

    @property
    def steps(self) -> int:
        """Batches per epoch."""
        return -(-len(self.of) // self.batch_size)

    def epoch(self, epoch: int) -> Iterator[Index]:
        """This worker's segments of each batch, by number; it may have none."""
        reducer, key = self.shares.reducer, (*self.key, epoch)
        if self.shares.count == 1:
            order = np.random.default_rng(key).permutation(len(self.of))
            for first in range(0, len(order), self.batch_size):
                yield order[first : first + self.batch_size][reducer.rank :: reducer.size]
            return
        shuffled, bounds = [], []
        for share in self.shares.own:
            numbers = np.random.default_rng((*key, share)).permutation(len(self._dealt[share]))
            shuffled.append(np.flatnonzero(self.of == share)[numbers])
            bounds.append(np.searchsorted(self._dealt[share], np.arange(self.steps + 1)))
        for step in range(self.steps):
            parts = zip(shuffled, bounds, strict=True)
            yield np.concatenate([own[at[step] : at[step + 1]] for own, at in parts])

    @property
    def largest(self) -> int:
        """Most segments that a step of this worker has."""
        if self.shares.count == 1:
            most = min(self.batch_size, len(self.of))
            return -(-most // self.shares.reducer.size)
        dealt = np.concatenate([self._dealt[share] for share in self.shares.own])
        return max(1, int(np.bincount(dealt).max(initial=0)))

    @cached_property
    def _dealt(self) -> list[Index]:
        """Per share, the step of each of its segments in their shuffled order."""
        count = self.shares.count
        sizes = np.bincount(self.of, minlength=count)
        # When each would come if its share alone were spread over the epoch; shares are staggered.
        due = [
            (np.arange(size) + (share + 0.5) / count) / size
            for share, size in enumerate(sizes.tolist())
        ]
        step = np.empty(len(self.of), dtype=np.int64)
        order = np.argsort(np.concatenate(due), kind="stable")
        step[order] = np.arange(len(order)) * self.steps // len(order)
        return np.split(step, np.cumsum(sizes)[:-1])
