"""The workload in the files that the rivals read: .npy per video, parquet of segments."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from raffect.affwild2.tasks import Task
from raffect.config import SegmentConfig
from raffect.temporal.data import TaskData
from raffect.temporal.segments import index_segments
from raffect.temporal.timelines import Timelines

SPLITS = ("train", "validation")
FIELDS = ("x", "present", "values", "valid")
"""Arrays of a video: features, whether a frame has a crop, labels, whether a label is valid."""


def export(data: TaskData, config: SegmentConfig, folder: Path) -> None:
    """Write both forms; missing crops are filled in, as a user would do beforehand."""
    for split, timelines in zip(SPLITS, (data.train, data.validation), strict=True):
        _write_videos(data, timelines, folder / "videos" / split)
        _write_segments(data, timelines, config, folder / f"{split}.parquet")


def _frames(data: TaskData, timelines: Timelines) -> dict[str, NDArray[np.generic]]:
    labels = timelines.labels[Task.VA]
    return {
        "x": data.features[timelines.row],
        "present": timelines.present,
        "values": labels.values,
        "valid": labels.valid,
    }


def _write_videos(data: TaskData, timelines: Timelines, folder: Path) -> None:
    for field, values in _frames(data, timelines).items():
        (folder / field).mkdir(parents=True)
        for name, own in zip(timelines.videos, timelines.split(values), strict=True):
            np.save(folder / field / f"{name}.npy", own)


def _write_segments(
    data: TaskData, timelines: Timelines, config: SegmentConfig, path: Path
) -> None:
    """One row per segment, overlap copied; booleans as uint8, which every reader has."""
    segments = index_segments(timelines, config)
    position = np.arange(segments.window)
    last = (segments.start + segments.real - 1)[:, None]
    frames = np.minimum(segments.start[:, None] + position, last)
    columns = {name: values[frames] for name, values in _frames(data, timelines).items()}
    columns["real"] = position < segments.real[:, None]
    columns["frames"] = frames
    arrays = {}
    for name, values in columns.items():
        plain = values.astype(np.uint8) if values.dtype == bool else values
        tensor = pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(plain))
        arrays[name] = tensor
    pq.write_table(pa.table(arrays), path, row_group_size=64)
