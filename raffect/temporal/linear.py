"""The linear floor: ridge regression on window means of the features, without a temporal model.

A frame is described by the mean of the features from `half_width` frames before it to as many
behind it, as far as its video has them; frames without a crop are filled as for the model. VA are
regressed as they are, EXPR as one-hot labels of which the largest counts, with frames weighted by
the inverse square root of their class's frequency, AU as 0 or 1 with a threshold for each unit.

Window, regularisation and thresholds are those that score best on training videos which the
regression has not seen (cross-fitting in groups of source videos): nothing is chosen on
validation. Each of several sets of features has the same penalty for a change of its own size.

The normal equations are summed video by video, so that memory does not grow with the data, and of
more than MOST_FRAMES training frames evenly spaced ones are used, as neighbours are much the same.
Validation is scored in whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raffect.affwild2.folds import count_labels, share_out
from raffect.affwild2.scores import Score, f1, score
from raffect.affwild2.tasks import SPECS, Task, source_of
from raffect.errors import DataError
from raffect.temporal.data import TaskData
from raffect.temporal.timelines import NO_ROW, Timelines

Floats = NDArray[np.float64]

HALF_WIDTHS = (0, 5, 15, 25, 50, 100)
"""Frames to each side that are tried; what smooths predictions best is about 50 (field)."""
ALPHAS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Tried for each: the penalty, as a share of the features' mean sum of squares."""
GROUPS = 4
MOST_FRAMES = 100_000
MOST_FEATURES = 3_000
"""Wide enough for three encoders side by side; time grows with its cube."""


@dataclass(frozen=True)
class LinearFit:
    """The floor's score on validation, and what was chosen on the training videos.

    Attributes:
        alpha: See ALPHAS.
        thresholds: From which on a unit is active, `(units,)`; none but for AU.
    """

    score: Score
    half_width: int
    alpha: float
    thresholds: Floats


