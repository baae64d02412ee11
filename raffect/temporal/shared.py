"""Features in Ray's object store, a block per file: each node that trains holds them once.

On this machine, and where they are few, threads of the caller read, verify and decode the files,
and put each block where it stays; the caller's memory holds READ_AHEAD files at a time. On a
cluster a Ray Data pipeline does it, a task per file on all nodes, and the caller sees only which
rows are whose: a block that is lost with its node is read again (Ray knows how it was made), and
the blocks that a trial has mapped are its own node's. What a pipeline costs to start, 3 to 8 s for
its workers, is as long as the caller's threads take for 1 to 2 GB. Several sets come in the same
ways, and are put side by side block for block where they are: the caller numbers their rows. Its
own threads' blocks go as soon as they are part of others, so that it never holds all twice.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import islice
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
    FeatureRows,
    ReadFeatures,
    RowNumbers,
    fill_gaps,
    keep_videos,
    read_table,
    read_tables,
    table_names,
)
from raffect.temporal.timelines import NO_ROW

PIPELINE_BYTES = 512 * 2**20
"""Features from which on a cluster reads them by Ray Data."""
JOINED_BYTES = 64 * 2**20
"""Of a block of several sets side by side: a worker that holds a share of the rows needs few."""
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

    def narrow(self, rows: NDArray[np.int64]) -> tuple[list[int], NDArray[np.int64]]:
        """The blocks of some rows, and the rows' numbers in these alone; NO_ROW stays."""
        blocks = np.searchsorted(self.bounds, rows, side="right") - 1
        known = rows != NO_ROW
        needed, place = np.unique(blocks[known], return_inverse=True)
        sizes = np.diff(self.bounds)[needed]
        inside = np.full_like(rows, NO_ROW)
        inside[known] = (
            rows[known] - self.bounds[blocks[known]] + (np.cumsum(sizes) - sizes)[place]
        )
        return needed.tolist(), inside


def shared_reader(address: str | None) -> ReadFeatures:
    """How the features of a run on the connected cluster are read (see the module)."""
    is_local = engine.is_local(address)

    def read(store: Store, features: FeatureNames, videos: Collection[str]) -> FeatureRows:
        folders = [features_folder(name) for name in feature_names(features)]
        manifests = [read_manifest(store, folder) for folder in folders]
        dims = tuple(int(of.counts["dim"]) for of in manifests)
        types = [dtype_of(of.config) for of in manifests]
        shapes = zip(manifests, dims, types, strict=True)
        size = sum(int(of.counts["rows"]) * dim * dtype.itemsize for of, dim, dtype in shapes)
        with_tasks = not is_local and size >= PIPELINE_BYTES
        numbers = RowNumbers(videos)
        sets: list[SharedBlocks] = []
        rows: list[NDArray[np.int64]] = []
        for folder, manifest, dim, dtype in zip(folders, manifests, dims, types, strict=True):
            files = manifest.files_in(store, folder)
            if with_tasks:
                refs, parts = _by_pipeline(files, set(videos))
            else:
                # What this process puts side by side itself is put where it stays after that.
                keep = ray.put if len(folders) == 1 else np.asarray
                refs, parts = _by_threads(files, set(videos), keep)
            found = [some for part in parts for _, some in numbers.add(part)]
            rows.append(np.concatenate([np.empty(0, np.int64), *found]))
            sets.append(_blocks(refs, [part.num_rows for part in parts], dim, dtype))
            # Or the blocks of the last set would stay until all are joined.
            del refs
        if len(sets) == 1:
            return FeatureRows(sets[0], numbers.crops, dims, None)
        own = np.zeros((numbers.used, len(sets)), dtype=bool)
        sources = np.full(own.shape, NO_ROW, dtype=np.int64)
        for i, some in enumerate(rows):
            own[some, i] = True
            sources[some, i] = np.arange(len(some))
        fill_gaps(sources, own, [1] * len(sets), numbers.crops, NO_ROW)
        values = _side_by_side(sets, sources, with_tasks)
        return FeatureRows(values, numbers.crops, dims, own)

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


