"""How a running sweep stands, from what its driver is told of each trial."""

from __future__ import annotations

import heapq
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from statistics import mean
from typing import Any

from raffect.sweep.progress import Glance, SweepProgress, Watch

TOP = 5
"""Scores that are shown by rank: a bounded number of labels, however long the sweep."""
STATES = ("COMPLETE", "PRUNED", "FAIL", "RUNNING")
_EPOCHS = 32
"""The time of an epoch is the mean of the last ones: trials differ in size."""


@dataclass(frozen=True)
class Standing:
    """A sweep at one moment.

    Attributes:
        sweep: Its name.
        task: Its task.
        states: Number of trials in each of STATES, in all runs of the command.
        target: Trials that were asked for.
        best: The best score.
        best_trial: Its trial.
        best_params: What the space chose for it.
        hours: Of all runs of the command.
        device_hours: The same of its devices.
        rate: Trials that ended per hour of this run.
        epoch_seconds: Time of an epoch of late; None before the first whole one.
        top: The best scores, at most TOP, in order.
        left: Trials that this run left in the middle; the next one continues them.
        glance: What a screen shows of it while it runs; None before and after.
    """

    sweep: str
    task: str
    states: Mapping[str, int] = field(default_factory=dict)
    target: int = 0
    best: float | None = None
    best_trial: int | None = None
    best_params: Mapping[str, Any] = field(default_factory=dict)
    hours: float = 0.0
    device_hours: float = 0.0
    rate: float = 0.0
    epoch_seconds: float | None = None
    top: tuple[float, ...] = ()
    left: int = 0
    glance: Glance | None = None


class Tally:
    """Keeps the standing of one sweep.

    Args:
        sweep: Its name.
        task: Its task.
        clock: Seconds.
    """

    def __init__(self, sweep: str, task: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last = Standing(sweep, task)
        self._watch: Watch | None = Watch()
        self._hours_before = 0.0
        self._scores: dict[int, float] = {}
        self._reached: dict[int, tuple[int, float]] = {}
        self._epochs: deque[float] = deque(maxlen=_EPOCHS)

    def recall(self, scores: Mapping[int, float], before: Standing) -> None:
        """Take in what earlier runs of the command left.

        Args:
            scores: Of trials that ended, by number.
            before: How the sweep stood; what this run has told of it since counts more.
        """
        self._scores = {**scores, **self._scores}
        self._hours_before = before.hours
        if not self._last.target:
            self._last = replace(before, hours=0.0)

    def add(self, progress: SweepProgress) -> None:
        """Take in what happened."""
        self._time(progress)
        if self._watch is not None:
            self._watch.add(progress)
        if progress.state in ("COMPLETE", "PRUNED") and progress.score is not None:
            self._scores[progress.trial] = progress.score
        self._last = replace(
            self._last,
            # A state that is left out would keep its last value for ever.
            states={state: progress.states.get(state, 0) for state in STATES},
            target=progress.target,
            best=progress.best,
            best_trial=progress.best_trial,
            best_params=progress.best_params,
            hours=progress.seconds / 3600,
            device_hours=progress.device_hours,
            rate=progress.rate,
        )

    def _time(self, progress: SweepProgress) -> None:
        """Note how long epochs took; the first also waits for a process, and is left out."""
        now = self._clock()
        known = self._reached.pop(progress.trial, None)
        if progress.event == "epoch":
            self._reached[progress.trial] = (progress.epoch, now)
        if known is not None and progress.epoch > known[0] and progress.state != "FAIL":
            self._epochs.append((now - known[1]) / (progress.epoch - known[0]))

    def end(self) -> None:
        """The command ends: what runs now is for the next one to continue."""
        running = self._last.states.get("RUNNING", 0)
        states = {**self._last.states, "RUNNING": 0}
        self._last = replace(self._last, states=states, left=running)
        self._watch = None

    def standing(self) -> Standing:
        """The sweep as it is now."""
        return replace(
            self._last,
            hours=self._last.hours + self._hours_before,
            epoch_seconds=mean(self._epochs) if self._epochs else None,
            top=tuple(heapq.nlargest(TOP, self._scores.values())),
            glance=self._watch.glance() if self._watch is not None else None,
        )
