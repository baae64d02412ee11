"""How many of a cluster's slots one driver keeps busy, with trials that sleep.

    python -m tests.benchmarks.bench_slots [--quick] [--slots 64] [--equal] [--profile]
    RAFFECT_BENCHMARK_STEP=5 python -m tests.benchmarks.bench_slots   # longer epochs

Four nodes of Ray on this machine that claim 16 CPUs each; raffect's own `tune` with a trial that
sleeps half a second to one and a half an epoch (RAFFECT_BENCHMARK_STEP is the mean) and imports no
PyTorch. The busy share is the time of the epochs over slots times wall time, from the moment all
slots have had an epoch until the last trial is asked for. Waits are what a slot stands still
between two epochs, and between two trials. With --equal all epochs are equally long: all slots
want something at the same moment, again and again, which no real space does.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import mean
from typing import Any

import ray
from ray.cluster_utils import Cluster

from raffect import engine
from raffect.affwild2.tasks import Task
from raffect.store import Store
from raffect.sweep import execution
from raffect.sweep import tune as run
from raffect.sweep.progress import SweepProgress
from raffect.sweep.settings import SweepSettings
from tests.benchmarks import workload
from tests.benchmarks.sleeping import (
    EQUAL_VARIABLE,
    SLOTS_VARIABLE,
    Home,
    SleepingTrial,
    step_seconds,
)

NODES = 4
EPOCHS = 20
TRIALS = {"none": 4, "asha": 8}
"""Trials per slot."""


class Watch:
    """When epochs ended and trials began, and the driver's own seconds of CPU then."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.epochs: list[tuple[float, float]] = []
        self.begun: list[float] = []
        self.full: tuple[float, float] | None = None
        self.last: tuple[float, float] = (0.0, 0.0)
        self._seen: set[int] = set()

    def __call__(self, progress: SweepProgress) -> None:
        now = time.monotonic()
        if progress.event == "started":
            self.begun.append(now)
            self.last = (now, time.process_time())
            return
        self.epochs.append((now, step_seconds(progress.trial)))
        self._seen.add(progress.trial)
        if self.full is None and len(self._seen) >= self.slots:
            self.full = (now, time.process_time())

    def describe(self) -> str:
        """The steady phase in a line."""
        assert self.full is not None
        seconds = self.last[0] - self.full[0]
        inside = [spent for moment, spent in self.epochs if self.full[0] < moment <= self.last[0]]
        trials = sum(self.full[0] < moment <= self.last[0] for moment in self.begun)
        busy = sum(inside) / seconds / self.slots
        cpu = (self.last[1] - self.full[1]) / seconds
        return (
            f"{seconds:6.1f} s steady: busy {busy:.3f}; {len(inside) / seconds:.1f} epochs/s, "
            f"{trials / seconds:.2f} trials/s, driver's CPU {cpu:.2f} of a core"
        )


def waits(rows: list[Any]) -> str:
    """What slots waited for the driver, and how many processes there were."""
    within = [epoch.parts["waited"] for row in rows for epoch in row.curve[1:]]
    between = [row.curve[0].parts["waited"] for row in rows]
    processes = {row.attributes["host"] for row in rows}
    return (
        f"waits: {1e3 * mean(within):.0f} ms between epochs, {1e3 * mean(between):.0f} ms between "
        f"trials; {len(processes)} processes"
    )


@contextmanager
def cluster(slots: int) -> Iterator[None]:
    """Nodes with as many CPUs as there are to be slots."""
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        for _ in range(NODES):
            nodes.add_node(num_cpus=slots // NODES, object_store_memory=100 * 2**20)
        engine.connect(nodes.address)
        yield
    finally:
        ray.shutdown()
        nodes.shutdown()


def sweep(store: Store, name: str, settings: SweepSettings, slots: int) -> None:
    """One sweep of sleeping trials, and its lines."""
    watch = Watch(slots)
    base = workload.base()
    began = time.monotonic()
    view = run.tune(store, Task.VA, workload.FEATURES, name, settings, base, on_update=watch)
    first = watch.epochs[0][0] - began
    full = watch.full[0] - began if watch.full else float("nan")
    print(
        f"{name}: {len(view.rows)} trials in {time.monotonic() - began:.0f} s; first epoch "
        f"after {first:.0f} s, all {slots} slots after {full:.0f} s"
    )
    print(f"  {watch.describe()}")
    print(f"  {waits(view.rows)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="8 slots, few trials")
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--pruning", choices=TRIALS)
    parser.add_argument(
        "--equal", action="store_true", help="epochs of all trials are equally long"
    )
    parser.add_argument("--profile", action="store_true", help="what the driver's time goes to")
    chosen = parser.parse_args()
    slots = 8 if chosen.quick else chosen.slots
    os.environ[SLOTS_VARIABLE] = str(slots)
    if chosen.equal:
        os.environ[EQUAL_VARIABLE] = "1"
    execution.SweepTrial, run.TrialHome = SleepingTrial, Home
    profile = cProfile.Profile() if chosen.profile else None
    with tempfile.TemporaryDirectory() as folder, cluster(slots):
        store = workload.fill(Store(folder))
        for pruning in [chosen.pruning] if chosen.pruning else list(TRIALS):
            settings = SweepSettings(
                trials=TRIALS[pruning] * slots, pruning=pruning, max_epochs=EPOCHS
            )
            if profile:
                profile.enable()
            sweep(store, pruning, settings, slots)
            if profile:
                profile.disable()
    if profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)


if __name__ == "__main__":
    main()
