"""What a sweep is told besides the base configuration, and what of it a name is bound to."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field

from raffect.config import Config, Count, NonNegative


class SweepSettings(Config):
    """Settings of a sweep. None stands for the space's own figure or for what the cluster holds.

    Successive halving (Li et al., "A System for Massively Parallel Hyperparameter Tuning", 2020)
    compares trials at `min_epochs`, `min_epochs * reduction_factor`, and so on.
    """

    space: str | None = Field(None, description="module or file; none: tune_spaces.TASK")
    trials: int | None = Field(None, ge=1, description="rows of the study in all, failed ones too")
    max_epochs: int | None = Field(None, ge=1, description="a trial's full budget")
    concurrent: int | None = Field(None, ge=1)
    gpus_per_trial: NonNegative | None = Field(
        None, description="0.25: four trials share a GPU; none: one each where there are GPUs"
    )
    workers_per_trial: Count = 1
    sampler: Literal["tpe", "random"] = "tpe"
    seed: int = Field(0, ge=0, lt=2**31)
    pruning: Literal["asha", "none"] = "asha"
    min_epochs: int | None = Field(None, ge=1, description="epochs before the first comparison")
    reduction_factor: int = Field(3, ge=2, description="one of so many goes on at a comparison")
    checkpoint_seconds: NonNegative = Field(60.0, description="least time between checkpoints")
    max_failures: Count = Field(5, description="end when so many fail and none succeeds")

    def rungs(self, epochs: int) -> tuple[int, ...]:
        """Epochs after which trials are compared, for a budget of `epochs`."""
        if self.pruning == "none":
            return ()
        rung = self.first_rung(epochs)
        rungs = []
        while rung < epochs:
            rungs.append(rung)
            rung *= self.reduction_factor
        return tuple(rungs)

    def first_rung(self, epochs: int) -> int:
        """Epochs before the first comparison.

        A ninth of the budget is two factors of three below it; one epoch is too early, because
        the recipe warms up in it.
        """
        return self.min_epochs or max(2, math.ceil(epochs / 9))

    def binding(self) -> dict[str, Any]:
        """What may not change under the same name; the rest only says how much and how fast."""
        kept = ("sampler", "seed", "pruning", "min_epochs", "reduction_factor")
        return {name: value for name, value in self.canonical().items() if name in kept}
