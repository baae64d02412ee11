"""Whole sweeps of trials that take hundredths of a second."""

from __future__ import annotations

from typing import Any

from raffect.affwild2.tasks import Task
from raffect.context import Context
from raffect.store import Store
from raffect.sweep.leaderboard import SweepView
from raffect.sweep.settings import SweepSettings
from raffect.sweep.tune import tune
from tests.sweep import tiny

SPACE = """
def space(trial):
    lr = trial.suggest_float("optimiser.lr", 1e-4, 1e-2, log=True)
    return {"optimiser.lr": lr}
"""


def sweep(store: Store, space: str, trials: int, task: Task = Task.VA, **more: Any) -> SweepView:
    """The sweep `s` of a filled store, or that named `name`; other arguments are settings.

    One trial at a time unless it is said: a process of a trial costs seconds of both cores.
    """
    base = more.pop("base", tiny.base(task))
    name = more.pop("name", "s")
    on_update = more.pop("on_update", None)
    told = {"on_note": more.pop("on_note")} if "on_note" in more else {}
    settings = SweepSettings(**{"trials": trials, "concurrent": 1, "min_epochs": 1, **more})
    settings = settings.model_copy(update={"space": space})
    return tune(store, task, "clip", name, settings, base, on_update, Context(**told))
