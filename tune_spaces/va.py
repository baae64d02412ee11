"""Valence and arousal. Uni-task, as ABAW's VA track demands: no other task's labels are used.

Trial 0 is the recipe: TCN of 3 blocks, 8 Transformer layers, 1 - CCC of both, learning rate 3e-5.
"""

from __future__ import annotations

from typing import Any

from optuna import Trial

from tune_spaces.common import BATCHNORM, SHALLOW, architecture, optimisation

TRIALS = 60
"""About four times the parameters; ASHA ends two of three at an eighth of their epochs."""

POINTS = [SHALLOW, BATCHNORM | {"losses.mse_share": 0.2}]
"""Tried after the recipe: fewer layers; then batch norm, and single frames count a little."""


def space(trial: Trial) -> dict[str, Any]:
    """Architecture, optimiser, and the composition of the loss."""
    return {
        **architecture(trial),
        **optimisation(trial),
        # The score weights both equally; the loss may favour the harder one, within limits.
        "losses.valence_share": trial.suggest_float("losses.valence_share", 0.3, 0.7),
        # CCC ignores errors of single frames; above one half, MSE pulls predictions to the mean.
        "losses.mse_share": trial.suggest_float("losses.mse_share", 0.0, 0.5),
    }
