"""How much of the slots' time a sweep spends in its trials, and how long it takes to begin.

    python -m tests.benchmarks.bench_sweep [--quick] [--trials 100]

So many trials of the demo's size (features of the same shape), all of the same cost. Once without
pruning and once with the default: efficiency is the sum of the epochs' own seconds over wall time
times slots; overhead per trial is what is left of the slots' time. Before, the command itself is
timed from outside, by what appears in the store; also one of 40 trials, from its start to its
exit.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from typing import Any

from raffect import demo, engine
from raffect.affwild2.tasks import Task
from raffect.store import Store, sweep_folder
from raffect.store.layout import MANIFEST, PLAN
from raffect.sweep.leaderboard import load_sweep
from raffect.sweep.progress import SweepProgress
from raffect.sweep.settings import SweepSettings
from raffect.sweep.study import journal_of
from raffect.sweep.tune import tune
from tests.benchmarks import workload
from tests.benchmarks.measuring import timed

SLOTS = len(os.sched_getaffinity(0))
SPACE = "tests.benchmarks.narrow"


def command(store: Store, name: str, trials: int = SLOTS) -> list[str]:
    """The command that a user would give for a sweep of the demo's size."""
    sizes = {**demo.SMALL_TEMPORAL, "optimiser.epochs": demo.SMALL_EPOCHS[Task.VA]}
    changes = [f"--set={key}={json.dumps(value)}" for key, value in sizes.items()]
    head = [sys.executable, "-m", "raffect", "tune", "va", "--name", name, "--store", store.uri]
    return [*head, "--space", SPACE, "--trials", str(trials), *changes]


def start(store: Store, name: str) -> dict[str, float]:
    """Seconds from the command to each stage of its beginning.

    Read from the store, every 10 ms: the plan is written when imports and checks are done, the
    study opened when Ray runs, a trial asked for when the data is loaded and in Ray's memory.
    """
    seen: dict[str, float] = {}
    began = time.perf_counter()
    process = subprocess.Popen(
        command(store, name), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    while process.poll() is None:
        is_late = "first epoch" in seen
        finished = {"finished": store.exists(f"{sweep_folder(name)}/{MANIFEST}")}
        for stage, reached in (finished if is_late else _stages(store, name)).items():
            if reached:
                seen.setdefault(stage, time.perf_counter() - began)
        time.sleep(0.01)
    _, errors = process.communicate()
    if process.returncode:
        raise RuntimeError(errors)
    seen["all"] = time.perf_counter() - began
    seen["exit"] = seen["all"] - seen["finished"]
    curves = {row.number: row.curve for row in load_sweep(store, name).rows}
    seen["first step"] = seen["first epoch"] - min(curve[0].seconds for curve in curves.values())
    return seen


def _stages(store: Store, name: str) -> dict[str, bool]:
    entries = list(journal_of(store, name).read_logs(0))
    return {
        "planned": store.exists(f"{sweep_folder(name)}/{PLAN}"),
        "study": bool(entries),
        "asked": any("config_hash" in entry.get("user_attr", {}) for entry in entries),
        "first epoch": any("intermediate_value" in entry for entry in entries),
    }


def show_start(seen: dict[str, float], earlier: str) -> None:
    """One line: seconds of each stage, then the sum to the first step."""
    stages = [
        ("imports and plan", seen["planned"]),
        ("Ray and study", seen["study"] - seen["planned"]),
        ("data and engine", seen["asked"] - seen["study"]),
        ("trial's process", seen["first step"] - seen["asked"]),
    ]
    parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in stages)
    print(f"{earlier:6s} first step after {seen['first step']:.1f} s: {parts}", flush=True)
    print(
        f"       first epoch recorded {seen['first epoch']:.1f}, exit {seen['exit']:.1f} after the"
        f" manifest, in all {seen['all']:.1f}; load {os.getloadavg()[0]:.1f}"
    )


def show_command(store: Store, trials: int) -> None:
    """One line: the share of the slots' time that a command of so many trials computes."""
    name = f"command-{trials}"
    whole, done = timed(
        subprocess.run, command(store, name, trials), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    steps = sum(row.seconds for row in load_sweep(store, name).rows)
    print(f"{trials} trials by the command: {whole:.1f} s, efficiency {steps / whole / SLOTS:.3f}")


def sweep(store: Store, name: str, **settings: Any) -> None:
    """Run a sweep on a Ray that has started, and print its figures."""
    began: list[float] = []
    ended: list[float] = []

    def on_update(progress: SweepProgress) -> None:
        {"started": began, "finished": ended}.get(progress.event, []).append(time.perf_counter())

    chosen = SweepSettings(space=SPACE, concurrent=SLOTS, **settings)
    call = (store, Task.VA, workload.FEATURES, name, chosen, workload.base())
    whole, _ = timed(tune, *call, on_update=on_update)
    rows = load_sweep(store, name).rows
    steps = sum(row.seconds for row in rows)
    steady = ended[-1] - began[0]
    counts = f"{len(rows):6d} {sum(row.epochs for row in rows):6d}"
    shares = f"{steps / whole / SLOTS:5.3f}  {steps / steady / SLOTS:5.3f}"
    lost = (steady * SLOTS - steps) / len(rows)
    print(
        f"{name:7s} {counts} {whole:5.1f} {steady:7.1f} {steps:7.1f} {shares} {lost:6.2f} "
        f"{3600 * len(rows) / whole:8,.0f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="8 trials")
    parser.add_argument("--trials", type=int, default=100)
    chosen = parser.parse_args()
    trials = 8 if chosen.quick else chosen.trials
    with tempfile.TemporaryDirectory() as folder:
        store = workload.fill(Store(folder))
        print(f"the command: raffect tune va, {SLOTS} slots; seconds")
        for name in ("first", "again"):
            show_start(start(store, name), name)
        show_command(store, 8 if chosen.quick else 40)
        engine.connect(None)
        print("\nthe call, with Ray running; the steady part is from the first trial to the last")
        print("                 seconds of                efficiency  s lost")
        print("pruning trials epochs  call  steady   steps  call steady /trial trials/h")
        sweep(store, "none", trials=trials, pruning="none")
        sweep(store, "asha", trials=trials)


if __name__ == "__main__":
    main()
