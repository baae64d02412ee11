"""After the model: smoothing, delay and thresholds, fitted on videos other than those scored.

Frames are predicted one by one, labels are not: a mean or median over time takes out what flickers
(EXPR .384 -> .424 and VA .50 -> .57 in public results). Annotators lag behind the face by 1 to 6 s
(Mariooryad and Busso 2015), so predictions may be delayed. Rare action units have their best F1 at
another threshold than 0.5; here it becomes a monotone map of the probability with the threshold at
0.5, so that files, submission and evaluation need no thresholds of their own.

Of a grid of filters the best one is taken. The validation videos are in two groups; what is fitted
on one is applied to the other, so that no frame's score is of values that it helped to choose.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from raffect.affwild2.folds import two_groups
from raffect.affwild2.scores import f1
from raffect.affwild2.sums import score_sums, video_sums
from raffect.affwild2.tasks import ACTION_UNIT_THRESHOLD, SPECS, Task
from raffect.settings import Config
from raffect.temporal.timelines import Timelines

T = TypeVar("T")
HALF_WIDTHS = {
    Task.VA: (0, 5, 15, 25, 50, 100),
    Task.EXPR: (0, 5, 15, 25, 50, 100),
    Task.AU: (0, 2, 5, 10),
}
"""Of the mean, in frames: 0 is the frame alone, 50 are 101 frames."""
MEDIAN_HALF_WIDTH = 50
SHIFTS = (0, 4, 8, 16, 30)
"""Delay of the predictions in frames, of which videos have about 30 a second."""
MOST_FITTED = 50_000
"""Valid frames that are compared, evenly spaced: neighbours tell almost the same."""

# Thresholds are the float32 numbers with 5 bits of mantissa: 32 in each halving of a
# probability, so that those of rare units are as fine as those near 0.5.
_DROPPED_BITS = 18
_LOWEST = np.float32(2.0**-16)
_FIRST_LEVEL = int(_LOWEST.view(np.uint32)) >> _DROPPED_BITS
_LEVELS = (int(np.float32(1).view(np.uint32)) >> _DROPPED_BITS) - _FIRST_LEVEL + 1
_NO_LOG_BELOW = float(np.finfo(np.float32).tiny)

_FITS = np.array([[1, 0], [0, 1], [1, 1]])
"""Which groups each of the three fits is of."""


class Filter(Config):
    """Mean or median over 2 `half_width` + 1 frames, then a delay of `shift` frames.

    The median is that of log-probabilities. A mean takes fewer frames where the video ends; the
    median mirrors them. Before the first frame holds its value, after the last crop the last one.
    """

    kind: Literal["mean", "median"] = "mean"
    half_width: int = Field(0, ge=0)
    shift: int = Field(0, ge=0)

    def describe(self) -> str:
        """In words."""
        frames = 2 * self.half_width + 1
        smoothed = f"{self.kind} of {frames} frames" if self.half_width else "no smoothing"
        return f"{smoothed}, delayed by {self.shift}" if self.shift else smoothed


class Postprocess(Config):
    """What is done with predictions: one filter for all columns or one for each, and thresholds.

    Only VA has a filter for each column, as its score is a mean of independent ones, and only AU
    has thresholds, one per unit.
    """

    filters: tuple[Filter, ...] = (Filter(),)
    thresholds: tuple[float, ...] = ()

    def describe(self, task: Task) -> str:
        """In words, e.g. `mean of 31 frames, delayed by 8`."""
        texts = [each.describe() for each in self.filters]
        if len(texts) > 1:
            pairs = zip(SPECS[task].columns, texts, strict=True)
            texts = [f"{column}: {text}" for column, text in pairs]
        if self.thresholds:
            lowest, highest = min(self.thresholds), max(self.thresholds)
            texts.append(f"thresholds from {lowest:.3g} to {highest:.3g}")
        return "; ".join(texts)


class OfGroups(Config, Generic[T]):
    """Values for the two groups of validation videos, and for all other data.

    Attributes:
        groups: Names of the videos of each group.
        applied: What each group has, fitted on the other.
        final: Fitted on both.
    """

    groups: tuple[tuple[str, ...], tuple[str, ...]]
    applied: tuple[T, T]
    final: T

    def of(self, video: str) -> T:
        """What a validation video has; that of other data if it is none."""
        for videos, values in zip(self.groups, self.applied, strict=True):
            if video in videos:
                return values
        return self.final


class CrossFitted(OfGroups[Postprocess]):
    """Post-processing of the two groups of validation videos, and of all other data."""


def postprocess(
    task: Task, values: Postprocess, predictions: NDArray[np.floating], seen: int
) -> NDArray[np.float32]:
    """Predictions `(frames, outputs)` of one video, whose last crop is that of frame `seen`.

    Frames after it do not count, so that the result is the same however many are asked for.
    """
    series = _Series([predictions[:seen]])
    frames = np.arange(len(predictions))
    found = [series.at(np.zeros_like(frames), frames, each) for each in values.filters]
    joined = found[0]
    if len(found) > 1:
        joined = np.stack([each[:, column] for column, each in enumerate(found)], axis=1)
    if values.thresholds:
        return move_thresholds(joined, values.thresholds)
    return joined.clip(-1, 1) if task is Task.VA else joined


def postprocess_videos(
    task: Task, fitted: CrossFitted, predictions: NDArray[np.floating], timelines: Timelines
) -> NDArray[np.float32]:
    """Predictions `(frames, outputs)` of videos, each with the values that it has."""
    pieces = zip(timelines.videos, timelines.split(predictions), timelines.seen, strict=True)
    return np.concatenate(
        [postprocess(task, fitted.of(name), own, int(seen)) for name, own, seen in pieces]
    )


def move_thresholds(
    probabilities: NDArray[np.float32], thresholds: Sequence[float]
) -> NDArray[np.float32]:
    """Probabilities `(frames, units)` bent so that each unit's threshold comes to be 0.5.

    Linear from 0 to the threshold and from there to 1. Thresholds are float32 numbers between 0
    and 1: then no value changes its side by rounding.
    """
    x, threshold = probabilities.astype(np.float64), np.asarray(thresholds)
    half = ACTION_UNIT_THRESHOLD
    above = half + (1 - half) * (x - threshold) / (1 - threshold)
    return np.asarray(np.where(x < threshold, half * x / threshold, above), np.float32)


def group_videos(task: Task, timelines: Timelines) -> NDArray[np.int64]:
    """The group of each video for `cross_fit`, 0 or 1 `(videos,)`.

    Raises:
        SettingsError: There are too few videos, as folds.two_groups says.
    """
    labels = timelines.labels[task]
    values, valid = timelines.split(labels.values), timelines.split(labels.valid)
    return two_groups(task, timelines.videos, values, valid)


def cross_fit(
    task: Task,
    predictions: NDArray[np.floating],
    timelines: Timelines,
    groups: NDArray[np.integer],
) -> CrossFitted:
    """The best values on each of two groups of videos, and on both.

    Of equally good filters the one with the least width, then the least delay is taken, and of
    thresholds the nearest to 0.5.

    Args:
        predictions: `(frames, outputs)`.
        groups: 0 or 1, `(videos,)`; both have valid frames.
    """
    labels = timelines.labels[task]
    parts = []
    group_of_frame = np.repeat(groups, timelines.lengths)
    every = max(1, -(-int(labels.valid.sum()) // MOST_FITTED))
    for group in (0, 1):
        parts.append(np.flatnonzero(labels.valid & (group_of_frame == group))[::every])
    video = np.repeat(np.arange(len(groups)), timelines.lengths)
    place = np.arange(timelines.frames) - timelines.offsets[video]
    pieces = zip(timelines.split(predictions), timelines.seen, strict=True)
    series = _Series([values[:seen] for values, seen in pieces], every)
    filters = _grid(task)
    scores, thresholds = [], []
    for each in filters:
        found = [series.at(video[part], place[part], each) for part in parts]
        true = [labels.values[part] for part in parts]
        score, best = _compare(task, found, true)
        scores.append(score)
        thresholds.append(best)
    chosen = np.stack(scores).argmax(axis=0)
    fits = [
        Postprocess(
            filters=tuple(filters[index] for index in chosen[fit]),
            thresholds=tuple(thresholds[chosen[fit, 0]][fit].tolist()),
        )
        for fit in range(len(_FITS))
    ]
    names = [
        tuple(name for name, of in zip(timelines.videos, groups, strict=True) if of == group)
        for group in (0, 1)
    ]
    return CrossFitted(groups=(names[0], names[1]), applied=(fits[1], fits[0]), final=fits[2])


def _grid(task: Task) -> list[Filter]:
    """The filters to compare, the simplest first."""
    means = [Filter(half_width=w, shift=s) for w in HALF_WIDTHS[task] for s in SHIFTS]
    if task is not Task.EXPR:
        return means
    medians = [Filter(kind="median", half_width=MEDIAN_HALF_WIDTH, shift=s) for s in SHIFTS]
    return means + medians


def _compare(
    task: Task, predictions: list[NDArray[np.float32]], labels: list[NDArray[np.float32]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scores `(fits, filters of a Postprocess)` and thresholds `(fits, units)` of a filter.

    Arguments are of the two groups. A score is that of the fit's own videos.
    """
    if task is Task.AU:
        return _best_thresholds(predictions, labels)
    pairs = zip(predictions, labels, strict=True)
    sums = np.stack([video_sums(task, own, true) for own, true in pairs])
    columns = [slice(i, i + 1) for i in range(SPECS[task].outputs)]
    if task is Task.EXPR:
        columns = [slice(None)]
    scores = [score_sums(task, _FITS, sums[:, :, column]) for column in columns]
    return np.stack(scores, axis=1), np.empty((len(_FITS), 0))


