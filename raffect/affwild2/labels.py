"""Labels of annotated videos, in memory and in the store's Parquet files."""

from __future__ import annotations

import io
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from raffect.affwild2.tasks import SPECS, Split, Task
from raffect.store import DATASET, Store, files_of
from raffect.store.layout import LABELS


@dataclass(frozen=True, eq=False)
class VideoLabels:
    """The annotations of one task for one video (or one subject of it).

    Attributes:
        values: Labels `(lines, label_width)`; row i is frame i + 1. float64 as read from an
            annotation file, float32 from the store.
        valid: Which rows may be scored, `(lines,)`.
    """

    video: str
    split: Split
    values: NDArray[np.floating[Any]]
    valid: NDArray[np.bool_]


def labels_file(task: Task) -> str:
    """Name of a task's labels below the dataset's folder."""
    return f"{LABELS}/{task.value}.parquet"


def load_labels(store: Store, task: Task) -> dict[str, VideoLabels]:
    """The annotated videos of a task in order of names; NotThereError without a dataset."""
    return files_of(store, DATASET).parse(labels_file(task), partial(from_parquet, task))


def to_parquet(task: Task, labels: Mapping[str, VideoLabels]) -> bytes:
    """A labels file, sorted by (video, frame); every annotation line is a row."""
    videos = [labels[name] for name in sorted(labels)]
    lengths = [len(video.valid) for video in videos]
    frames = [np.arange(1, length + 1, dtype=np.int32) for length in lengths]
    spec = SPECS[task]
    columns: dict[str, pa.Array] = {
        "video": _repeated([video.video for video in videos], lengths),
        "split": _repeated([video.split.value for video in videos], lengths),
        "frame": pa.array(_joined(frames, np.int32)),
    }
    values = [video.values for video in videos]
    for i, name in enumerate(spec.label_columns):
        columns[name] = pa.array(_joined([v[:, i] for v in values], spec.label_dtype))
    columns["valid"] = pa.array(_joined([video.valid for video in videos], np.bool_))
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, compression="zstd")
    return sink.getvalue()


def _repeated(names: list[str], lengths: list[int]) -> pa.DictionaryArray:
    distinct = sorted(set(names))
    codes = {name: code for code, name in enumerate(distinct)}
    indices = np.repeat(np.array([codes[name] for name in names], dtype=np.int32), lengths)
    return pa.DictionaryArray.from_arrays(pa.array(indices), pa.array(distinct, pa.string()))


def _joined(arrays: list[NDArray[Any]], dtype: Any) -> NDArray[Any]:
    return np.concatenate([np.empty(0, dtype), *(array.astype(dtype) for array in arrays)])


def from_parquet(task: Task, data: bytes) -> dict[str, VideoLabels]:
    """The videos of a labels file; their arrays are views of the columns."""
    table = pq.ParquetFile(pa.BufferReader(data)).read()
    spec = SPECS[task]
    columns = [table[name].to_numpy() for name in spec.label_columns]
    values = np.stack(columns, axis=1).astype(np.float32)
    valid = table["valid"].to_numpy()
    videos, video_codes = codes_of(table["video"])
    splits, split_codes = codes_of(table["split"])
    found = {}
    for start, stop in runs(video_codes):
        name = videos[video_codes[start]]
        split = Split(splits[split_codes[start]])
        found[name] = VideoLabels(name, split, values[start:stop], valid[start:stop])
    return found


def codes_of(column: pa.ChunkedArray) -> tuple[list[str], NDArray[np.int32]]:
    """The distinct strings of a dictionary column, and each row's index into them."""
    array = column.unify_dictionaries().combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    return array.dictionary.to_pylist(), array.indices.to_numpy()


def runs(codes: NDArray[np.integer]) -> list[tuple[int, int]]:
    """Start and stop of each maximal run of equal values."""
    if not len(codes):
        return []
    edges = np.flatnonzero(np.diff(codes)) + 1
    return list(itertools.pairwise([0, *edges.tolist(), len(codes)]))


class LabelCounts(TypedDict):
    """Counts of one task's labels in one split."""

    videos: int
    frames: int
    valid: int
    valid_without_crop: int


class CropCounts(TypedDict):
    """Number of readable crops, and the others by name (`video/00005.jpg`)."""

    readable: int
    unreadable: list[str]


class DatasetCounts(TypedDict):
    """The counts of a dataset's manifest, as `raffect check --json` prints them."""

    crops: CropCounts
    labels: dict[str, dict[str, LabelCounts]]


def count_dataset(
    labels: Mapping[Task, Mapping[str, VideoLabels]],
    crops: Mapping[str, NDArray[np.int32]],
    unreadable: list[str],
) -> DatasetCounts:
    """Count a dataset; `crops` are the 1-based frames of each video with a readable crop."""
    counts = {
        task.value: {
            split.value: LabelCounts(videos=0, frames=0, valid=0, valid_without_crop=0)
            for split in Split
        }
        for task in Task
    }
    for task, videos in labels.items():
        for video in videos.values():
            count = counts[task.value][video.split.value]
            frames = crops.get(video.video, np.empty(0, np.int32))
            # There may be crops beyond the last annotation line.
            annotated = frames[frames <= len(video.valid)]
            valid = int(video.valid.sum())
            count["videos"] += 1
            count["frames"] += len(video.valid)
            count["valid"] += valid
            count["valid_without_crop"] += valid - int(video.valid[annotated - 1].sum())
    readable = sum(len(frames) for frames in crops.values())
    return {"crops": {"readable": readable, "unreadable": unreadable}, "labels": counts}
