"""Real trials for bench_quality: random points of VA's space at the demo's size, whole curves.

    nice python -m tests.benchmarks.record_trials [--trials 180]

Adds to data/va_trials.csv until it has so many; one trial takes about 9 s of one core. A row has
the parameters (empty where a branch of the space leaves one out), then the score of each epoch.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.samplers import RandomSampler

from raffect.affwild2.tasks import Task
from raffect.config import TemporalConfig
from raffect.store import Store
from raffect.sweep.space import load_space
from raffect.temporal.data import load_task_data
from raffect.temporal.resident import ResidentData
from raffect.temporal.training import Trainer
from raffect.training.loop import NotFiniteError
from tests.benchmarks import workload

FILE = Path(__file__).parent / "data" / "va_trials.csv"
SPACE = "tune_spaces.va"
SEED = 0


def parameters() -> list[str]:
    """Names of all parameters that trials of the space may have."""
    study = optuna.create_study(sampler=RandomSampler(seed=SEED))
    names: dict[str, None] = {}
    for _ in range(50):
        trial = study.ask()
        load_space(SPACE).configure(trial, workload.base())
        names.update(dict.fromkeys(trial.params))
    return sorted(names)


def draw(number: int) -> tuple[dict[str, Any], TemporalConfig]:
    """A point of the space; the same number gives the same point."""
    trial = optuna.create_study(sampler=RandomSampler(seed=SEED + number)).ask()
    config = load_space(SPACE).configure(trial, workload.base())
    return trial.params, config


def train(config: TemporalConfig, data: ResidentData) -> list[float]:
    """Scores of all epochs; none after the weights are no longer finite."""
    trainer = Trainer(config, data)
    scores = []
    try:
        while not trainer.done:
            scores.append(trainer.run_epoch().score)
    except NotFiniteError:
        pass
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=180)
    chosen = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        store = workload.fill(Store(folder))
        data = ResidentData(load_task_data(store, workload.FEATURES, Task.VA), torch.device("cpu"))
    names = parameters()
    epochs = [f"epoch.{epoch:02d}" for epoch in range(1, workload.base().optimiser.epochs + 1)]
    FILE.parent.mkdir(exist_ok=True)
    known = len(FILE.read_text().splitlines()) - 1 if FILE.exists() else -1
    with FILE.open("a", newline="") as file:
        writer = csv.DictWriter(file, ["number", *names, *epochs], lineterminator="\n")
        if known < 0:
            writer.writeheader()
        for number in range(max(known, 0), chosen.trials):
            params, config = draw(number)
            short = {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in params.items()}
            scores = {k: f"{v:.5f}" for k, v in zip(epochs, train(config, data), strict=False)}
            writer.writerow({"number": number, **short, **scores})
            file.flush()
            print(number, max(scores.values(), default="failed"), flush=True)


if __name__ == "__main__":
    main()
