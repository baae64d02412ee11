"""A trial that sleeps in the place of training, in a process that imports no PyTorch."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import Any

from ray import tune

from raffect.sweep.records import TrialFacts, TrialReport
from raffect.temporal.epochs import EpochResult

STEP_VARIABLE = "RAFFECT_BENCHMARK_STEP"
STEP_S = float(os.environ.get(STEP_VARIABLE, "1"))
"""Mean seconds of an epoch."""
SLOTS_VARIABLE = "RAFFECT_BENCHMARK_SLOTS"
"""How many processes there will be."""
EQUAL_VARIABLE = "RAFFECT_BENCHMARK_EQUAL"
"""Set: the epochs of all trials take the same time."""


def step_seconds(trial: int) -> float:
    """Time of a trial's epochs: models of a space differ in size, by a factor of three here."""
    if os.environ.get(EQUAL_VARIABLE):
        return STEP_S
    return STEP_S * random.Random(trial).uniform(0.5, 1.5)


class Home:
    """Stands for the folder of the trials' models, of which there are none."""

    def __init__(self, store: Any, sweep: str, *rest: Any) -> None:
        self.sweep = sweep
        self.present = Path(store.path(f"present/{sweep}"))


class SleepingTrial(tune.Trainable):
    """Tells what a trial tells, its score by chance; notes how long it waited for the driver.

    The first trials wait for one another's processes. On one machine these take a minute to start
    where a cluster's take seconds, and Tune, which hands a free process to a trial whose own is
    still starting, stops that one: with trials of three seconds some would never come up.
    """

    def setup(self, config: dict[str, Any], data: Any, home: Home) -> None:
        home.present.mkdir(parents=True, exist_ok=True)
        (home.present / str(os.getpid())).touch()
        self._present: Path | None = home.present
        self._ended = time.monotonic()
        self._take(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._take(new_config)
        return True

    def _take(self, config: dict[str, Any]) -> None:
        self._budget = config["settings"]["optimiser"]["epochs"]
        self._random = random.Random(config["number"])
        self._seconds = step_seconds(config["number"])
        self._history: list[EpochResult] = []

    def _wait_for_others(self) -> None:
        slots = int(os.environ[SLOTS_VARIABLE])
        while self._present and len(list(self._present.iterdir())) < slots:
            time.sleep(0.2)
        if self._present:
            # As after a start of their own, not all in step.
            time.sleep(self._random.random() * STEP_S)
            self._ended = time.monotonic()
        self._present = None

    def step(self) -> dict[str, object]:
        self._wait_for_others()
        waited = time.monotonic() - self._ended
        time.sleep(self._seconds)
        rise = 0.02 * len(self._history)
        epoch = EpochResult(
            epoch=len(self._history) + 1,
            loss=1.0,
            score=self._random.gauss(0.3 + rise, 0.05),
            parts={"valence": 0.3, "arousal": 0.3, "waited": waited},
            seconds=self._seconds,
            lr=1e-3,
        )
        self._history.append(epoch)
        self._ended = time.monotonic()
        facts = TrialFacts(host=f"process {os.getpid()}", parameters=1)
        done = len(self._history) >= self._budget
        return TrialReport(tuple(self._history), facts, done).to_tune()
