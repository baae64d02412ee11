"""Trials per hour beside what one would run otherwise, in one go on one machine.

    python -m tests.benchmarks.bench_rivals [--quick]

The same data, space, model, loss, epochs and slots for all; each docstring in rivals/ says what
the rival does, and how it was written to do well:

- plain: one Optuna process per slot over a DataLoader on per-video .npy files, 0 and 2 workers;
- inner: Ray Tune with an inner TorchTrainer per trial that reads parquet through Ray Data.

Rates are finished trials over the seconds of the call that searches (`tune`, `study.optimize`,
`Tuner.fit`): everything is imported, and Ray has started. Once more from the first trial's first
step on: that is what counts in a long sweep. Runs take turns, none beside another. Two sizes: the
demo's model, where an epoch computes for 0.4 s, and the smallest one of the space, without TCN
and Transformer, where what is around the computing shows.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import ray

from raffect import engine
from raffect.affwild2.tasks import Task
from raffect.store import Store
from raffect.sweep.progress import SweepProgress
from raffect.sweep.settings import SweepSettings
from raffect.sweep.tune import tune
from raffect.temporal.data import load_task_data
from tests.benchmarks import workload
from tests.benchmarks.measuring import timed
from tests.benchmarks.rivals.data import export

SLOTS = len(os.sched_getaffinity(0))
SPACE = "tests.benchmarks.narrow"
ONE_THREAD = {"OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Rate:
    """Trials per hour: of the whole call, and from the first step on."""

    call: float
    steady: float

    def over(self, other: Rate) -> str:
        return f"{self.steady / other.steady:.2f} (call {self.call / other.call:.2f})"


def ours(store: Store, trials: int, pruned: bool) -> Rate:
    """raffect's trials per hour."""
    pruning = "asha" if pruned else "none"
    settings = SweepSettings(trials=trials, space=SPACE, concurrent=SLOTS, pruning=pruning)
    epochs: list[float] = []

    def on_update(progress: SweepProgress) -> None:
        if progress.epoch:
            epochs.append(time.perf_counter())

    engine.connect(None)
    name = f"{workload.size()}-{pruning}"
    call = (store, Task.VA, workload.FEATURES, name, settings, workload.base())
    began = time.perf_counter()
    seconds, view = timed(tune, *call, on_update=on_update)
    ray.shutdown()
    lead = epochs[0] - began - min(row.curve[0].seconds for row in view.rows)
    return told("raffect", len(view.rows), sum(row.epochs for row in view.rows), seconds, lead)


def plain(folder: Path, trials: int, pruned: bool, workers: int) -> Rate:
    """Trials per hour of the plain loop, a process per slot; its first step comes at once."""
    options = ["--trials", str(trials), "--workers", str(workers), *_rung(pruned)]
    with tempfile.TemporaryDirectory() as place:
        one = _module("plain_optuna", folder, [*options, "--storage", f"{place}/journal"])
        running = [
            subprocess.Popen(one, stdout=subprocess.PIPE, text=True, env=_environment())
            for _ in range(SLOTS)
        ]
        found = [json.loads(process.communicate()[0].splitlines()[-1]) for process in running]
    seconds = max(each["ended"] for each in found) - min(each["began"] for each in found)
    trials = max(each["trials"] for each in found)
    epochs = sum(each["epochs"] for each in found)
    return told(f"plain, {workers} workers", trials, epochs, seconds)


def inner(folder: Path, trials: int, pruned: bool) -> Rate:
    """Trials per hour of the inner trainers; each trial has a start of its own."""
    options = ["--trials", str(trials), "--slots", str(SLOTS), *_rung(pruned)]
    done = subprocess.run(
        _module("tune_inner", folder, options),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
        env=_environment(),
    )
    found = json.loads(done.stdout.splitlines()[-1])
    seconds = found["ended"] - found["began"]
    return told("inner trainers", found["trials"], found["epochs"], seconds)


def told(name: str, trials: int, epochs: int, seconds: float, lead: float = 0.0) -> Rate:
    """A line, and the rates in it; `lead` are seconds before the first step."""
    rate = Rate(3600 * trials / seconds, 3600 * trials / (seconds - lead))
    figures = f"{trials:4d} {epochs:6d} {seconds:8.1f} {lead:6.1f}"
    print(f"  {name:17s} {figures} {rate.call:8,.0f} {rate.steady:8,.0f}", flush=True)
    return rate


def _rung(pruned: bool) -> list[str]:
    first = SweepSettings().rungs(workload.base().optimiser.epochs)[0]
    return ["--rung", str(first)] if pruned else []


def _module(name: str, folder: Path, options: list[str]) -> list[str]:
    return [sys.executable, "-m", f"tests.benchmarks.rivals.{name}", str(folder), *options]


def _environment() -> dict[str, str]:
    return {**os.environ, **ONE_THREAD}


def compare(store: Store, folder: Path, trials: int, few: int, pruned: bool) -> tuple[Rate, Rate]:
    """All of them with or without pruning; the rates of raffect and of the best plain loop."""
    print(f"{workload.size()} model, {'ASHA' if pruned else 'no pruning'}", flush=True)
    own = ours(store, trials, pruned)
    tries = [plain(folder, trials, pruned, workers) for workers in (0, 2)]
    best = max(tries, key=lambda rate: rate.steady)
    line = f"  raffect / plain {own.over(best)}"
    if pruned and importlib.util.find_spec("aiohttp_cors") is None:
        # ray.md, section 1: without the dashboard a trial that is stopped blocks the next.
        line += "; inner trainers can't be stopped without ray[default]"
    else:
        line += f"; raffect / inner {own.over(inner(folder, few, pruned))}"
    print(line, flush=True)
    return own, best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few trials, one size")
    chosen = parser.parse_args()
    sizes = {"demo": (4, 2)} if chosen.quick else {"demo": (20, 4), "bare": (60, 4)}
    print(f"{SLOTS} slots             trials epochs   call s  start  trials/h: call, steady")
    with tempfile.TemporaryDirectory() as local:
        folder = Path(local)
        store = workload.fill(Store(str(folder / "store")))
        data = load_task_data(store, workload.FEATURES, Task.VA)
        export(data, workload.base().segments, folder)
        for size, (trials, few) in sizes.items():
            os.environ[workload.SIZE_VARIABLE] = size
            _, today = compare(store, folder, trials, few, pruned=False)
            own, _ = compare(store, folder, trials, few, pruned=True)
            print(f"{size} model, raffect with ASHA / plain without pruning {own.over(today)}")


if __name__ == "__main__":
    main()
