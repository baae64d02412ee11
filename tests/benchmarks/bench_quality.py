"""How good the best trial is after equal epochs: raffect's default and what it is made of.

    python -m tests.benchmarks.bench_quality [--quick]

Real sweep studies (sampler, pruner, journal) on a surrogate of VA's space at the demo's size, of
which record_trials.py has trained random points. Compared are the default (TPE and ASHA), TPE
alone, ASHA on random points, and random search, each with two trials at a time and 400 epochs,
which are 40 whole trials, under 20 seeds. Trial 0, the recipe, is left out: all would begin at
its score.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from raffect.store import Store
from raffect.sweep.settings import SweepSettings
from raffect.sweep.space import load_space
from raffect.sweep.study import SweepStudy
from tests.benchmarks import simulated, workload
from tests.benchmarks.record_trials import SPACE
from tests.benchmarks.surrogate import Surrogate

SLOTS = 2
EPOCHS = 400
SHARES = (0.1, 0.25, 0.5, 1.0)
METHODS: dict[str, dict[str, Any]] = {
    "default (TPE + ASHA)": {},
    "TPE, no pruning": {"pruning": "none"},
    "random + ASHA": {"sampler": "random"},
    "random search": {"sampler": "random", "pruning": "none"},
}


@dataclass
class Running:
    """A trial: its number, its whole curve, and how far it is."""

    number: int
    curve: list[float]
    epoch: int = 0


def search(store: Store, settings: SweepSettings, surrogate: Surrogate) -> tuple[list[float], int]:
    """Best score so far after each epoch, and how many trials there were."""
    study = SweepStudy(store, "s", load_space(SPACE), workload.base(), settings)
    running: list[Running] = []
    best: list[float] = []
    trials = 0
    while len(best) < EPOCHS:
        while len(running) < SLOTS:
            given = study.next()
            assert given is not None
            running.append(Running(given.number, list(surrogate.curves([given.params])[0])))
            trials += 1
        trial = running.pop(0)
        trial.epoch += 1
        shown = trial.curve[: trial.epoch]
        best.append(max(shown[-1], *best[-1:], -1.0))
        if trial.epoch == len(trial.curve):
            study.complete(trial.number, simulated.history(shown))
        elif not study.report(trial.number, simulated.history(shown)):
            running.append(trial)
    return best, trials


def compare(surrogate: Surrogate, seeds: int) -> dict[str, np.ndarray]:
    """Best-so-far curves `(seeds, epochs)` of each method; prints a line for each."""
    marks = [int(share * EPOCHS) - 1 for share in SHARES]
    heads = " ".join(f"{mark + 1:10d} epochs" for mark in marks)
    print(f"best so far after    {heads}  trials    s")
    found = {}
    for name, options in METHODS.items():
        began = time.perf_counter()
        curves, trials = [], []
        for seed in range(seeds):
            # Drivers add the number of rows to the seed, so that neighbours would overlap.
            settings = SweepSettings(trials=EPOCHS, seed=1000 * seed, **options)
            with tempfile.TemporaryDirectory() as folder:
                best, count = search(Store(str(Path(folder))), settings, surrogate)
            curves.append(best)
            trials.append(count)
        found[name] = np.array(curves)
        cells = [f"{found[name][:, m].mean():9.4f} ± {found[name][:, m].std():.4f}" for m in marks]
        seconds = time.perf_counter() - began
        print(f"{name:21s}{' '.join(cells)} {np.mean(trials):7.0f} {seconds:4.0f}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="2 seeds")
    parser.add_argument("--seeds", type=int, default=20)
    chosen = parser.parse_args()
    surrogate = Surrogate()
    print(surrogate.describe())
    found = compare(surrogate, 2 if chosen.quick else chosen.seeds)
    mean = {name: curves.mean(axis=0) for name, curves in found.items()}
    ours, last = next(iter(mean.values())), {name: curve[-1] for name, curve in mean.items()}
    for name, score in list(last.items())[1:]:
        reached = int(np.argmax(ours >= score)) + 1 if ours[-1] >= score else None
        within = f"after {reached} epochs" if reached else "not"
        wins = np.mean(found[next(iter(found))][:, -1] >= found[name][:, -1])
        print(f"default reaches the end of {name!r} {within}; as good or better in {wins:.0%}")


if __name__ == "__main__":
    main()
