"""What trackers are shown: a planned sweep, and a run of three trials under Tune."""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray import tune

from raffect.store import Store
from raffect.sweep.records import TrialReport
from raffect.temporal.epochs import EpochResult
from tests.sweep import tiny

BASE = tiny.base().canonical()
SCORES = {0: [0.1, 0.3, 0.2], 1: [0.4], 2: [0.2, 0.5]}


def settings(number: int) -> dict[str, Any]:
    return tiny.base(optimiser__lr=1e-3 * (number + 1)).canonical()


def history(scores: list[float]) -> tuple[EpochResult, ...]:
    return tuple(
        EpochResult(
            epoch=epoch,
            score=score,
            loss=1 / epoch,
            parts={"valence": score - 0.1, "arousal": score + 0.1},
            seconds=2.0,
            lr=1e-3,
        )
        for epoch, score in enumerate(scores, start=1)
    )


def plan(store: Store) -> Store:
    ranges = {"optimiser.lr": "FloatDistribution(high=0.01, log=True, low=0.0001, step=None)"}
    config = {"base": BASE, "space": {"ranges": ranges}}
    store.write_json("sweeps/s/plan.json", {"config": config})
    return store


class Trial(tune.Trainable):
    """Reports as SweepTrial does; trial 1 fails after an epoch."""

    def setup(self, config: dict[str, Any]) -> None:
        self.number = config["number"]
        self.epoch = 0

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.setup(new_config)
        return True

    def step(self) -> dict[str, object]:
        self.epoch += 1
        scores = SCORES[self.number]
        return TrialReport(
            history(scores[: self.epoch]),
            done=self.epoch == len(scores),
            failure="nan" if self.number == 1 else None,
        ).to_tune()


def sweep(callbacks: list[tune.Callback], folder: Path) -> dict[int, str | None]:
    """Run three trials under Tune, one actor for all; their errors."""
    found = tune.Tuner(
        Trial,
        param_space={
            "number": tune.grid_search([0, 1, 2]),
            "settings": tune.sample_from(lambda config: settings(config["number"])),
        },
        tune_config=tune.TuneConfig(max_concurrent_trials=1, reuse_actors=True),
        run_config=tune.RunConfig(
            name="s",
            storage_path=str(folder),
            verbose=0,
            callbacks=callbacks,
            checkpoint_config=tune.CheckpointConfig(
                checkpoint_frequency=0, checkpoint_at_end=False
            ),
        ),
    ).fit()
    return {result.config["number"]: result.error for result in found}


class Driver:
    """Calls callbacks as Tune does, without Tune."""

    def __init__(self, callbacks: list[tune.Callback]) -> None:
        self.callbacks = callbacks
        for callback in callbacks:
            callback.setup(stop=None, num_samples=3, total_num_samples=3)

    def _call(self, name: str, number: int, **more: Any) -> None:
        trial = SimpleNamespace(config={"number": number, "settings": settings(number)})
        for callback in self.callbacks:
            getattr(callback, name)(iteration=1, trials=[trial], trial=trial, **more)

    def start(self, number: int) -> None:
        self._call("on_trial_start", number)

    def result(self, number: int, scores: list[float]) -> None:
        self._call("on_trial_result", number, result=TrialReport(history(scores)).to_tune())

    def complete(self, number: int) -> None:
        self._call("on_trial_complete", number)

    def error(self, number: int) -> None:
        self._call("on_trial_error", number)

    def settle(self) -> None:
        """Wait until all that was posted is done."""
        for callback in self.callbacks:
            done = threading.Event()
            callback._jobs.put(done.set)
            assert done.wait(60)

    def end(self) -> None:
        for callback in self.callbacks:
            callback.on_experiment_end(trials=[])


def events(store: Store, number: int) -> dict[str, list[tuple[int, float]]]:
    """Steps and values by tag of a trial's event files in the store."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with tempfile.TemporaryDirectory() as folder:
        for key in store.files(f"sweeps/s/tensorboard/trial-{number:05d}"):
            (Path(folder) / Path(key).name).write_bytes(store.read_bytes(key))
        found = accumulator.EventAccumulator(folder)
        found.Reload()
    tags = found.Tags()["scalars"]
    return {
        tag.removeprefix("ray/tune/"): [(e.step, round(e.value, 6)) for e in found.Scalars(tag)]
        for tag in tags
    }
