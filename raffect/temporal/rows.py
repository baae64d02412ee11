"""Features of videos, read from the store into one array, or into tables for others to place."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from raffect.affwild2.labels import VideoLabels, codes_of, runs
from raffect.affwild2.tasks import Task
from raffect.store import Files, Store, features_folder, read_manifest
from raffect.store.features import FeatureNames, dtype_of, feature_names, to_array
from raffect.store.raw import ahead
from raffect.temporal.blocks import FeatureBlocks
from raffect.temporal.timelines import NO_ROW, Timelines, build_timelines, fill_rows

READ_AHEAD = 4
Features = NDArray[np.floating] | FeatureBlocks
Crops = dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]]
"""Per video with crops, its 1-based frames and their feature rows."""


@dataclass(frozen=True)
class FeatureRows:
    """Features of some videos, and where each frame's row is.

    Several sets of features lie side by side; a row is of a frame that any of them has. Where
    another has none, its part is that of its nearest earlier row in the video, or of the next one
    at the start, or zeros where it has none in the whole video.

    Attributes:
        values: `(rows, features)` as stored; of several sets float32 if any of them is.
        crops: Per video with rows, its frames and their rows.
        dims: Number of features of each set.
        own: Which sets have a row of their own there, `(rows, sets)`; None for one set alone.
    """

    values: Features
    crops: Crops
    dims: tuple[int, ...]
    own: NDArray[np.bool_] | None

    def timelines(
        self, videos: Sequence[str], labels: Mapping[Task, Mapping[str, VideoLabels]]
    ) -> Timelines:
        """Timelines of some of the videos, with their labels."""
        return build_timelines(videos, self.crops, labels, own=self.own)


class RowNumbers:
    """Numbers the rows of videos in the order in which they come: a frame of several sets once.

    Attributes:
        crops: Frames and rows until now.
        used: Rows until now.
    """

    def __init__(self, videos: Collection[str]) -> None:
        self._wanted = set(videos)
        self.crops: Crops = {}
        self.used = 0

    def add(self, table: pa.Table) -> Iterator[tuple[slice, NDArray[np.int64]]]:
        """Where rows of these videos are in a table, and the numbers that they get."""
        if not table.num_rows:
            return
        names, codes = codes_of(table["video"])
        frames = table["frame"].to_numpy().astype(np.int64)
        for start, stop in runs(codes):
            name = names[codes[start]]
            if name not in self._wanted:
                continue
            known = self.crops.get(name, (frames[:0], frames[:0]))
            rows = _find_rows(frames[start:stop], *known)
            new = rows == NO_ROW
            rows[new] = np.arange(self.used, self.used + new.sum())
            self.crops[name] = (
                np.concatenate([known[0], frames[start:stop][new]]),
                np.concatenate([known[1], rows[new]]),
            )
            self.used += int(new.sum())
            yield slice(start, stop), rows


ReadFeatures = Callable[[Store, FeatureNames, Collection[str]], FeatureRows]


def read_features(store: Store, features: FeatureNames, videos: Collection[str]) -> FeatureRows:
    """Features of some videos; READ_AHEAD files are in memory at a time beside the array.

    Raises:
        NotThereError: There are no such features.
        DamagedError: A file of them is not as it was written.
    """
    folders = [features_folder(name) for name in feature_names(features)]
    manifests = [read_manifest(store, folder) for folder in folders]
    dims = tuple(int(manifest.counts["dim"]) for manifest in manifests)
    # Rows of other videos, and of frames that several sets have, are left over at the end: never
    # written, they take no physical memory.
    most = sum(int(manifest.counts["rows"]) for manifest in manifests)
    dtype = np.result_type(*(dtype_of(manifest.config) for manifest in manifests))
    values: NDArray[np.floating] = np.empty((most, sum(dims)), dtype)
    own = np.zeros((most, len(folders)), dtype=bool)
    numbers = RowNumbers(videos)
    for i, (folder, manifest) in enumerate(zip(folders, manifests, strict=True)):
        part = values[:, sum(dims[:i]) : sum(dims[: i + 1])]
        for table in read_tables(manifest.files_in(store, folder)):
            found = to_array(table)
            for here, rows in numbers.add(table):
                # A slice is twice as fast.
                in_a_row = (np.diff(rows) == 1).all()
                where = slice(rows[0], rows[0] + len(rows)) if in_a_row else rows
                part[where] = found[here]
                own[where, i] = True
    values, own = values[: numbers.used], own[: numbers.used]
    if len(dims) == 1:
        return FeatureRows(values, numbers.crops, dims, None)
    fill_gaps(values, own, dims, numbers.crops)
    return FeatureRows(values, numbers.crops, dims, own)


def fill_gaps(
    values: NDArray[Any], own: NDArray[np.bool_], dims: Sequence[int], crops: Crops, blank: int = 0
) -> None:
    """Write the parts of rows that their set does not have; `blank` where it has no other one."""
    parts = np.split(values, np.cumsum(dims)[:-1], axis=1)
    for frames, rows in crops.values():
        ordered = rows[np.argsort(frames)]
        for part, have in zip(parts, own[ordered].T, strict=True):
            if have.any():
                used, _ = fill_rows(np.flatnonzero(have) + 1, ordered[have], len(ordered))
                part[ordered[~have]] = part[used[~have]]
            else:
                part[ordered] = blank


def table_names(files: Files) -> list[str]:
    """The Parquet files of a folder."""
    return [name for name in files.entries if name.endswith(".parquet")]


def read_table(files: Files, name: str) -> pa.Table:
    """A Parquet file, verified."""
    return files.parse_table(
        name, lambda data: pq.read_table(pa.BufferReader(data), use_threads=False)
    )


def read_tables(files: Files) -> Iterator[pa.Table]:
    """The Parquet files of a folder; while one is used, threads read and verify the next ones."""
    with ThreadPoolExecutor(READ_AHEAD) as pool:
        yield from ahead(pool, partial(read_table, files), table_names(files), READ_AHEAD)
    # Arrow would keep what the files in flight took: 300 MB where each is of 38.
    pa.default_memory_pool().release_unused()


def keep_videos(table: pa.Table, wanted: Collection[str]) -> pa.Table:
    """The rows of some videos; the table itself where that is all."""
    if not table.num_rows:
        return table
    names, codes = codes_of(table["video"])
    parts = [table.slice(a, b - a) for a, b in runs(codes) if names[codes[a]] in wanted]
    whole = sum(part.num_rows for part in parts) == table.num_rows
    return table if whole else pa.concat_tables([table.slice(0, 0), *parts]).combine_chunks()


def _find_rows(
    frames: NDArray[np.int64], known: NDArray[np.int64], rows: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The rows of frames among those of the known ones; NO_ROW for others."""
    found = np.full(max(frames.max(), known.max(initial=0)) + 1, NO_ROW, dtype=np.int64)
    found[known] = rows
    return found[frames]
