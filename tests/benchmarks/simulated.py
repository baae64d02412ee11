"""A study as a long sweep leaves it, without training: real journal entries, simulated scores."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import optuna
from optuna.samplers import RandomSampler
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend
from optuna.trial import TrialState

from raffect.affwild2.tasks import Task
from raffect.config import TemporalConfig, recipe
from raffect.store import Stage, Store, sweep_folder
from raffect.store.manifest import FileEntry
from raffect.sweep.attributes import EPOCH
from raffect.sweep.plan import make_plan
from raffect.sweep.points import derive_recipe
from raffect.sweep.quiet import quiet
from raffect.sweep.records import TrialFacts
from raffect.sweep.samplers import make_pruner
from raffect.sweep.settings import SweepSettings
from raffect.sweep.space import load_space
from raffect.sweep.study import SweepStudy, journal_of
from raffect.temporal.epochs import EpochResult

SWEEP = "va"
SPACE = "tune_spaces.va"
RUNGS = (5, 15)
"""Epochs at which trials of 40 are compared."""


class Entries(BaseJournalBackend):
    """A journal in memory, as text like the real one's."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        for number in range(log_number_from, len(self.lines)):
            yield json.loads(self.lines[number])

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self.lines += [json.dumps(log) for log in logs]


def base() -> TemporalConfig:
    """The recipe: 40 epochs."""
    return recipe(Task.VA)


def curve(params: dict[str, Any], rng: np.random.Generator, epochs: int) -> list[float]:
    """Scores of a trial's epochs: rising, with noise; best at a learning rate of 3e-4."""
    miss = abs(math.log10(params["optimiser.lr"] / 3e-4))
    depth = abs(params["model.tcn.depth"] - 3) + 0.5 * abs(params["model.transformer.layers"] - 2)
    final = 0.6 - 0.15 * miss - 0.02 * depth - 0.1 * params["losses.mse_share"]
    steps = np.arange(1, epochs + 1)
    rising = final * (1 - np.exp(-steps / 6)) + rng.normal(0, 0.01, epochs)
    return [float(score) for score in rising]


def history(scores: list[float]) -> list[EpochResult]:
    """Epochs as a trial reports them."""
    return [
        EpochResult(
            epoch=number,
            loss=1 - score,
            score=score,
            parts={"valence": score - 0.02, "arousal": score + 0.02},
            seconds=12.3456789,
            lr=3e-4,
        )
        for number, score in enumerate(scores, 1)
    ]


def facts(number: int) -> TrialFacts:
    """What is known of a trial, as its actor reports it."""
    names = ("config.json", "metrics.json", "model.safetensors")
    entries = [FileEntry.of(f"trials/{number:05d}/{name}", b"") for name in names]
    return TrialFacts(
        files=tuple(entries),
        host="node-1",
        device="cuda:0",
        parameters=12_345_678,
        latency_ms=4.321,
    )


def fill(store: Store, trials: int, seed: int = 0) -> int:
    """Write a sweep of so many finished trials; returns the number of journal entries.

    Every entry is made by Optuna itself, through the pruner of the sweep, with the attributes
    that a sweep records: random parameters of the space of VA, a report per epoch.
    """
    entries = Entries()
    settings = SweepSettings(trials=trials)
    space, of = load_space(SPACE), base()
    rng = np.random.default_rng(seed)
    with quiet():
        study = optuna.create_study(
            storage=JournalStorage(entries),
            study_name=SWEEP,
            direction="maximize",
            sampler=RandomSampler(seed=seed),
            pruner=make_pruner(settings, of.optimiser.epochs),
        )
        for number in range(trials):
            trial = study.ask()
            config = space.configure(trial, of)
            trial.set_user_attr("config_hash", config.digest())
            trial.set_user_attr("seed", 0)
            _run(study, trial, curve(trial.params, rng, of.optimiser.epochs), facts(number))
    config = make_plan(Task.VA, "clip", of, space, derive_recipe(space, of), settings)
    Stage(store, sweep_folder(SWEEP), "sweep", config, {})
    journal = journal_of(store, SWEEP)
    # As a driver leaves it: a twentieth was written since the compaction before the last one.
    for part in np.array_split(entries.lines, [round(0.95 * len(entries.lines))]):
        with journal.batch():
            journal.append_logs([json.loads(line) for line in part])
        journal.compact()
    return len(entries.lines)


def _run(study: optuna.Study, trial: optuna.Trial, scores: list[float], known: TrialFacts) -> None:
    best = -math.inf
    for key, value in known.attributes().items():
        trial.set_user_attr(key, value)
    for epoch in history(scores):
        best = max(best, epoch.score)
        trial.set_user_attr(f"{EPOCH}{epoch.epoch:03d}", asdict(epoch))
        trial.report(best, epoch.epoch)
        # Between rungs the pruner would only say no.
        if epoch.epoch in RUNGS and trial.should_prune():
            study.tell(trial, state=TrialState.PRUNED)
            return
    study.tell(trial, best)


def open_sweep(store: Store, trials: int) -> SweepStudy:
    """The driver's hold on the filled study, extended to so many trials."""
    return SweepStudy(store, SWEEP, load_space(SPACE), base(), SweepSettings(trials=trials))
