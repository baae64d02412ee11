"""Action units, with auxiliary losses of valence, arousal and expressions.

For stores that have those labels for videos of this task's training split. Trial 0 is the recipe.
"""

from __future__ import annotations

from typing import Any

from optuna import Trial

from tune_spaces import au
from tune_spaces.common import auxiliary

TRIALS = 80
"""As for one task, and some for the two weights."""

POINTS = au.POINTS


def space(trial: Trial) -> dict[str, Any]:
    """The task's own space and the weights of the others' losses."""
    return {**au.space(trial), **auxiliary(trial, "va", "expr")}
