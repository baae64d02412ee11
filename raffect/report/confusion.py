"""What was predicted for what: counts of frames, by task."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from raffect.affwild2.tasks import ACTION_UNIT_THRESHOLD, SPECS, Task
from raffect.report.tables import Table, table

BINS = 20
"""Of [-1, 1]: valence and arousal in steps of 0.1, about what annotators tell apart."""


def confusion_of(task: Task, predictions: NDArray[Any], labels: NDArray[Any]) -> Table:
    """Counts of frames by what is true and what is predicted.

    EXPR: all pairs of expressions, with the share of the frames of the true one. AU: true and
    false positives and negatives of each unit. VA: pairs of bins of both, with the share of the
    frames in the true one's bin; a bin is named by its middle.

    Args:
        task: The task.
        predictions: `(frames, outputs)`.
        labels: `(frames, label_width)`, valid frames only.
    """
    return _OF[task](predictions, labels)


def _expressions(predictions: NDArray[Any], labels: NDArray[Any]) -> Table:
    names = SPECS[Task.EXPR].columns
    counts = _pairs(labels[:, 0].astype(np.int64), predictions.argmax(axis=1), len(names))
    rows = [
        (true, predicted, int(counts[i, j]), _share(counts, i, j))
        for i, true in enumerate(names)
        for j, predicted in enumerate(names)
    ]
    return table("confusion", ("true", "predicted", "frames", "share_of_true"), rows)


def _action_units(predictions: NDArray[Any], labels: NDArray[Any]) -> Table:
    active, true = predictions >= ACTION_UNIT_THRESHOLD, labels == 1
    outcomes = (active & true, ~active & true, active & ~true, ~active & ~true)
    counts = np.stack([found.sum(axis=0) for found in outcomes], axis=1)
    columns = ("unit", "true_positives", "false_negatives", "false_positives", "true_negatives")
    rows = zip(SPECS[Task.AU].columns, counts.tolist(), strict=True)
    return table("confusion", columns, [(name, *own) for name, own in rows])


def _valence_arousal(predictions: NDArray[Any], labels: NDArray[Any]) -> Table:
    rows = []
    middles = [round((2 * i + 1) / BINS - 1, 3) for i in range(BINS)]
    for column, name in enumerate(SPECS[Task.VA].columns):
        counts = _pairs(_bin(labels[:, column]), _bin(predictions[:, column]), BINS)
        rows += [
            (name, middles[i], middles[j], int(counts[i, j]), _share(counts, i, j))
            for i in range(BINS)
            for j in range(BINS)
            if counts[i].any()
        ]
    return table("confusion", ("part", "true", "predicted", "frames", "share_of_true"), rows)


def _bin(values: NDArray[Any]) -> NDArray[np.int64]:
    index = np.floor((values.astype(np.float64) + 1) * BINS / 2).astype(np.int64)
    return index.clip(0, BINS - 1)


def _pairs(true: NDArray[Any], predicted: NDArray[Any], kinds: int) -> NDArray[np.int64]:
    """`counts[true, predicted]`."""
    flat = np.bincount(true * kinds + predicted, minlength=kinds * kinds)
    return flat.reshape(kinds, kinds)


def _share(counts: NDArray[np.int64], i: int, j: int) -> float | None:
    total = int(counts[i].sum())
    return round(int(counts[i, j]) / total, 6) if total else None


_OF = {Task.VA: _valence_arousal, Task.EXPR: _expressions, Task.AU: _action_units}
