"""What the score of a set of videos follows from, video by video: a few sums instead of frames.

The challenge's scores are functions of pooled moments (VA) or counts (EXPR, AU), and these add up
over videos. With the sums of every video, the score of any set or resample of videos is exact
without its predictions.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from raffect.affwild2.scores import f1
from raffect.affwild2.tasks import ACTION_UNIT_THRESHOLD, SPECS, Task

_EPOCH, _VIDEO, _TASK = "epoch", "video", b"task"
_VA_SUMS = (
    "count", "mean predicted", "mean true", "squares predicted", "squares true", "products",
)  # fmt: skip
_AU_SUMS = ("hits", "predicted", "true")


@dataclass(frozen=True)
class VideoSums:
    """The sums of some videos at some epochs of a model.

    Attributes:
        videos: Names; those with a valid frame.
        epochs: From 1, rising.
        values: `(epochs, videos, sums, columns)`, see `video_sums`.
    """

    task: Task
    videos: tuple[str, ...]
    epochs: tuple[int, ...]
    values: NDArray[np.float64]

    def at(self, epoch: int) -> NDArray[np.float64]:
        """The sums `(videos, sums, columns)` at an epoch.

        Raises:
            ValueError: They are not kept of this epoch.
        """
        return np.asarray(self.values[self.epochs.index(epoch)])

    def to_bytes(self) -> bytes:
        """A Parquet file: a row for each epoch and video, a column for each sum."""
        names, (epochs, videos) = _columns(self.task), self.values.shape[:2]
        rows = self.values.reshape(epochs * videos, len(names))
        # Counts are whole numbers, most of the confusion counts 0.
        kind = pa.float64() if self.task is Task.VA else pa.int32()
        columns = {
            _EPOCH: pa.array(np.repeat(np.asarray(self.epochs, np.int32), videos)),
            _VIDEO: pa.array(list(self.videos) * epochs, pa.string()).dictionary_encode(),
            **{name: pa.array(of).cast(kind) for name, of in zip(names, rows.T, strict=True)},
        }
        sink = io.BytesIO()
        table = pa.table(columns).replace_schema_metadata({_TASK: self.task.value})
        pq.write_table(
            table, sink, compression="zstd", use_dictionary=[_VIDEO], write_statistics=False
        )
        return sink.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> VideoSums:
        """What `to_bytes` made."""
        table = pq.ParquetFile(pa.BufferReader(data)).read()
        task = Task(table.schema.metadata[_TASK].decode())
        epochs = tuple(dict.fromkeys(table[_EPOCH].to_pylist()))
        videos = tuple(table[_VIDEO].to_pylist()[: len(table) // len(epochs)])
        values = [table[name].to_numpy().astype(np.float64) for name in _columns(task)]
        shape = len(epochs), len(videos), *_shape(task)
        return cls(task, videos, epochs, np.stack(values, axis=1).reshape(shape))


def _columns(task: Task) -> list[str]:
    """Names of the sums in the order of `video_sums`, row by row."""
    columns = SPECS[task].columns
    rows = columns if task is Task.EXPR else _VA_SUMS if task is Task.VA else _AU_SUMS
    return [f"{row} {column}" for row in rows for column in columns]


def _shape(task: Task) -> tuple[int, int]:
    return len(_columns(task)) // SPECS[task].outputs, SPECS[task].outputs


def sums_of_videos(
    task: Task, predictions: Sequence[NDArray[Any]], labels: Sequence[NDArray[Any]]
) -> NDArray[np.float64]:
    """`video_sums` of several videos, `(videos, sums, columns)`."""
    return np.stack([video_sums(task, p, y) for p, y in zip(predictions, labels, strict=True)])


def video_sums(task: Task, predictions: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.float64]:
    """What of a video's valid frames the score is a function of, `(sums, columns)`.

    EXPR `(8, 8)`: frames by true and predicted class. AU `(3, 12)`: hits, predicted, true. VA
    `(6, 2)`: count, mean x, mean y, and the sums over frames of squares and products around these
    means: squares around 0 would lose the digits in which values differ that lie close together.
    """
    if task is Task.VA:
        x, y = predictions.astype(np.float64), labels.astype(np.float64)
        mean_x, mean_y = (of[0] + (of - of[0]).mean(axis=0) for of in (x, y))
        x, y = x - mean_x, y - mean_y
        count = np.full_like(mean_x, len(x))
        squares = [(x * x).sum(axis=0), (y * y).sum(axis=0), (x * y).sum(axis=0)]
        return np.stack([count, mean_x, mean_y, *squares])
    if task is Task.EXPR:
        classes = SPECS[task].outputs
        pairs = labels[:, 0].astype(np.int64) * classes + predictions.argmax(axis=1)
        counts = np.bincount(pairs, minlength=classes * classes)
        return counts.reshape(classes, classes).astype(np.float64)
    active, true = predictions >= ACTION_UNIT_THRESHOLD, labels == 1
    terms = [active & true, active, true]
    return np.stack([term.sum(axis=0, dtype=np.float64) for term in terms])


def score_sums(
    task: Task, times: NDArray[np.integer], sums: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The scores `(resamples,)` of videos taken `times` `(resamples, videos)` each.

    `sums` `(videos, sums, columns)` are those of `video_sums`.
    """
    if task is not Task.VA:
        pooled = np.tensordot(times, sums, axes=1)
        if task is Task.EXPR:
            hits = np.diagonal(pooled, axis1=1, axis2=2)
            predicted, true = pooled.sum(axis=1), pooled.sum(axis=2)
        else:
            hits, predicted, true = pooled.swapaxes(0, 1)
        return np.asarray(f1(hits, predicted, true).mean(axis=1))
    count, mean_x, mean_y, squares_x, squares_y, products = sums.swapaxes(0, 1)
    frames = times @ count
    # Around the first video's means, which keeps equal ones equal.
    from_x, from_y = mean_x - mean_x[0], mean_y - mean_y[0]
    off_x, off_y = times @ (count * from_x) / frames, times @ (count * from_y) / frames
    # (resamples, videos, columns)
    between_x, between_y = from_x - off_x[:, None], from_y - off_y[:, None]
    weight = times[:, :, None] * count

    def pool(within: NDArray[np.float64], between: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray((times @ within + (weight * between).sum(axis=1)) / frames)

    apart = (mean_x[0] - mean_y[0]) + off_x - off_y
    variances = pool(squares_x, between_x**2), pool(squares_y, between_y**2)
    covariance = pool(products, between_x * between_y)
    spread = variances[0] + variances[1] + apart**2
    constant = (variances[0] == 0) | (variances[1] == 0)
    ccc = np.where(constant, 0.0, 2 * covariance / np.where(constant, 1.0, spread))
    return np.asarray(ccc.mean(axis=1))
