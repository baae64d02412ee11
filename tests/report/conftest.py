"""One small real sweep of each task, for the tests that need a model or a whole report."""

from __future__ import annotations

import pytest

from raffect.affwild2.tasks import Task
from raffect.store import Store
from raffect.sweep.run import tune
from raffect.sweep.settings import SweepSettings
from tests.sweep.tiny import base, fill

TRIALS = 10


@pytest.fixture(scope="session")
def swept(ray_local: None, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with the finished sweeps va, expr and au."""
    store = fill(Store(str(tmp_path_factory.mktemp("swept") / "store")))
    settings = SweepSettings(trials=TRIALS, concurrent=2, min_epochs=1, trackers=())
    for task in Task:
        tune(store, task, "clip", task.value, settings, base(task))
    return store
