"""A space in which all trials cost alike: optimiser, loss and dropout, the architecture fixed."""

from __future__ import annotations

from typing import Any

from optuna import Trial

from tune_spaces.common import optimisation

TRIALS = 100


def space(trial: Trial) -> dict[str, Any]:
    """Everything of VA's space but the architecture."""
    dropouts = ("model.head_dropout", "model.tcn.dropout", "model.transformer.dropout")
    return {
        **{name: trial.suggest_float(name, 0.0, 0.5) for name in dropouts},
        **optimisation(trial),
        "losses.valence_share": trial.suggest_float("losses.valence_share", 0.3, 0.7),
        "losses.mse_share": trial.suggest_float("losses.mse_share", 0.0, 0.5),
    }
