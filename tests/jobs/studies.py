"""Sweeps as a driver leaves them in a store, trial by trial, without an engine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any

from raffect.affwild2.tasks import Task
from raffect.store import Stage, Store, sweep_folder
from raffect.store.lease import Lease
from raffect.sweep.attributes import RECIPE
from raffect.sweep.beginning import Beginning
from raffect.sweep.points import derive_recipe
from raffect.sweep.records import TrialFacts
from raffect.sweep.settings import SweepSettings
from raffect.sweep.study import SweepStudy
from tests.sweep import tiny
from tests.sweep.drivers import SPACE, epochs

HOLD = """
import sys, time
from raffect.store import Store
from raffect.store.lease import Lease
lease = Lease(Store(sys.argv[1]), sys.argv[2], renew_s=0.2)
lease.acquire()
print("held", flush=True)
time.sleep(600)
"""


class Sweep:
    """The sweep of a driver that is told what its trials give.

    Args:
        store: The store.
        name: The sweep.
        trials: Trials that are asked for.
        task: Its task.
    """

    def __init__(self, store: Store, name: str, trials: int = 8, task: Task = Task.VA) -> None:
        base = tiny.base(task)
        settings = SweepSettings(trials=trials, pruning="none")
        config = {
            "task": task.value,
            "features": "clip",
            "base": base.canonical(),
            "space": {"ranges": {}, "code": "code"},
            "sweep": settings.binding(),
        }
        self.store, self.name = store, name
        self.folder = sweep_folder(name)
        Stage(store, self.folder, "sweep", config, {})
        self.study = SweepStudy(store, name, SPACE, base, settings)
        first = derive_recipe(SPACE, base).params
        self.study.begin(Beginning([(first, {RECIPE: True})]))
        self.study.describe({"baseline": {"score": 0.05, "parts": {}}})

    def begin(self, *scores: float) -> int:
        """Begin a trial, and give its first epochs these scores."""
        assignment = self.study.next()
        assert assignment is not None
        if scores:
            self.study.report(assignment.number, epochs(*scores), TrialFacts(parameters=12_345))
        return assignment.number

    def complete(self, *scores: float) -> int:
        """Run a trial to its end."""
        number = self.begin()
        self.study.complete(number, epochs(*scores), TrialFacts(parameters=12_345))
        return number

    def fail(self, reason: str) -> int:
        """Run a trial that fails."""
        number = self.begin()
        self.study.fail(number, reason)
        return number

    def lease(self, job: str | None = None) -> Lease:
        """Take the sweep's lease."""
        if job is not None:
            os.environ["RAFFECT_JOB"] = job
        try:
            held = Lease(self.store, f"{self.folder}/lease")
            held.acquire()
        finally:
            os.environ.pop("RAFFECT_JOB", None)
        return held

    def leave_lease(self) -> None:
        """A command that held the sweep and was killed."""
        words = [sys.executable, "-c", HOLD, self.store.uri, f"{self.folder}/lease"]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            process.send_signal(signal.SIGKILL)


def progress(**changes: Any) -> Any:
    """An update of a sweep's driver: trial 0 began."""
    from raffect.sweep.progress import SweepProgress

    plain: dict[str, Any] = {
        "event": "started",
        "trial": 0,
        "epoch": 0,
        "epochs": 4,
        "score": None,
        "state": "RUNNING",
        "reason": None,
        "finished": 0,
        "target": 8,
        "best": None,
        "best_trial": None,
        "best_params": {},
        "states": {"RUNNING": 1},
        "seconds": 36.0,
        "rate": 0.0,
        "device_hours": 0.5,
    }
    return SweepProgress(**{**plain, **changes})