def linear_floor(data: TaskData) -> LinearFit:
    """Choose on the training videos, fit on all of them, and score on validation.

    Raises:
        DataError: There are more than MOST_FEATURES features.
    """
    width = sum(data.dims)
    if width > MOST_FEATURES:
        raise DataError(
            f"on {width:,} features it would take longer than the sweep.",
            f"at most {MOST_FEATURES:,} features",
            "Go without it, or on features of fewer dimensions.",
        )
    task, halves = data.task, HALF_WIDTHS
    known = data.train.labels[task]
    every = max(1, -(-int(known.valid.sum()) // MOST_FRAMES))
    weights = class_weights(task, known.values[known.valid])
    groups = group_videos(data)
    moments: dict[int, list[Floats]] = {}
    for video, means, y in window_means(data, data.train, halves, every):
        found = [sum_moments(task, x, y, weights) for x in means]
        before = moments.get(groups[video])
        pairs = zip(before or found, found, strict=True)
        moments[groups[video]] = [a + b for a, b in pairs] if before else found
    whole = [np.sum(of, axis=0) for of in zip(*moments.values(), strict=True)]

    def fit(moments: Floats) -> Floats:
        return np.stack([solve(task, moments, data.dims, alpha) for alpha in ALPHAS])

    fits = {
        # A single source video can't be left out.
        group: [fit(a - b if len(moments) > 1 else a) for a, b in zip(whole, own, strict=True)]
        for group, own in moments.items()
    }
    predicted: list[list[Floats]] = [[] for _ in halves]
    labels = []
    for video, means, y in window_means(data, data.train, halves, every):
        for i, x in enumerate(means):
            predicted[i].append(_apply(fits[groups[video]][i], x))
        labels.append(y)
    true = np.concatenate(labels)
    tried = []
    for i, of in enumerate(predicted):
        for j, values in enumerate(np.concatenate(of, axis=1)):
            thresholds = best_thresholds(values, true) if task is Task.AU else np.empty(0)
            outputs = _outputs(task, values, thresholds)
            tried.append((score(task, outputs, true).value, i, j, thresholds))
    _, i, j, thresholds = max(tried, key=lambda one: one[0])
    last = solve(task, whole[i], data.dims, ALPHAS[j])
    final, labels = [], []
    for _, (x,), y in window_means(data, data.validation, halves[i : i + 1]):
        final.append(_outputs(task, _apply(last, x), thresholds))
        labels.append(y)
    result = score(task, np.concatenate(final), np.concatenate(labels))
    return LinearFit(result, halves[i], ALPHAS[j], thresholds)


def group_videos(data: TaskData) -> dict[str, int]:
    """The group of each training video: those of one source in the same, labels balanced."""
    labels = data.train.labels[data.task]
    counts: dict[str, NDArray[np.int64]] = {}
    parts = (data.train.split(of) for of in (labels.values, labels.valid))
    for video, values, valid in zip(data.train.videos, *parts, strict=True):
        source = source_of(video)
        own = count_labels(data.task, values, valid)
        counts[source] = counts[source] + own if source in counts else own
    groups = share_out(counts, GROUPS)
    return {video: groups[source_of(video)] for video in data.train.videos}


def window_means(
    data: TaskData, timelines: Timelines, halves: Sequence[int], every: int = 1
) -> Iterator[tuple[str, list[Floats], NDArray[np.float32]]]:
    """Per video with a valid frame: its name, means `(frames, features)` by half-width, labels.

    The frames are every so many-th valid one.
    """
    known = timelines.labels[data.task]
    parts = (timelines.split(of) for of in (timelines.row, known.values, known.valid))
    for video, row, y, valid in zip(timelines.videos, *parts, strict=True):
        frames = np.flatnonzero(valid)[::every]
        if len(frames):
            x = data.features[row] * (row != NO_ROW)[:, None]
            sums = np.zeros((len(row) + 1, x.shape[1]))
            x.cumsum(axis=0, out=sums[1:])
            means = []
            for half in halves:
                start, stop = np.maximum(frames - half, 0), np.minimum(frames + half + 1, len(row))
                means.append((sums[stop] - sums[start]) / (stop - start)[:, None])
            yield video, means, y[frames]


def class_weights(task: Task, labels: NDArray[np.float32]) -> Floats:
    """For EXPR the weight of a frame of each class, `(classes,)`, else none."""
    if task is not Task.EXPR:
        return np.empty(0)
    counts = np.bincount(labels[:, 0].astype(int), minlength=SPECS[task].outputs)
    return np.asarray(1 / np.sqrt(np.maximum(counts, 1) / counts.mean()))


def sum_moments(task: Task, x: Floats, labels: NDArray[np.float32], weights: Floats) -> Floats:
    """Weighted sums over frames of all products of (features, 1, targets)."""
    targets, root = labels.astype(np.float64), np.ones(len(x))
    if task is Task.EXPR:
        classes = labels[:, 0].astype(int)
        targets, root = np.eye(len(weights))[classes], np.sqrt(weights[classes])
    z = np.concatenate([x, np.ones((len(x), 1)), targets], axis=1) * root[:, None]
    return np.asarray(z.T @ z)


def solve(task: Task, moments: Floats, dims: Sequence[int], alpha: float) -> Floats:
    """Coefficients and, last, intercepts `(features + 1, outputs)`.

    Of one set of features they are those of scikit-learn's Ridge with alpha times the features'
    mean sum of squares.
    """
    from scipy.linalg import solve as solve_linear

    one = sum(dims)
    mean = moments[one] / moments[one, one]
    centred = moments - moments[one, one] * np.outer(mean, mean)
    squares = centred[:one, :one]
    means = np.add.reduceat(squares.diagonal(), np.cumsum([0, *dims[:-1]])) / dims
    # Any penalty does for features that are constant.
    penalty = np.repeat(np.where(means > 0, alpha * means, 1.0), dims)
    coefficients = solve_linear(
        squares + np.diag(penalty), centred[:one, one + 1 :], assume_a="pos"
    )
    return np.vstack([coefficients, mean[one + 1 :] - mean[:one] @ coefficients])


def best_thresholds(predictions: Floats, labels: NDArray[np.float32]) -> Floats:
    """Per unit the prediction from which on F1 is largest if it counts as active, `(outputs,)`.

    Both arguments are `(frames, outputs)`.
    """
    order = np.argsort(-predictions, axis=0)
    ranked = np.take_along_axis(predictions, order, axis=0)
    true = np.take_along_axis(labels == 1, order, axis=0)
    found = np.arange(1, len(true) + 1)[:, None]
    scores = f1(true.cumsum(axis=0), found, true.sum(axis=0))
    # Equal predictions are active together.
    scores[:-1][ranked[:-1] == ranked[1:]] = -1
    return np.asarray(np.take_along_axis(ranked, scores.argmax(axis=0)[None], axis=0)[0])


def _apply(fit: Floats, x: Floats) -> Floats:
    """Predictions `(..., frames, outputs)` of one or several fits."""
    return x @ fit[..., :-1, :] + fit[..., -1:, :]


def _outputs(task: Task, predictions: Floats, thresholds: Floats) -> Floats:
    if task is Task.VA:
        return predictions.clip(-1.0, 1.0)
    return predictions if task is Task.EXPR else (predictions >= thresholds).astype(np.float64)