def _best_thresholds(
    probabilities: list[NDArray[np.float32]], labels: list[NDArray[np.float32]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    units = SPECS[Task.AU].outputs
    shape = (units, 2, _LEVELS)
    counts = []
    for own, true in zip(probabilities, labels, strict=True):
        level = np.maximum(own, _LOWEST).view(np.uint32) >> _DROPPED_BITS
        bins = 2 * np.arange(units) + (true == 1)
        index = bins * _LEVELS + (level - _FIRST_LEVEL)
        counts.append(np.bincount(index.ravel(), minlength=np.prod(shape)).reshape(shape))
    of_fits = np.tensordot(_FITS, np.stack(counts), axes=1)
    # Frames at each level and above: those that are active if the threshold is the level's.
    active = of_fits[..., ::-1].cumsum(axis=-1)[..., ::-1]
    hits, predicted = active[:, :, 1], active.sum(axis=2)
    # Not the lowest, to which the values below it were counted, nor 1 itself.
    levels = np.arange(1, _LEVELS - 1)
    edges = ((levels + _FIRST_LEVEL) << _DROPPED_BITS).astype(np.uint32).view(np.float32)
    nearest = np.argsort(np.abs(edges - ACTION_UNIT_THRESHOLD), kind="stable")
    found = f1(hits, predicted, active[:, :, 1, :1])[..., levels[nearest]]
    best = found.argmax(axis=-1)
    scores = np.take_along_axis(found, best[..., None], axis=-1).mean(axis=(1, 2))
    return scores[:, None], edges[nearest][best].astype(np.float64)


class _Series:
    """Predictions of videos, up to the last crop of each, to be filtered at some frames.

    Medians are slow: they are taken of every `every`-th frame.
    """

    def __init__(self, videos: Sequence[NDArray[np.floating]], every: int = 1) -> None:
        self._videos = videos
        self._every = every
        self._known_medians: dict[int, NDArray[np.float32]] = {}
        self._lengths = np.array([len(values) for values in videos])
        self._first = np.concatenate([[0], self._lengths.cumsum()[:-1]])

    @cached_property
    def _values(self) -> NDArray[np.float32]:
        return np.concatenate(self._videos, dtype=np.float32)

    @cached_property
    def _sums(self) -> NDArray[np.float64]:
        """Of the frames before each one, by video: a video's has one row more than frames.

        Not over all videos, so that a video's means do not depend on which others there are.
        """
        nothing = np.zeros((1, self._videos[0].shape[1]))
        sums = [values.cumsum(axis=0, dtype=np.float64) for values in self._videos]
        return np.concatenate([part for each in sums for part in (nothing, each)])

    def _medians(self, half_width: int) -> NDArray[np.float32]:
        if half_width not in self._known_medians:
            width, every = round(half_width / self._every), self._every
            medians = [
                _median(values[::every], width).repeat(every, axis=0)[: len(values)]
                for values in self._videos
            ]
            self._known_medians[half_width] = np.concatenate(medians)
        return self._known_medians[half_width]

    def at(
        self, video: NDArray[np.integer], frame: NDArray[np.integer], by: Filter
    ) -> NDArray[np.float32]:
        """Filtered predictions `(n, outputs)` of frames (from 0) of videos, both `(n,)`."""
        first, length = self._first[video], self._lengths[video]
        place = (frame - by.shift).clip(0, length - 1)
        if by.kind == "median":
            return np.asarray(self._medians(by.half_width)[first + place])
        if by.half_width == 0:
            return np.asarray(self._values[first + place])
        low = (place - by.half_width).clip(0)
        high = np.minimum(place + by.half_width + 1, length)
        row = first + video
        total = self._sums[row + high] - self._sums[row + low]
        return np.asarray(total / (high - low)[:, None], np.float32)


def _median(probabilities: NDArray[np.floating], half_width: int) -> NDArray[np.float32]:
    """Probabilities `(frames, classes)` of the medians over time of their logarithms."""
    from scipy.ndimage import median_filter
    from scipy.special import softmax

    logs = np.log(np.maximum(probabilities, _NO_LOG_BELOW).astype(np.float32))
    # Column by column: SciPy's filter of one dimension is seventeen times as fast.
    columns = [median_filter(column, 2 * half_width + 1) for column in logs.T]
    return np.asarray(softmax(np.stack(columns, axis=1), axis=1))
