"""How many trials the cluster holds, now: nodes come and go while a sweep runs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import ray

from raffect.engine import cpus_per_worker
from raffect.sweep.settings import SweepSettings

ASK_EVERY_S = 2.0
Room = Callable[[], int]


def resources() -> tuple[float, float]:
    """CPUs and GPUs of the nodes that are there."""
    found = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return found.get("CPU", 0.0), found.get("GPU", 0.0)


def fitting(settings: SweepSettings, cpus: float, gpus: float, per_trial: float) -> int:
    """How many trials fit at a time.

    Args:
        settings: The sweep's settings.
        cpus: Cores.
        gpus: GPUs.
        per_trial: GPUs of a trial in one process.
    """
    if settings.workers_per_trial > 1:
        workers = settings.workers_per_trial
        fitting = math.floor((cpus - 0.1) / (workers * cpus_per_worker(workers, cpus)))
        if gpus >= workers:
            fitting = min(fitting, math.floor(gpus / workers))
        return max(0, fitting)
    by_gpu = math.floor(gpus / per_trial + 1e-9) if per_trial else math.floor(cpus)
    return min(by_gpu, math.floor(cpus))


class GrowingRoom:
    """As many trials as the nodes hold that are there, at least one, asked now and then.

    One trial is always asked for, so that a cluster that begins without nodes for it sees what it
    has to start. For more than one at a time on a cluster that grows, the user gives
    `--concurrent`: all of these are asked for at once.
    """

    def __init__(self, settings: SweepSettings, per_trial: float, first: int) -> None:
        self._settings = settings
        self._per_trial = per_trial
        self._room = first
        self._asked = time.monotonic()

    def __call__(self) -> int:
        """The number now."""
        if time.monotonic() - self._asked > ASK_EVERY_S:
            self._room = max(1, fitting(self._settings, *resources(), self._per_trial))
            self._asked = time.monotonic()
        return self._room
