"""Memory of each further trial on a node: the features are there once, whoever uses them.

    python -m tests.benchmarks.bench_memory [--quick]

Sweeps with 1, 2 and 4 trials at a time on features of 200 MB, and one on features of 20 MB, each
looked at from when all its trials have had an epoch, so that they have touched every feature.
`own` is what would be free if the process ended (USS), `shared` what it sees of Ray's object
store, `together` all of the former and one copy of the features.
"""

from __future__ import annotations

import argparse
import math
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray

from raffect import engine
from raffect.affwild2.tasks import Task
from raffect.settings import override
from raffect.store import Store
from raffect.store.layout import features_folder
from raffect.store.manifest import read_manifest
from raffect.sweep.progress import SweepProgress
from raffect.sweep.settings import SweepSettings
from raffect.sweep.tune import tune
from tests.benchmarks import workload
from tests.benchmarks.measuring import mapped_mb, unique_mb
from tests.durability.processes import descendants, trial_actors

DIM = 768
SMALL = {
    "segments.stride": 64,
    "model.tcn.depth": 0,
    "model.transformer.layers": 0,
    "optimiser.batch_size": 32,
    "optimiser.epochs": 4,
}


def fill(folder: Path, videos: int) -> tuple[Store, float]:
    """A store, and the MB of its features."""
    store = workload.fill(Store(str(folder)), videos, frames=1000, dim=DIM)
    counts = read_manifest(store, features_folder(workload.FEATURES)).counts
    return store, counts["rows"] * counts["dim"] * 2 / 1e6


def sweep(store: Store, concurrent: int) -> tuple[list[float], list[float]]:
    """MB of each trial's process: its own, and what it shares."""
    seen: set[int] = set()
    own: dict[int, float] = {}
    shared: dict[int, float] = {}

    def on_update(progress: SweepProgress) -> None:
        if progress.epoch:
            seen.add(progress.trial)
        if len(seen) < concurrent:
            return
        for pid in trial_actors(descendants(os.getpid())):
            # The least of several looks: in between a process holds a batch, or a model's file.
            with suppress(OSError):
                own[pid] = min(own.get(pid, math.inf), unique_mb(pid))
                shared[pid] = mapped_mb(pid, "plasma")

    settings = SweepSettings(
        trials=concurrent,
        concurrent=concurrent,
        space="tests.benchmarks.narrow",
        pruning="none",
        max_epochs=SMALL["optimiser.epochs"],
    )
    base: Any = override(workload.base(), SMALL)
    name = f"at-a-time-{concurrent}"
    tune(store, Task.VA, workload.FEATURES, name, settings, base, on_update=on_update)
    assert len(own) == concurrent, f"{len(own)} processes of {concurrent} trials"
    return list(own.values()), list(shared.values())


def report(store: Store, size: float, concurrent: int) -> float:
    """A line; the mean of what is a process's own."""
    engine.connect(None)
    own, shared = sweep(store, concurrent)
    ray.shutdown()
    mean = sum(own) / concurrent
    list_of = " ".join(f"{each:.0f}" for each in own)
    print(
        f"{size:8.0f} {concurrent:6d} {mean:6.0f} {sum(shared) / concurrent:7.0f} "
        f"{sum(own) + size:9.0f}   {list_of}",
        flush=True,
    )
    return mean


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="features of 60 MB, up to 2 trials")
    chosen = parser.parse_args()
    large, few, times = (40, 10, (1, 2)) if chosen.quick else (155, 15, (1, 2, 4))
    print("features trials    own  shared  together   own of each   (MB; means over trials)")
    with tempfile.TemporaryDirectory() as local:
        folder = Path(local)
        little, little_size = fill(folder / "few", few)
        without = report(little, little_size, 1)
        store, size = fill(folder / "many", large)
        means = [report(store, size, concurrent) for concurrent in times]
    grown = means[-1] - without
    print(
        f"a trial's own memory grows by {grown:.0f} MB where the features grow by "
        f"{size - little_size:.0f} MB: {grown / (size - little_size):.2f} copies"
    )


if __name__ == "__main__":
    main()
