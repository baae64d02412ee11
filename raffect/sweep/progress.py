"""What a running sweep tells: each event, and the state that a screen shows, here or far away."""

from __future__ import annotations

import heapq
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from statistics import mean
from typing import Any, Literal

from pydantic import TypeAdapter

Event = Literal["started", "epoch", "finished"]
_MOST_RUNNING = 8


@dataclass(frozen=True)
class SweepProgress:
    """What happened in a sweep, and how far it is.

    Attributes:
        event: A trial began, finished an epoch, or ended.
        trial: Its number.
        epoch: Its finished epochs.
        epochs: A trial's full budget.
        score: Its best score so far.
        state: RUNNING, or how it ended.
        reason: Why it failed.
        finished: Trials that ended, in all drivers' runs.
        target: Trials that were asked for.
        best: The best score of the sweep so far.
        best_trial: Its trial.
        best_params: What the space chose for it.
        states: Trials that ended by state, and those that run, in all drivers' runs.
        seconds: Of this run of the command.
        rate: Trials that ended per hour of this run.
        device_hours: Of all runs.
        note: What was done to save the trial.
    """

    event: Event
    trial: int
    epoch: int
    epochs: int
    score: float | None
    state: str
    reason: str | None
    finished: int
    target: int
    best: float | None
    best_trial: int | None
    best_params: Mapping[str, Any]
    states: Mapping[str, int]
    seconds: float
    rate: float
    device_hours: float
    note: str | None = None

    @property
    def seconds_left(self) -> float | None:
        """Until the last trial ends, at the rate so far; None before the first has ended."""
        left = self.target - self.finished
        return 3600 * left / self.rate if self.rate else None

    def describe(self) -> str:
        """One line for people."""
        score = "" if self.score is None else f", score {self.score:.4f}"
        where = f"epoch {self.epoch} of {self.epochs}" if self.state == "RUNNING" else ""
        ended = f"{self.state.lower()} after {self.epoch} epochs"
        best = "" if self.best is None else f"; best {self.best:.4f} (trial {self.best_trial})"
        note = f" ({self.note})" if self.note else ""
        return f"trial {self.trial}: {where or self.reason or ended}{note}{score}{best}"


@dataclass(frozen=True)
class TrialAtWork:
    """A trial that runs.

    Attributes:
        trial: Its number.
        epoch: Its finished epochs.
        epochs: Its full budget.
        score: Its best score so far.
    """

    trial: int
    epoch: int
    epochs: int
    score: float | None


@dataclass(frozen=True)
class Glance:
    """A running sweep as a screen shows it.

    Attributes:
        last: What happened last.
        running: Trials that run, in the order of their start, not more than a screen holds.
        more: Further ones that run.
    """

    last: SweepProgress
    running: tuple[TrialAtWork, ...]
    more: int = 0

    def to_json(self) -> str:
        """As text that `from_json` reads, without messages: many may read it."""
        last = replace(self.last, reason=None, note=None)
        return _adapter().dump_json(replace(self, last=last)).decode()

    @staticmethod
    def from_json(text: str) -> Glance:
        """What `to_json` wrote.

        Raises:
            ValueError: It is something else, e.g. of another version.
        """
        return _adapter().validate_json(text)


class Watch:
    """Keeps a running sweep's glance current."""

    def __init__(self) -> None:
        self._last: SweepProgress | None = None
        self._running: dict[int, TrialAtWork] = {}

    def add(self, progress: SweepProgress) -> None:
        """Take in what happened."""
        self._last = progress
        if progress.event == "finished":
            self._running.pop(progress.trial, None)
        else:
            self._running[progress.trial] = TrialAtWork(
                progress.trial, progress.epoch, progress.epochs, progress.score
            )

    def glance(self) -> Glance | None:
        """The sweep now; None before anything has happened."""
        if self._last is None:
            return None
        running = list(self._running.values())
        return Glance(self._last, tuple(running[:_MOST_RUNNING]), len(running[_MOST_RUNNING:]))


@cache
def _adapter() -> TypeAdapter[Glance]:
    return TypeAdapter(Glance)


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
