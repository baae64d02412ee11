"""The space of the old store's sweeps: its code is part of what their names are bound to."""

from __future__ import annotations

from typing import Any

from optuna import Trial


def space(trial: Trial) -> dict[str, Any]:
    """A few settings of each kind: of the architecture, the optimiser and the loss."""
    return {
        "model.tcn.depth": trial.suggest_int("model.tcn.depth", 1, 2),
        "optimiser.lr": trial.suggest_float("optimiser.lr", 1e-4, 3e-2, log=True),
        "losses.mse_share": trial.suggest_float("losses.mse_share", 0.0, 0.5),
    }
