"""Features in Ray's object store, a block per file: each node that trains holds them once.

On this machine, and where they are few, threads of the caller read, verify and decode the files,
and put each block where it stays; the caller's memory holds READ_AHEAD files at a time. On a
cluster a Ray Data pipeline does it, a task per file on all nodes, and the caller sees only which
rows are whose: a block that is lost with its node is read again (Ray knows how it was made), and
the blocks that a trial has mapped are its own node's. What a pipeline costs to start, 3 to 8 s for
its workers, is as long as the caller's threads take for 1 to 2 GB.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray

from raffect import engine
from raffect.errors import find_user_error
from raffect.store import Files, Store, features_folder, read_manifest
from raffect.store.features import FeatureNames, dtype_of, feature_names, to_array
from raffect.temporal.blocks import FeatureBlocks
from raffect.temporal.rows import (
    Crops,
    FeatureRows,
    ReadFeatures,
    join_rows,
    keep_videos,
    read_features,
    read_table,
    read_tables,
    rows_by_video,
    table_names,
)

PIPELINE_BYTES = 512 * 2**20
"""Features from which on a cluster reads them by Ray Data."""
BLOCK_BYTES = 256 * 2**20
"""Of a block that is no file's."""
_INDEX = ["video", "frame"]


class SharedBlocks(FeatureBlocks):
    """Blocks in the object store, by reference: fetched by the process that uses them.

    It travels without them, and Ray keeps them as long as anyone has a reference.
    """

    def __init__(
        self, refs: Sequence[Any], bounds: NDArray[np.int64], dim: int, dtype: np.dtype[Any]
    ) -> None:
        self.refs = list(refs)
        self.bounds = bounds
        self.dtype = dtype
        self.shape = (int(bounds[-1]), dim)

    def __reduce__(self) -> tuple[Any, ...]:
        return SharedBlocks, (self.refs, self.bounds, self.shape[1], self.dtype)

    @cached_property
    def arrays(self) -> Sequence[NDArray[np.floating]]:
        """The arrays, views into the node's object store."""
        return [_to_array(each) for each in ray.get(self.refs)]

    def block(self, number: int) -> NDArray[np.floating]:
        """One of the arrays; the object store holds it while it is used."""
        return _to_array(ray.get(self.refs[number]))


def shared_reader(address: str | None) -> ReadFeatures:
    """How the features of a run on the connected cluster are read (see the module)."""
    is_local = engine.is_local(address)

    def read(store: Store, features: FeatureNames, videos: Collection[str]) -> FeatureRows:
        names = feature_names(features)
        if len(names) > 1:
            # Side by side a row is of several files: joined here, then put.
            rows = read_features(store, features, videos)
            assert isinstance(rows.values, np.ndarray)
            return FeatureRows(_put(rows.values), rows.crops, rows.dims, rows.own)
        manifest = read_manifest(store, features_folder(names[0]))
        dim, dtype = int(manifest.counts["dim"]), dtype_of(manifest.config)
        size = int(manifest.counts["rows"]) * dim * dtype.itemsize
        with_tasks = not is_local and size >= PIPELINE_BYTES
        files = manifest.files_in(store, features_folder(names[0]))
        refs, parts = (_by_pipeline if with_tasks else _by_threads)(files, set(videos))
        crops: Crops = {}
        counts: list[int] = []
        for part in parts:
            join_rows(crops, rows_by_video(part, sum(counts)))
            counts.append(part.num_rows)
        return FeatureRows(_blocks(refs, counts, dim, dtype), crops, (dim,), None)

    return read


def read_once(read: ReadFeatures, videos: Collection[str]) -> ReadFeatures:
    """Read features of all these videos at the first call; each call has those that it wants.

    The rows of the others are in its arrays, too, which are the same for all.
    """
    known: dict[tuple[str, ...], FeatureRows] = {}

    def read_some(store: Store, features: FeatureNames, wanted: Collection[str]) -> FeatureRows:
        names = tuple(feature_names(features))
        if names not in known:
            known[names] = read(store, features, videos)
        rows = known[names]
        return replace(rows, crops={key: of for key, of in rows.crops.items() if key in wanted})

    return read_some


def _to_array(block: Any) -> NDArray[np.floating]:
    return block if isinstance(block, np.ndarray) else to_array(block)


def _put(values: NDArray[np.floating]) -> SharedBlocks:
    """Blocks of an array: a worker that holds a share of the rows fetches few others."""
    parts = np.array_split(values, -(-values.nbytes // BLOCK_BYTES) or 1)
    refs, counts = [ray.put(part) for part in parts], [len(part) for part in parts]
    return _blocks(refs, counts, values.shape[1], values.dtype)


def _blocks(
    refs: Sequence[Any], counts: Sequence[int], dim: int, dtype: np.dtype[Any]
) -> SharedBlocks:
    bounds = np.cumsum([0, *counts], dtype=np.int64)
    return SharedBlocks(refs, bounds, dim, dtype)


def _by_threads(files: Files, videos: Collection[str]) -> tuple[list[Any], list[pa.Table]]:
    """References to the blocks, and the video and frame of each block's rows."""
    refs, parts = [], []
    for table in read_tables(files):
        kept = keep_videos(table, videos)
        if kept.num_rows:
            refs.append(ray.put(to_array(kept)))
            parts.append(_index(kept))
    return refs, parts


def _by_pipeline(files: Files, videos: Collection[str]) -> tuple[list[Any], list[pa.Table]]:
    """As `_by_threads`."""
    import ray.data

    names = table_names(files)
    wanted = ray.put(videos)

    def read(batch: Any) -> Iterator[pa.Table]:
        for name in batch["name"]:
            kept = keep_videos(read_table(files, str(name)), ray.get(wanted))
            if kept.num_rows:
                yield kept

    source = ray.data.from_items(
        [{"name": name} for name in names], override_num_blocks=len(names)
    )
    source.context.execution_options.preserve_order = True
    try:
        done = source.map_batches(read, batch_size=1, batch_format="numpy").materialize()
        refs = [ref for of in done.iter_internal_ref_bundles() for ref in of.block_refs]
        index = ray.remote(_index).options(num_cpus=0.01)
        found = ray.get([index.remote(ref) for ref in refs])
    except Exception as error:
        known = find_user_error(error)
        if known is None:
            raise
        raise known from None
    some = [(ref, part) for ref, part in zip(refs, found, strict=True) if part.num_rows]
    return [ref for ref, _ in some], [part for _, part in some]


def _index(block: pa.Table) -> pa.Table:
    """Which rows are whose; without the features."""
    return block.select(_INDEX) if block.num_rows else block
