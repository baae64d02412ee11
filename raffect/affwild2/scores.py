"""The challenge's scores, in float64, over the valid frames of all videos together.

Source: the ABAW challenges' white papers (Kollias et al.). Population variance and covariance;
macro F1 over all 8 expressions, absent ones count 0; F1 of the positive class over 12 AUs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from raffect.affwild2.tasks import ACTION_UNIT_THRESHOLD, SPECS, Task

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Score:
    """The challenge's score of a task, with the parts that it is the mean of.

    Parts: valence and arousal, F1 per expression, or F1 per action unit.
    """

    value: float
    parts: dict[str, float]


def score(task: Task, predictions: NDArray[Any], labels: NDArray[Any]) -> Score:
    """The challenge's score of predictions for valid frames.

    Args:
        predictions: `(frames, outputs)`; VA: values, EXPR: probabilities or logits (the largest
            counts), AU: probabilities.
        labels: `(frames, label_width)`, valid frames only.

    Raises:
        ValueError: No frames, shapes that do not match, or predictions that are not finite.
    """
    spec = SPECS[task]
    predictions = np.asarray(predictions, dtype=np.float64)
    labels = np.asarray(labels)
    expected = (len(labels), spec.outputs), (len(labels), spec.label_width)
    if not len(labels) or (predictions.shape, labels.shape) != expected:
        raise ValueError(f"{task}: predictions {predictions.shape}, labels {labels.shape}")
    if not np.isfinite(predictions).all():
        raise ValueError(f"{task}: predictions are not finite")
    if task is Task.VA:
        pairs = zip(predictions.T, labels.T, strict=True)
        values = np.array([concordance_correlation_coefficient(a, b) for a, b in pairs])
    elif task is Task.EXPR:
        values = class_f1(predictions.argmax(axis=1), labels[:, 0], spec.outputs)
    else:
        values = binary_f1(predictions, labels)
    parts = {name: float(value) for name, value in zip(spec.columns, values, strict=True)}
    return Score(float(np.mean(values)), parts)


def concordance_correlation_coefficient(a: ArrayLike, b: ArrayLike) -> float:
    """Lin's concordance correlation coefficient of two series, with population moments.

    0 if either series is constant, also if both are and are equal (0 / 0): a constant prediction
    must not win on a constant test set.
    """
    a = np.asarray(a, dtype=np.float64)
    b = np.asarray(b, dtype=np.float64)
    if np.ptp(a) == 0.0 or np.ptp(b) == 0.0:
        return 0.0
    from_a, from_b = a - a.mean(), b - b.mean()
    covariance = np.mean(from_a * from_b)
    apart = (a.mean() - b.mean()) ** 2
    spread = np.mean(from_a**2) + np.mean(from_b**2) + apart
    # Deviations below 1e-162 square to 0: such a series is treated as constant.
    return float(2 * covariance / spread) if spread else 0.0


def class_f1(predicted: NDArray[Any], true: NDArray[Any], classes: int) -> Floats:
    """F1 per class of class indices `(frames,)`; 0 for a class on neither side."""
    index = true.astype(np.int64) * classes + predicted.astype(np.int64)
    confusion = np.bincount(index, minlength=classes * classes).reshape(classes, classes)
    return f1(confusion.diagonal(), confusion.sum(axis=0), confusion.sum(axis=1))


def f1(hits: NDArray[Any], predicted: NDArray[Any], true: NDArray[Any]) -> Floats:
    """2 hits / (predicted + true), 0 where both counts are 0; any shape."""
    total = np.asarray(predicted + true, dtype=np.float64)
    return np.asarray(2.0 * hits / np.where(total > 0, total, 1.0), dtype=np.float64)


def binary_f1(probabilities: NDArray[Any], true: NDArray[Any]) -> Floats:
    """F1 of the positive class per column of `(frames, columns)`; active from 0.5 on."""
    active = np.asarray(probabilities) >= ACTION_UNIT_THRESHOLD
    positive = np.asarray(true) == 1
    return f1((active & positive).sum(axis=0), active.sum(axis=0), positive.sum(axis=0))
