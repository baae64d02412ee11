"""Timelines: per video and frame, which feature row is used there and what the labels are.

A frame without a crop uses the row of the nearest earlier crop, or of the next one at the start
of a video, in training and in prediction alike, and is marked absent so that the model can tell.
What the model sees ends with the last crop: annotations usually have a line more, which nothing
shows. Those frames are not trained on, and have the last crop's prediction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raffect.affwild2.labels import VideoLabels
from raffect.affwild2.tasks import SPECS, Task

NO_ROW = -1
"""Row of the frames of a video without a single crop; the feature is then all zeros."""


@dataclass(frozen=True)
class FrameLabels:
    """Labels of one task for every frame of some timelines.

    Attributes:
        values: `(frames, label_width)` float32; invalid ones keep the dataset's mark.
        valid: `(frames,)` bool, which frames are scored.
    """

    values: NDArray[np.float32]
    valid: NDArray[np.bool_]


@dataclass(frozen=True)
class Timelines:
    """Videos one after the other; frame f (1-based) of video i is entry offsets[i] + f - 1.

    A timeline is as long as the annotation or the last crop, whichever is later: every annotated
    line has an entry, and crops past the annotation still give context.

    Attributes:
        videos: Names, `(videos,)`.
        offsets: First entry of each video, and the end, `(videos + 1,)` int64.
        row: Feature row used at each frame, `(frames,)` int64; NO_ROW: none in the whole video.
        present: Whether the frame has a crop of its own, `(frames,)` bool; of several sets of
            features, which of them have a row of their own there, `(frames, sets)`.
        labels: Labels per task.
        seen: Frames up to the last crop, per video, `(videos,)` int64; all of them in a video
            without a single crop.
    """

    videos: tuple[str, ...]
    offsets: NDArray[np.int64]
    row: NDArray[np.int64]
    present: NDArray[np.bool_]
    labels: dict[Task, FrameLabels]
    seen: NDArray[np.int64]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Frames per video."""
        return np.diff(self.offsets)

    @property
    def frames(self) -> int:
        """Frames of all videos together."""
        return int(self.offsets[-1])

    def trained_labels(self) -> dict[Task, FrameLabels]:
        """The labels of the frames that segments reach, which are those up to the last crop."""
        place = np.arange(self.frames) - np.repeat(self.offsets[:-1], self.lengths)
        reached = place < np.repeat(self.seen, self.lengths)
        return {
            task: FrameLabels(of.values[reached], of.valid[reached])
            for task, of in self.labels.items()
        }

    def split(self, values: NDArray[Any]) -> list[NDArray[Any]]:
        """Per-frame values `(frames, ...)` as one view per video."""
        return np.split(values, self.offsets[1:-1]) if self.videos else []


def scored_videos(timelines: Timelines, task: Task) -> tuple[tuple[str, ...], list[slice]]:
    """The videos with a valid frame of the task, and where each one's frames are."""
    valid = timelines.split(timelines.labels[task].valid)
    bounds = zip(timelines.videos, timelines.offsets, timelines.offsets[1:], valid, strict=False)
    found = [(video, slice(int(a), int(b))) for video, a, b, of in bounds if of.any()]
    return tuple(video for video, _ in found), [span for _, span in found]


def trainable(
    task: Task, values: NDArray[np.float32], valid: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Which labels `(frames, label_width)` may be trained on.

    A frame's known AUs are used even where another is unknown (the score drops such frames).
    """
    if task is Task.AU:
        return np.asarray(values != SPECS[task].invalid)
    return np.repeat(valid[:, None], values.shape[1], axis=1)


def fill_rows(
    frames: NDArray[np.integer], rows: NDArray[np.integer], length: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Feature row used at each of `length` frames, and whether the frame has its own crop.

    `frames` `(crops,)` are the 1-based ones that have a crop, in any order; `rows` are theirs.
    """
    own = np.full(length, NO_ROW, dtype=np.int64)
    own[frames - 1] = rows
    present = own != NO_ROW
    if not present.any():
        return own, present
    earlier = np.maximum.accumulate(np.where(present, np.arange(length), -1))
    first = int(present.argmax())
    return own[np.where(earlier >= 0, earlier, first)], present


def build_timelines(
    videos: Sequence[str],
    crops: Mapping[str, tuple[NDArray[np.integer], NDArray[np.integer]]],
    labels: Mapping[Task, Mapping[str, VideoLabels]],
    min_length: int = 0,
    own: NDArray[np.bool_] | None = None,
) -> Timelines:
    """Timelines of the videos, in their order, of at least `min_length` frames each.

    `crops` has 1-based frames and feature rows per video with crops; frames of videos that have no
    labels of a task are invalid there. `own` `(rows, sets)` says which of several sets of features
    a row is of.
    """
    none = np.empty(0, dtype=np.int64)
    nowhere = np.empty((0, *(() if own is None else own.shape[1:])), dtype=bool)
    lengths, rows, present, seen = [], [], [], []
    for video in videos:
        frames, feature_rows = crops.get(video, (none, none))
        lines = [len(of[video].valid) for of in labels.values() if video in of]
        length = max([min_length, int(frames.max(initial=0)), *lines])
        row, here = fill_rows(frames, feature_rows, length)
        if own is not None:
            marks = np.zeros((length, own.shape[1]), dtype=bool)
            marks[here] = own[row[here]]
            here = marks
        lengths.append(length)
        rows.append(row)
        present.append(here)
        seen.append(int(frames.max(initial=0)) or length)
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)
    return Timelines(
        videos=tuple(videos),
        offsets=offsets,
        row=np.concatenate([none, *rows]),
        present=np.concatenate([nowhere, *present]),
        labels={task: _place(task, videos, offsets, labels[task]) for task in labels},
        seen=np.asarray(seen, dtype=np.int64),
    )


def _place(
    task: Task,
    videos: Sequence[str],
    offsets: NDArray[np.int64],
    labels: Mapping[str, VideoLabels],
) -> FrameLabels:
    spec = SPECS[task]
    frames = int(offsets[-1])
    values = np.full((frames, spec.label_width), spec.invalid, dtype=np.float32)
    valid = np.zeros(frames, dtype=bool)
    for video, start in zip(videos, offsets, strict=False):
        if video in labels:
            here = slice(start, start + len(labels[video].valid))
            values[here] = labels[video].values
            valid[here] = labels[video].valid
    return FrameLabels(values, valid)
