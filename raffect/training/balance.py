"""Classes that are rare or absent among training labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from raffect.affwild2.tasks import SPECS, Task


def class_weights(
    counts: NDArray[np.integer], power: float, over_frames: bool
) -> NDArray[np.float64]:
    """Weights `count ** -power` per class: power 0 is none, 1 the inverse class frequency.

    `counts` `(classes,)` are training frames; a class without any weighs 0, and no label is
    smoothed towards it: else the optimum would put most on the class of which nothing is known.
    The mean over the classes that are there is 1, or over frames, for a loss that is the plain
    mean of weighted terms: its size then does not depend on the power.
    """
    present = np.asarray(counts) > 0
    weights = np.where(present, np.maximum(np.asarray(counts, np.float64), 1.0) ** -power, 0.0)
    total = (weights * counts).sum() if over_frames else weights.sum()
    number = counts.sum() if over_frames else present.sum()
    return np.asarray(weights * number / (total or 1.0))


def describe_absent(counts: NDArray[np.integer]) -> list[str]:
    """Which expressions have no training frame, for people; nothing where all have some."""
    names = SPECS[Task.EXPR].columns
    absent = [name for name, count in zip(names, counts, strict=True) if not count]
    if not absent:
        return []
    return [
        f"No training frame is labelled {', '.join(absent)}: the loss leaves it out, and the model"
        " will not learn it."
    ]
