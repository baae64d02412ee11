"""Labelled crops as Ray Data: what each worker sees in an epoch.

The crops are read once and kept in Ray's object store as they are, JPEG (about 5 KB each: 3 GB for
all of Aff-Wild2's EXPR training frames; Ray spills to disk what does not fit). They are shuffled
once over all videos, since a video's frames are near duplicates, and each worker gets a share of
its own; each epoch decodes the share anew, and mixes it in a window of `WINDOW` images with the
epoch's seed. On a cluster parallel tasks decode, on any node; on one machine threads of the worker
do, as images are thirty times as large as their JPEGs, and Ray copies them three times. So an
epoch never holds decoded images beyond what is in flight, and the same seed gives every worker the
same batches.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray
import ray.data
from numpy.typing import NDArray

from raffect.affwild2.labels import VideoLabels
from raffect.affwild2.shards import frames_files
from raffect.affwild2.tasks import SPECS, Split, Task
from raffect.clip.images import Preprocessing, decode_batch
from raffect.engine import count_cpus
from raffect.errors import DataError, find_user_error
from raffect.store import DATASET, Files, Store, files_of

WINDOW = 2048
DECODED_ROWS = 256
"""Images that one decoding task makes at a time."""
BLOCK_ROWS = 512
_MOST_THREADS = 16
"""A batch each is in memory, 40 MB of 256 images at 224 pixels."""
UNUSED = -1


@dataclass(frozen=True)
class ChosenFrames:
    """The frames that are used: labels by video, frame f at index f - 1, `UNUSED` elsewhere."""

    train: dict[str, NDArray[np.int8]]
    validation: dict[str, NDArray[np.int8]]

    def class_counts(self) -> NDArray[np.int64]:
        """Training frames per class, those without a crop included."""
        used = [labels[labels != UNUSED] for labels in self.train.values()]
        joined = np.concatenate(used) if used else np.empty(0, np.int8)
        return np.bincount(joined, minlength=SPECS[Task.EXPR].outputs).astype(np.int64)


def choose_frames(labels: dict[str, VideoLabels], frame_stride: int) -> ChosenFrames:
    """Each n-th valid frame of the training videos, every valid frame of the validation ones.

    Raises:
        DataError: A split has no frame that may be used.
    """
    chosen: dict[Split, dict[str, NDArray[np.int8]]] = {split: {} for split in Split}
    for name, video in labels.items():
        stride = frame_stride if video.split is Split.TRAIN else 1
        used = np.flatnonzero(video.valid)[::stride]
        if len(used):
            row = np.full(len(video.valid), UNUSED, np.int8)
            row[used] = video.values[used, 0].astype(np.int8)
            chosen[video.split][name] = row
    missing = [split.value for split, videos in chosen.items() if not videos]
    if missing:
        raise DataError(
            f"The dataset has no expression label in {' and '.join(missing)}.",
            "valid EXPR labels in both splits: one to learn, the other to select on",
            "To take the encoder as it is, run the same command with --set epochs=0, then"
            " `raffect extract`; or both at once: `raffect extract --model MODEL --pretrained"
            " WEIGHTS`. To tune it, prepare the store again with EXPR annotations.",
        )
    return ChosenFrames(chosen[Split.TRAIN], chosen[Split.VALIDATION])


@dataclass(frozen=True)
class WorkerFrames:
    """One worker's frames of a split: a dataset of `image` (pixels) and `label`, and its rows.

    Where `preprocessing` is not None, it is `jpeg` in the place of `image`, to be decoded so by as
    many `threads` of the worker.
    """

    dataset: ray.data.Dataset
    rows: int
    preprocessing: Preprocessing | None = None
    threads: int = 1


def read_frames(
    store: Store,
    wanted: dict[str, NDArray[np.int8]],
    preprocessing: Preprocessing,
    workers: int,
    seed: int | None,
    is_local: bool = False,
) -> list[WorkerFrames]:
    """The crops that are wanted, divided among the workers.

    With a seed the crops are shuffled, and all workers get equally many: the last few are left
    out. Without one, order and number stay. Where all is on this machine (`is_local`), the workers
    themselves decode.

    Raises:
        DataError: There are fewer crops than workers.
    """
    crops_of = files_of(store, DATASET)
    names = frames_files(crops_of.entries)
    shards = ray.data.from_items([{"shard": name} for name in names])
    # A fixed order of blocks: otherwise the same seed would give other batches.
    shards.context.execution_options.preserve_order = True
    select = partial(_select, files=crops_of, wanted=ray.put(wanted))
    crops = shards.map_batches(select, batch_size=1, batch_format="numpy")
    if seed is not None:
        crops = crops.random_shuffle(seed=seed)
    expected = sum(int((labels != UNUSED).sum()) for labels in wanted.values())
    try:
        crops = crops.repartition(-(-expected // BLOCK_ROWS) + workers).materialize()
    except Exception as error:
        known = find_user_error(error)
        if known is None:
            raise
        raise known from None
    rows = crops.count()
    if rows < workers:
        raise DataError(
            f"{rows} labelled frames have a crop, for {workers} workers.",
            "at least one crop per worker",
            "Check the images given to `raffect prepare` (`raffect check`).",
        )
    used = rows if seed is None else rows // workers * workers
    bounds = [used * worker // workers for worker in range(workers + 1)]
    parts = crops.split_at_indices(bounds[1:])[:workers]
    if is_local:
        threads = max(1, min(_MOST_THREADS, int(count_cpus() / workers)))
        return [
            WorkerFrames(part, stop - start, preprocessing, threads)
            for part, start, stop in zip(parts, bounds, bounds[1:], strict=False)
        ]
    decode = partial(decode_table, preprocessing=preprocessing)
    # On a single core the worker and the task that decodes for it share it.
    cpus = 1.0 if count_cpus() > 1 else 0.5
    return [
        WorkerFrames(
            part.map_batches(
                decode, batch_size=DECODED_ROWS, batch_format="pyarrow", num_cpus=cpus
            ),
            stop - start,
        )
        for part, start, stop in zip(parts, bounds, bounds[1:], strict=False)
    ]


def _select(batch: dict[str, Any], files: Files, wanted: Any) -> Iterator[pa.Table]:
    """Label and JPEG of the wanted rows of a shard, a row group at a time."""
    labels: dict[str, NDArray[np.int8]] = ray.get(wanted)
    for name in batch["shard"]:
        shard = files.parse_table(str(name), lambda data: pq.ParquetFile(pa.BufferReader(data)))
        for group in range(shard.num_row_groups):
            found = find_rows(shard.read_row_group(group, ["video", "frame"]), labels)
            keep = np.flatnonzero(found != UNUSED)
            if len(keep):
                jpegs = shard.read_row_group(group, ["jpeg"]).column("jpeg").take(keep)
                column = pa.array(found[keep].astype(np.int64))
                yield pa.table({"label": column, "jpeg": jpegs})


def find_rows(table: pa.Table, labels: dict[str, NDArray[np.int8]]) -> NDArray[np.int8]:
    """Label of each row of a table of `video` and `frame`; `UNUSED` where it has none."""
    videos = pc.dictionary_encode(table.column("video").combine_chunks().cast(pa.string()))
    if isinstance(videos, pa.ChunkedArray):
        videos = videos.combine_chunks()
    codes = videos.indices.to_numpy(zero_copy_only=False)
    frames = table.column("frame").to_numpy()
    found = np.full(table.num_rows, UNUSED, np.int8)
    for code, video in enumerate(videos.dictionary.to_pylist()):
        row = labels.get(video)
        if row is not None:
            mine = np.flatnonzero((codes == code) & (frames <= len(row)))
            found[mine] = row[frames[mine] - 1]
    return found


def decode_table(table: pa.Table, preprocessing: Preprocessing) -> dict[str, NDArray[Any]]:
    """Pixels and labels of JPEGs."""
    jpegs = table.column("jpeg").to_pylist()
    return {
        "image": decode_batch(jpegs, preprocessing),
        "label": table.column("label").to_numpy(),
    }
