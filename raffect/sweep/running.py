"""Trials while they run: what is to be run, and what the study has of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from optuna.trial import Trial

from raffect.config import TemporalConfig
from raffect.sweep.attributes import EPOCH


@dataclass(frozen=True)
class Assignment:
    """A trial to run: its number, its settings, and the epochs that are already recorded.

    `features` are those that it reads in place of the sweep's; `is_new`: it was never run before.
    """

    number: int
    config: TemporalConfig
    recorded: int = 0
    features: str | list[str] | None = None
    is_new: bool = False


@dataclass
class Running:
    """What the study has of a running trial: to ask Optuna copies all its epochs, each time."""

    trial: Trial
    epochs: int
    best: float
    attributes: dict[str, Any]
    margins: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, trial: Trial) -> Running:
        """What the study has by now."""
        known = trial.user_attrs
        scores = [known[key]["score"] for key in known if key.startswith(EPOCH)]
        return cls(trial, len(scores), max(scores, default=float("-inf")), known)
