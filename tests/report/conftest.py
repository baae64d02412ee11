"""One small real sweep of each task, for the tests that need a model or a whole report."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from filelock import FileLock

from raffect.affwild2.tasks import Task
from raffect.store import Store
from raffect.sweep.settings import SweepSettings
from raffect.sweep.tune import tune
from tests.sweep.tiny import base, fill

TRIALS = 10


@pytest.fixture(scope="session")
def swept(ray_local: None, worker_id: str, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with the finished sweeps va, expr and au, each process of tests its own copy."""
    own = tmp_path_factory.getbasetemp()
    shared = (own if worker_id == "master" else own.parent) / "swept"
    # The sweeps cost a minute of both cores.
    with FileLock(f"{shared}.lock"):
        if not shared.exists():
            search(fill(Store(f"{shared}.new")))
            Path(f"{shared}.new").rename(shared)
    return Store(str(shutil.copytree(shared, own / "swept-copy")))


def search(store: Store) -> None:
    settings = SweepSettings(trials=TRIALS, concurrent=1, min_epochs=1, trackers=())
    for task in Task:
        tune(store, task, "clip", task.value, settings, base(task))
