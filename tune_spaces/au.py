"""Action units. Positive rates lie between 0.03 and 0.63, and the score is F1 at a fixed 0.5.

Trial 0 is the recipe: plain binary cross entropy.
"""

from __future__ import annotations

from typing import Any

from optuna import Trial

from tune_spaces.common import BATCHNORM, SHALLOW, architecture, optimisation

TRIALS = 60
"""About four times the parameters."""

POINTS = [SHALLOW, BATCHNORM | {"losses.positive_weight_power": 0.5}]
"""Tried after the recipe: fewer layers; then batch norm, half-way to balanced units."""


def space(trial: Trial) -> dict[str, Any]:
    """Architecture, optimiser, and the weight of rare action units."""
    return {
        **architecture(trial),
        **optimisation(trial),
        # 1 is negatives / positives: 39 for the rarest AU, where precision collapses.
        "losses.positive_weight_power": trial.suggest_float(
            "losses.positive_weight_power", 0.0, 1.0
        ),
    }
