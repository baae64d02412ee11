"""Expressions. Class sizes differ by a factor of 20, and the score weights all eight equally.

Trial 0 is the recipe: plain cross entropy.
"""

from __future__ import annotations

from typing import Any

from optuna import Trial

from tune_spaces.common import BATCHNORM, SHALLOW, architecture, optimisation

TRIALS = 60
"""About four times the parameters."""

POINTS = [SHALLOW, BATCHNORM | {"losses.class_weight_power": 0.5}]
"""Tried after the recipe: fewer layers; then batch norm and half the class weights of others."""


def space(trial: Trial) -> dict[str, Any]:
    """Architecture, optimiser, and how the loss treats rare and hard classes."""
    return {
        **architecture(trial),
        **optimisation(trial),
        # 0: unweighted; 1: inverse frequency, about the max/count that others report gains with.
        "losses.class_weight_power": trial.suggest_float("losses.class_weight_power", 0.0, 1.0),
        # Annotators confuse classes such as Neutral and Other; 0.1 is usual, 0.2 an upper end.
        "losses.label_smoothing": trial.suggest_float("losses.label_smoothing", 0.0, 0.2),
        # The focal loss paper (Lin et al., 2017) uses 2 and finds 5 too much.
        "losses.focal_gamma": trial.suggest_float("losses.focal_gamma", 0.0, 3.0),
    }
