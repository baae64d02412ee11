"""The score of a constant prediction: what a model has to beat."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from raffect.affwild2.labels import VideoLabels
from raffect.affwild2.scores import Score, score
from raffect.affwild2.tasks import SPECS, Split, Task


def trivial_prediction(task: Task, train: Mapping[str, VideoLabels]) -> NDArray[np.float64]:
    """The constant prediction `(outputs,)`, chosen on the training labels.

    VA: the mean label (scores 0); EXPR: the most frequent expression; AU: all active, the best
    constant whenever all AUs occur.
    """
    if task is Task.AU:
        return np.ones(SPECS[task].outputs)
    # Keeps the shape right when there is no video.
    none = np.empty((0, SPECS[task].label_width), np.float32)
    known = np.concatenate([none, *(of.values[of.valid] for of in train.values())])
    if task is Task.VA:
        return np.asarray(known.astype(np.float64).mean(axis=0)) if len(known) else np.zeros(2)
    counts = np.bincount(known[:, 0].astype(np.int64), minlength=SPECS[task].outputs)
    return np.asarray(np.eye(SPECS[task].outputs)[counts.argmax()])


def trivial_score(
    task: Task, train: Mapping[str, VideoLabels], validation: Mapping[str, VideoLabels]
) -> Score:
    """The score of the trivial predictions; both arguments may be all labels of the task."""
    row = trivial_prediction(task, of_split(train, Split.TRAIN))
    videos = of_split(validation, Split.VALIDATION).values()
    labels = np.concatenate([of.values[of.valid] for of in videos])
    return score(task, np.tile(row, (len(labels), 1)), labels)


def of_split(labels: Mapping[str, VideoLabels], split: Split) -> dict[str, VideoLabels]:
    """The videos of one split."""
    return {video: of for video, of in labels.items() if of.split is split}
