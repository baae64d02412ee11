"""The score of predictions against annotations, with an interval over videos."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raffect.affwild2.labels import VideoLabels
from raffect.affwild2.predictions import VideoPredictions
from raffect.affwild2.scores import score
from raffect.affwild2.submission import as_submitted, count_clipped
from raffect.affwild2.sums import score_sums, sums_of_videos
from raffect.affwild2.tasks import SPECS, Task, image_location
from raffect.errors import DataError

RESAMPLES = 1000
CONFIDENCE = 0.95
PAPER_WINDOW, PAPER_STRIDE = 300, 200
"""Frames of the segments that the authors' code validates on."""
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
        paper_score: That of the authors' counting (`score_as_paper`), if it was asked for.
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
    paper_score: float | None = None


def evaluate(
    task: Task,
    predictions: Mapping[str, VideoPredictions],
    labels: Mapping[str, VideoLabels],
    seed: int = 0,
    submitted: bool = False,
    as_paper: bool = False,
) -> Evaluation:
    """Score predictions; frames without a valid label are ignored.

    Args:
        predictions: By video; VA values, EXPR or AU probabilities.
        seed: Of the bootstrap.
        submitted: Score what a submission holds of them (submission.as_submitted).
        as_paper: Score them as the authors' code counts, too.

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
            "Predict the whole split, e.g. `raffect predict MODEL --split validation`; of a model"
            " with a fold, give its --fold i/k here.",
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
        paper_score=score_as_paper(task, found, [labels[of] for of in videos])
        if as_paper
        else None,
    )


def score_as_paper(
    task: Task, predictions: list[NDArray[np.float64]], labels: list[VideoLabels]
) -> float | None:
    """The score of the frames that the authors' ABAW6 code validates on, as often as it does.

    It cuts videos into segments of 300 frames at stride 200. The last, shorter segment of a video
    is left out, so that no frame of a shorter video counts, and frames in two segments count
    twice.

    Args:
        predictions: Per video, of its valid frames.

    Returns:
        None if no such segment has a valid frame.
    """
    times = []
    for video in labels:
        frames = np.zeros(len(video.valid), np.int64)
        for start in range(0, len(frames) - PAPER_WINDOW + 1, PAPER_STRIDE):
            frames[start : start + PAPER_WINDOW] += 1
        times.append(frames[video.valid])
    repeats = np.concatenate(times)
    if not repeats.any():
        return None
    true = np.concatenate([video.values[video.valid] for video in labels])
    values = np.concatenate(predictions).repeat(repeats, axis=0)
    return score(task, values, true.repeat(repeats, axis=0)).value


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
    moments = sums_of_videos(task, predictions, labels)
    videos = len(moments)
    times = np.random.default_rng(seed).multinomial(
        videos, np.full(videos, 1 / videos), size=resamples
    )
    scores = score_sums(task, times, moments)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(scores, [tail, 1 - tail])
    return float(low), float(high)
