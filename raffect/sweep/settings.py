"""What a sweep is told besides the base configuration, and what of it a name is bound to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count, takewhile
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from raffect.context import SHARD_ABOVE
from raffect.settings import Config, Count, NonNegative, Positive, added
from raffect.sweep.attributes import LATENCY, PARAMETERS
from raffect.sweep.failures import LIMIT

Objective = Literal["score", "latency", "parameters"]
Sampler = Literal["tpe", "gp", "cmaes", "random", "nsga2"]
Pruning = Literal["asha", "hyperband", "median", "none"]
TrackerName = Literal["tensorboard", "mlflow", "wandb"]
DIRECTIONS: dict[Objective, Literal["maximize", "minimize"]] = {
    "score": "maximize",
    "latency": "minimize",
    "parameters": "minimize",
}
"""What is better: score on validation, milliseconds per 1,000 frames, trained values."""

RETRAIN_SEEDS = 5
"""Seeds that `raffect retrain` trains a trial with, unless told otherwise."""


class SweepSettings(Config):
    """Settings of a sweep. None stands for the space's own figure or for what the cluster holds.

    Successive halving (Li et al., "A System for Massively Parallel Hyperparameter Tuning", 2020)
    compares trials at `min_epochs`, `min_epochs * reduction_factor`, and so on.
    """

    explained_by: ClassVar[str] = "raffect tune --help"
    options: ClassVar[Mapping[str, str]] = {"objectives": "--objective", "trackers": "--track"}

    space: str | None = Field(None, description="module or file; none: tune_spaces.TASK")
    trials: int | None = Field(None, ge=1, description="rows of the study in all, failed ones too")
    max_epochs: int | None = Field(None, ge=1, description="a trial's full budget")
    concurrent: int | None = Field(None, ge=1)
    gpus_per_trial: NonNegative | None = Field(
        None, description="0.25: four trials share a GPU; none: one each where there are GPUs"
    )
    workers_per_trial: Count = 1
    sampler: Sampler = "tpe"
    seed: int = Field(0, ge=0, lt=2**31)
    pruning: Pruning | None = Field(None, description="none given: asha, or none for a front")
    min_epochs: int | None = Field(None, ge=1, description="epochs before the first comparison")
    reduction_factor: int = Field(3, ge=2, description="one of so many goes on at a comparison")
    objectives: Annotated[tuple[Objective, ...], Field(min_length=1)] = ("score",)
    max_params: int | None = Field(None, ge=1, description="most trained values of a model")
    max_latency_ms: Positive | None = Field(None, description="most, per 1,000 frames")
    max_hours: Positive | None = Field(None, description="of all runs of the command together")
    max_device_hours: Positive | None = Field(None, description="GPU hours; slots without GPUs")
    warm_start: tuple[str, ...] = Field((), description="sweeps to begin with")
    trackers: tuple[TrackerName, ...] = ("tensorboard",)
    checkpoint_seconds: NonNegative = Field(60.0, description="least time between checkpoints")
    max_failures: int | None = Field(
        None, ge=1, description="of a run; none: 5 if there is no success among them"
    )
    keep_models: int | None = added(
        None, ge=1, description="best trials whose weights stay in the store; none: all"
    )
    shard_features: bool | None = added(
        None,
        description="each worker of a trial holds its share of the videos; none: by shard_above",
    )
    shard_above: NonNegative = added(
        SHARD_ABOVE,
        description="share of a node's object store; larger features are sharded",
    )
    require_same_code: bool = added(
        False, description="refuse to go on with other code than that of the trials before"
    )
    max_trial_minutes: Positive | None = added(
        None, description="a trial that takes longer is ended, and fails; none: any"
    )
    stuck_minutes: Positive | None = added(
        None,
        description="no epoch for so long, and a trial's process is ended; none: 10 times the"
        " median epoch, but 10 minutes (30 before a process's first epoch) at least",
    )

    @model_validator(mode="after")
    def _check_objectives(self) -> SweepSettings:
        several = len(self.objectives) > 1
        if self.objectives[0] != "score" or len(set(self.objectives)) < len(self.objectives):
            raise ValueError("objectives: score first, and each once, e.g. score,latency")
        if several and self.pruning not in (None, "none"):
            raise ValueError("pruning compares one objective; with several it must be none")
        if several and self.sampler == "cmaes":
            raise ValueError("cmaes knows one objective; allowed with several: tpe, gp, nsga2")
        return self

    @property
    def pruner(self) -> Pruning:
        """How trials are pruned; not at all when they are compared in several objectives."""
        return self.pruning or ("asha" if len(self.objectives) == 1 else "none")

    def rungs(self, epochs: int) -> tuple[int, ...]:
        """Epochs after which trials are compared, for a budget of `epochs`."""
        if self.pruner == "none":
            return ()
        first = self.first_rung(epochs)
        if self.pruner == "median":
            return tuple(range(first, epochs, first))
        growing = (first * self.reduction_factor**power for power in count())
        return tuple(takewhile(lambda rung: rung < epochs, growing))

    def first_rung(self, epochs: int) -> int:
        """Epochs before the first comparison.

        A ninth of the budget is two factors of three below it; one epoch is too early, because
        the recipe warms up in it.
        """
        return self.min_epochs or max(2, math.ceil(epochs / 9))

    def binding(self) -> dict[str, Any]:
        """What may not change under the same name; the rest only says how much and how fast."""
        kept = (
            "sampler", "seed", "min_epochs", "reduction_factor", "objectives", "max_params",
            "max_latency_ms",
        )  # fmt: skip
        bound = {name: value for name, value in self.identity().items() if name in kept}
        return {**bound, "pruning": self.pruner}


@dataclass(frozen=True)
class Limits:
    """Most trained values, and milliseconds per 1,000 frames on the trial's device; None: any."""

    parameters: int | None = None
    latency_ms: float | None = None

    @classmethod
    def of(cls, settings: SweepSettings) -> Limits:
        """The limits that a sweep's settings name."""
        return cls(settings.max_params, settings.max_latency_ms)

    def margins(self, parameters: int, latency_ms: float | None) -> dict[str, float]:
        """By how much each limit is missed, in its own unit; met is zero or less, as in Optuna."""
        found: dict[str, float] = {}
        if self.parameters is not None:
            found[PARAMETERS] = float(parameters - self.parameters)
        if self.latency_ms is not None and latency_ms is not None:
            found[LATENCY] = latency_ms - self.latency_ms
        return found

    def describe(self, parameters: int, latency_ms: float | None) -> str:
        """What is beyond its limit, for people; empty when nothing is."""
        found = []
        if self.parameters is not None and parameters > self.parameters:
            found.append(f"{parameters:,} parameters of at most {self.parameters:,}")
        if self.latency_ms is not None and latency_ms is not None and latency_ms > self.latency_ms:
            found.append(f"{latency_ms:.2f} ms per 1,000 frames of at most {self.latency_ms:g}")
        return f"{LIMIT}: {'; '.join(found)}" if found else ""