def _side_by_side(
    sets: Sequence[SharedBlocks], sources: NDArray[np.int64], with_tasks: bool
) -> SharedBlocks:
    """One set of several, in new blocks: tasks make them where the old ones are, or this process.

    `sources` `(rows, sets)` are the rows that each set shows there; NO_ROW is zeros. A block goes
    when all new ones that want it are made.
    """
    dim, dtype = sum(of.shape[1] for of in sets), np.result_type(*(of.dtype for of in sets))
    step = max(1, JOINED_BYTES // (dim * dtype.itemsize))
    cuts = [sources[start : start + step] for start in range(0, len(sources), step)]
    plans = [[of.narrow(rows) for of, rows in zip(sets, cut.T, strict=True)] for cut in cuts]
    last = {
        (i, block): n
        for n, plan in enumerate(plans)
        for i, (blocks, _) in enumerate(plan)
        for block in blocks
    }
    remote = ray.remote(_join)
    made: list[Any] = []
    for n, plan in enumerate(plans):
        parts = [
            (rows, len(blocks), of.shape[1]) for (blocks, rows), of in zip(plan, sets, strict=True)
        ]
        wanted = [(i, block) for i, (blocks, _) in enumerate(plan) for block in blocks]
        refs = [sets[i].refs[block] for i, block in wanted]
        if with_tasks:
            made.append(remote.remote(parts, dtype, *refs))
        else:
            made.append(ray.put(_join(parts, dtype, *refs)))
        del refs
        for i, block in wanted:
            if last[i, block] == n:
                sets[i].refs[block] = None
        if not with_tasks:
            # Arrow would keep it.
            pa.default_memory_pool().release_unused()
    if made:
        ray.wait(made, num_returns=len(made), fetch_local=False)
    return _blocks(made, [len(cut) for cut in cuts], dim, dtype)


def _join(
    parts: Sequence[tuple[NDArray[np.int64], int, int]], dtype: np.dtype[Any], *blocks: Any
) -> NDArray[np.floating]:
    """Rows of several sets side by side: of each its rows, and how many blocks and features."""
    arrays = map(_to_array, blocks)
    found = np.zeros((len(parts[0][0]), sum(dim for _, _, dim in parts)), dtype)
    first = 0
    for rows, count, dim in parts:
        some, part = list(islice(arrays, count)), found[:, first : first + dim]
        known = np.flatnonzero(rows != NO_ROW)
        for here, block, inside in FeatureBlocks(some, dim, dtype).find(rows[known]):
            # Slices are twice as fast, and need no room of their own.
            start, stop = inside[0], inside[0] + len(inside)
            in_a_row = (np.diff(inside) == 1).all()
            where = here if len(known) == len(rows) else known[here]
            part[where] = some[block][start:stop] if in_a_row else some[block][inside]
        first += dim
    return found


def _blocks(
    refs: Sequence[Any], counts: Sequence[int], dim: int, dtype: np.dtype[Any]
) -> SharedBlocks:
    bounds = np.cumsum([0, *counts], dtype=np.int64)
    return SharedBlocks(refs, bounds, dim, dtype)


def _by_threads(
    files: Files, videos: Collection[str], keep: Callable[[NDArray[np.floating]], Any]
) -> tuple[list[Any], list[pa.Table]]:
    """The blocks as they are kept, and the video and frame of each block's rows."""
    refs, parts = [], []
    for table in read_tables(files):
        kept = keep_videos(table, videos)
        if kept.num_rows:
            refs.append(keep(to_array(kept)))
            parts.append(_index(kept))
    return refs, parts


def _by_pipeline(files: Files, videos: Collection[str]) -> tuple[list[Any], list[pa.Table]]:
    """References to the blocks, and the video and frame of each block's rows."""
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
