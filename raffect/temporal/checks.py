"""What can be said of settings and labels before anything is trained, without PyTorch."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray

from raffect.affwild2.tasks import SPECS, Task
from raffect.config import LossConfig, TemporalConfig
from raffect.errors import SettingsError
from raffect.temporal.timelines import FrameLabels, trainable
from raffect.training.balance import describe_absent


def check_model(config: TemporalConfig) -> None:
    """Refuse settings that are fine alone and wrong together.

    Raises:
        SettingsError: All such combinations, listed at once.
    """
    model, segments = config.model, config.segments
    wrong = []
    if model.transformer.layers and model.width % model.transformer.heads:
        wrong.append(
            f"  model.transformer.heads = {model.transformer.heads} does not divide "
            f"model.width = {model.width}"
        )
    if segments.stride > segments.window:
        wrong.append(
            f"  segments.stride = {segments.stride} is larger than segments.window = "
            f"{segments.window}: frames in between would be left out"
        )
    if (segments.predict_stride or 1) > segments.window:
        wrong.append(
            f"  segments.predict_stride = {segments.predict_stride} is larger than "
            f"segments.window = {segments.window}: frames in between would have no prediction"
        )
    if model.head == "batchnorm" and config.optimiser.accumulation > 1:
        wrong.append(
            f"  model.head = batchnorm takes statistics of whole batches, and "
            f"optimiser.accumulation = {config.optimiser.accumulation} passes them in parts"
        )
    if getattr(config.losses.auxiliary, config.task.value) > 0:
        wrong.append(
            f"  losses.auxiliary.{config.task.value} is the main task's own; its weight is 1"
        )
    if wrong:
        raise SettingsError(
            "These settings do not go together:\n" + "\n".join(wrong),
            "heads that divide the width, strides up to the window, whole batches for batch norm,"
            " other tasks as auxiliary",
            "Correct the `--set` options, the file or the search space.",
        )


def auxiliary_weights(config: TemporalConfig) -> dict[Task, float]:
    """Weights of the auxiliary tasks that are in use (ABAW's VA track demands none)."""
    weights = {task: float(getattr(config.losses.auxiliary, task.value)) for task in Task}
    return {task: weight for task, weight in weights.items() if weight > 0}


def model_tasks(config: TemporalConfig) -> tuple[Task, ...]:
    """Tasks that the model has a head for, the main one first."""
    return (config.task, *auxiliary_weights(config))


_LOSS_SETTINGS = {
    Task.VA: ("valence_share", "mse_share"),
    Task.EXPR: ("class_weight_power", "label_smoothing", "focal_gamma"),
    Task.AU: ("positive_weight_power",),
}


def describe_idle(
    config: TemporalConfig, tasks: Collection[Task], searched: Collection[str] = ()
) -> list[str]:
    """Settings of losses that a model trained on these tasks does not have, for people.

    They are told where they are `searched` (dotted keys) or not at their default.
    """
    losses, default = config.losses, LossConfig()
    found = []
    for task in sorted(set(Task) - set(tasks)):
        names = [
            f"losses.{name}"
            for name in _LOSS_SETTINGS[task]
            if f"losses.{name}" in searched or getattr(losses, name) != getattr(default, name)
        ]
        if names:
            found.append(
                f"{', '.join(names)}: nothing depends on it here, as no loss of {task} is used."
            )
    return found


def count_classes(labels: FrameLabels) -> NDArray[np.int64]:
    """Valid frames per expression, `(8,)`."""
    classes = labels.values[labels.valid, 0].astype(np.int64)
    return np.bincount(classes, minlength=SPECS[Task.EXPR].outputs)


def count_units(labels: FrameLabels) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Per AU `(12,)`, frames in which it is active, and in which it is known."""
    known = trainable(Task.AU, labels.values, labels.valid)
    return ((labels.values == 1) & known).sum(axis=0), known.sum(axis=0)


def describe_gaps(labels: Mapping[Task, FrameLabels]) -> list[str]:
    """Expressions and AUs of which the training labels have nothing to learn, for people."""
    found = describe_absent(count_classes(labels[Task.EXPR])) if Task.EXPR in labels else []
    if Task.AU not in labels:
        return found
    positives, known = count_units(labels[Task.AU])
    gaps = {
        "has a label of {}: it is not trained.": known == 0,
        "has {} active: the model learns that it never is.": (known > 0) & (positives == 0),
        "has {} inactive: the model learns that it always is.": (known > 0) & (positives == known),
    }
    for what, where in gaps.items():
        if where.any():
            units = [SPECS[Task.AU].columns[unit] for unit in np.flatnonzero(where)]
            found.append(f"No training frame {what.format(', '.join(units))}")
    return found
