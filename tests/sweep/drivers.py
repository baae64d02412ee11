"""A driver's hold on a small study, without an engine."""

from __future__ import annotations

from typing import Any

from raffect.config import TemporalConfig
from raffect.store import Store
from raffect.sweep.beginning import Beginning
from raffect.sweep.points import derive_recipe
from raffect.sweep.records import TrialRow, read_row
from raffect.sweep.settings import SweepSettings
from raffect.sweep.space import Space
from raffect.sweep.study import SweepStudy, open_study
from raffect.temporal.epochs import EpochResult


def draw(trial: Any) -> dict[str, Any]:
    return {
        "optimiser.lr": trial.suggest_float("optimiser.lr", 1e-4, 1e-2, log=True),
        "model.transformer.heads": trial.suggest_categorical("model.transformer.heads", [2, 4]),
    }


SPACE = Space("test", draw, "code", 1)


def open_driver(store: Store, trials: int, base: TemporalConfig, **settings: Any) -> SweepStudy:
    chosen = SweepSettings(trials=trials, **settings)
    study = SweepStudy(store, "s", SPACE, base, chosen)
    study.begin(Beginning([(derive_recipe(SPACE, base).params, {"recipe": True})]))
    return study


def rows(store: Store) -> list[TrialRow]:
    trials = open_study(store, "s").get_trials(deepcopy=False)
    return [read_row("s", trial) for trial in trials]


def epochs(*scores: float) -> list[EpochResult]:
    return [
        EpochResult(i + 1, loss=1 - s, score=s, parts={"valence": s}, seconds=0.5, lr=1e-3)
        for i, s in enumerate(scores)
    ]
