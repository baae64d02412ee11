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
from raffect.affwild2.submission import as_submitted, count_clipped
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
        as_submitted: Whether the values are those that `submission` writes of the predictions.
        submitted_score: The score of those, whatever was asked for.
        clipped: How many values of the valid frames lie outside [-1, 1] and are clipped there.
    """

    task: Task
    score: float
    frames: int
    videos: int
    interval: tuple[float, float]
    parts: dict[str, float]
    as_submitted: bool
    submitted_score: float
    clipped: int


def evaluate(
    task: Task,
    predictions: Mapping[str, VideoPredictions],
    labels: Mapping[str, VideoLabels],
    seed: int = 0,
    submitted: bool = False,
) -> Evaluation:
    """Score predictions; frames without a valid label are ignored.

    Args:
        predictions: By video; VA values, EXPR or AU probabilities.
        seed: Of the bootstrap.
        submitted: Score what a submission holds of them (submission.as_submitted).

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
    everything = np.concatenate(true)
    clipped = sum(count_clipped(task, values) for values in found)
    written = [as_submitted(task, values) for values in found]
    in_submission = score(task, np.concatenate(written), everything)
    found = written if submitted else found
    whole = in_submission if submitted else score(task, np.concatenate(found), everything)
    return Evaluation(
        task=task,
        score=whole.value,
        frames=sum(map(len, true)),
        videos=len(videos),
        interval=bootstrap(task, found, true, seed),
        parts=whole.parts,
        as_submitted=submitted,
        submitted_score=in_submission.value,
        clipped=clipped,
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
    moments = np.stack([video_sums(task, p, y) for p, y in zip(predictions, labels, strict=True)])
    videos = len(moments)
    times = np.random.default_rng(seed).multinomial(
        videos, np.full(videos, 1 / videos), size=resamples
    )
    scores = score_sums(task, times, moments)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(scores, [tail, 1 - tail])
    return float(low), float(high)


def video_sums(task: Task, predictions: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.float64]:
    """What of a video's valid frames the score is a function of, `(sums, columns)`.

    EXPR and AU: hits, predicted, true. VA: count, mean x, mean y, and the sums over frames of
    squares and products around these means: squares around 0 would lose the digits in which values
    differ that lie close together.
    """
    if task is Task.VA:
        x, y = predictions.astype(np.float64), labels.astype(np.float64)
        mean_x, mean_y = (of[0] + (of - of[0]).mean(axis=0) for of in (x, y))
        x, y = x - mean_x, y - mean_y
        count = np.full_like(mean_x, len(x))
        squares = [(x * x).sum(axis=0), (y * y).sum(axis=0), (x * y).sum(axis=0)]
        return np.stack([count, mean_x, mean_y, *squares])
    if task is Task.EXPR:
        classes = np.arange(SPECS[task].outputs)
        chosen = predictions.argmax(axis=1)[:, None] == classes
        true = labels[:, :1].astype(np.int64) == classes
        terms = [chosen & true, chosen, true]
    else:
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
        hits, predicted, true = np.tensordot(times, sums, axes=1).swapaxes(0, 1)
        return np.asarray(f1(hits, predicted, true).mean(axis=1))
    count, mean_x, mean_y, squares_x, squares_y, products = sums.swapaxes(0, 1)
    frames = times @ count
    # Around the first video's means, which keeps equal ones equal.
    from_x, from_y = mean_x - mean_x[0], mean_y - mean_y[0]
    off_x, off_y = times @ (count * from_x) / frames, times @ (count * from_y) / frames
    # (resamples, videos, columns)
    between_x, between_y = from_x - off_x[:, None], from_y - off_y[:, None]
    weight = times[:, :, None] * count

    def pooled(within: NDArray[np.float64], between: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray((times @ within + (weight * between).sum(axis=1)) / frames)

    apart = (mean_x[0] - mean_y[0]) + off_x - off_y
    variances = pooled(squares_x, between_x**2), pooled(squares_y, between_y**2)
    covariance = pooled(products, between_x * between_y)
    spread = variances[0] + variances[1] + apart**2
    constant = (variances[0] == 0) | (variances[1] == 0)
    ccc = np.where(constant, 0.0, 2 * covariance / np.where(constant, 1.0, spread))
    return np.asarray(ccc.mean(axis=1))
