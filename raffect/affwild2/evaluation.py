"""The score of predictions against annotations, with an interval over videos."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raffect.affwild2.labels import VideoLabels
from raffect.affwild2.predictions import VideoPredictions
from raffect.affwild2.scores import f1, score
from raffect.affwild2.tasks import ACTION_UNIT_THRESHOLD, SPECS, Task, image_location
from raffect.errors import DataError

RESAMPLES = 1000
CONFIDENCE = 0.95
_SHOWN = 5


@dataclass(frozen=True)
class Evaluation:
    """The score of predictions, with its uncertainty.

    Attributes:
        frames: Valid frames, each counted once.
        videos: Videos with a valid frame.
        interval: Percentile bootstrap over videos, 95 %.
        parts: What the score is the mean of.
    """

    task: Task
    score: float
    frames: int
    videos: int
    interval: tuple[float, float]
    parts: dict[str, float]


def evaluate(
    task: Task,
    predictions: Mapping[str, VideoPredictions],
    labels: Mapping[str, VideoLabels],
    seed: int = 0,
) -> Evaluation:
    """Score predictions; frames without a valid label are ignored.

    Args:
        predictions: By video; VA values, EXPR or AU probabilities.
        seed: Of the bootstrap.

    Raises:
        DataError: A valid frame has no prediction, or no frame is valid.
    """
    videos = [video for video, of in labels.items() if of.valid.any()]
    if not videos:
        raise DataError(
            f"There is no valid {task.value.upper()} label to evaluate against.",
            "annotation files with at least one valid line",
            "Check --annotations and --split.",
        )
    nothing = VideoPredictions("", np.empty(0, np.int32), np.empty((0, SPECS[task].outputs)))
    found = []
    missing: list[str] = []
    for video in videos:
        frames = np.flatnonzero(labels[video].valid) + 1
        values, known = predictions.get(video, nothing).at(frames)
        found.append(values)
        missing += [image_location(video, frame) for frame in frames[~known].tolist()]
    if missing:
        some = ", ".join(missing[:_SHOWN])
        more = f" and {len(missing) - _SHOWN:,} more" if len(missing) > _SHOWN else ""
        raise DataError(
            f"{len(missing):,} valid frames have no prediction: {some}{more}",
            "a prediction for every valid frame, those without a crop included",
            "Predict the whole split, e.g. `raffect predict MODEL --split validation`.",
        )
    true = [labels[video].values[labels[video].valid] for video in videos]
    whole = score(task, np.concatenate(found), np.concatenate(true))
    return Evaluation(
        task=task,
        score=whole.value,
        frames=sum(map(len, true)),
        videos=len(videos),
        interval=bootstrap(task, found, true, seed),
        parts=whole.parts,
    )


def bootstrap(
    task: Task,
    predictions: list[NDArray[np.float64]],
    labels: list[NDArray[Any]],
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> tuple[float, float]:
    """Percentile interval of the score over resamples of whole videos.

    Frames of a video are strongly correlated, so that a bootstrap over frames would give far too
    narrow an interval. The score of a resample is computed from sums per video.

    Args:
        predictions: Per video, `(frames, outputs)`.
        labels: Per video, `(frames, label_width)`.
    """
    sums = np.stack([video_sums(task, p, y) for p, y in zip(predictions, labels, strict=True)])
    videos = len(sums)
    times = np.random.default_rng(seed).multinomial(
        videos, np.full(videos, 1 / videos), size=resamples
    )
    scores = score_sums(task, times @ sums.reshape(videos, -1))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(scores, [tail, 1 - tail])
    return float(low), float(high)


def video_sums(task: Task, predictions: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.float64]:
    """The sums over a video's valid frames that the score is a function of, `(sums, columns)`.

    VA: count, x, y, xx + yy, xy; EXPR and AU: hits, predicted, true.
    """
    if task is Task.VA:
        x, y = predictions.astype(np.float64), labels.astype(np.float64)
        terms: list[NDArray[Any]] = [np.ones_like(x), x, y, x * x + y * y, x * y]
    elif task is Task.EXPR:
        classes = np.arange(SPECS[task].outputs)
        chosen = predictions.argmax(axis=1)[:, None] == classes
        true = labels[:, :1].astype(np.int64) == classes
        terms = [chosen & true, chosen, true]
    else:
        active, true = predictions >= ACTION_UNIT_THRESHOLD, labels == 1
        terms = [active & true, active, true]
    return np.stack([term.sum(axis=0, dtype=np.float64) for term in terms])


def score_sums(task: Task, sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """The scores `(resamples,)` of flat sums `(resamples, sums * columns)`."""
    columns = sums.reshape(len(sums), -1, SPECS[task].outputs).swapaxes(0, 1)
    if task is not Task.VA:
        return np.asarray(f1(*columns).mean(axis=1))
    count, x, y, squares, product = columns
    mean_x, mean_y = x / count, y / count
    covariance = product / count - mean_x * mean_y
    spread = squares / count - mean_x**2 - mean_y**2 + (mean_x - mean_y) ** 2
    # Constant series leave rounding errors in numerator and denominator instead of 0 / 0.
    negligible = spread < 1e-12
    ccc = np.where(negligible, 0.0, 2 * covariance / np.where(negligible, 1.0, spread))
    return np.asarray(ccc.mean(axis=1))
