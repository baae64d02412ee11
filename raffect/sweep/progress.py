"""What a running sweep tells: each event with how the sweep stands, here or far away."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from statistics import mean
from typing import Any, Literal

from raffect.sweep.attributes import FINISHED, STATE_NAMES

Event = Literal["started", "epoch", "finished"]
STATES = (*FINISHED, "RUNNING")
"""States that are counted while a sweep runs."""
_MOST_RUNNING = 8
_EPOCHS = 32
"""The time of an epoch is the mean of the last ones: trials differ in size."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How far a sweep is and how good, in all runs of its command.

    Attributes:
        states: Its own trials that ended by state, and those that run.
        best: The best score, results taken over from other sweeps included.
        top: The best scores by rank.
        rate: Trials that ended per hour of this run.
        epoch_seconds: Time of an epoch of late; None before the first whole one.
        left: Trials that this run left unfinished; the next one continues them.
        expected: What the best is expected to score on new videos; known at the end.
    """

    states: Mapping[str, int] = field(default_factory=dict)
    target: int = 0
    best: float | None = None
    best_trial: int | None = None
    best_params: Mapping[str, Any] = field(default_factory=dict)
    top: tuple[float, ...] = ()
    hours: float = 0.0
    device_hours: float = 0.0
    rate: float = 0.0
    epoch_seconds: float | None = None
    left: int = 0
    expected: float | None = None

    @property
    def ended(self) -> int:
        """Its own trials that ended."""
        return sum(self.states.get(state, 0) for state in FINISHED)


@dataclass(frozen=True, kw_only=True)
class SweepProgress(Standing):
    """What happened to a trial (a RunningTrial's fields), and how its sweep stands then.

    Attributes:
        state: RUNNING, or how it ended.
        finished: Trials that ended, in all drivers' runs.
        seconds: Of this run of the command.
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
    seconds: float
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
        ended = f"{STATE_NAMES[self.state]} after {self.epoch} epochs"
        best = "" if self.best is None else f"; best {self.best:.4f} (trial {self.best_trial})"
        note = f" ({self.note})" if self.note else ""
        return f"trial {self.trial}: {where or self.reason or ended}{note}{score}{best}"


@dataclass(frozen=True)
class RunningTrial:
    """A trial that runs: its number, finished epochs, full budget, and best score so far."""

    trial: int
    epoch: int
    epochs: int
    score: float | None


@dataclass(frozen=True)
class Glance:
    """A running sweep as a screen shows it.

    `spent` are the seconds of this run of the command until the last event, `since` those since
    then. `running` are in the order of their start, as many as a screen holds; `more` run besides.
    """

    standing: Standing
    spent: float
    running: tuple[RunningTrial, ...]
    more: int = 0
    since: float = 0.0

    @property
    def seconds(self) -> float:
        """Of this run of the command."""
        return self.spent + self.since

    @property
    def seconds_left(self) -> float | None:
        """Until the last trial ends, at the rate so far; None before the first has ended."""
        left = self.standing.target - self.standing.ended
        rate = self.standing.rate
        return max(0.0, 3600 * left / rate - self.since) if rate else None

    @property
    def ahead(self) -> RunningTrial | None:
        """The running trial that is the best of all so far; None if none is."""
        found = [one for one in self.running if self.may_be_best(one)]
        return max(found, key=lambda one: one.score or -math.inf, default=None)

    def may_be_best(self, one: RunningTrial) -> bool:
        """Whether a running trial's score so far is above the best one's.

        Limits need no look: a model beyond one is refused before its first epoch.
        """
        return one.score is not None and (
            self.standing.best is None or one.score > self.standing.best
        )


class RunningSweep:
    """The state of a running sweep, put together from its events; the clock is in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: SweepProgress | None = None
        self._told = 0.0
        self._ended = False
        self._running: dict[int, RunningTrial] = {}
        self._reached: dict[int, tuple[int, float]] = {}
        self._epochs: deque[float] = deque(maxlen=_EPOCHS)

    def add(self, progress: SweepProgress) -> None:
        """Take in what happened, and how long epochs took."""
        now = self._clock()
        # The first epoch also waits for a process: it starts the clock only.
        known = self._reached.pop(progress.trial, None)
        if progress.event == "epoch":
            self._reached[progress.trial] = (progress.epoch, now)
        if known is not None and progress.epoch > known[0] and progress.state != "FAIL":
            self._epochs.append((now - known[1]) / (progress.epoch - known[0]))
        self._last, self._told = progress, now
        if progress.event == "finished":
            self._running.pop(progress.trial, None)
        else:
            self._running[progress.trial] = RunningTrial(
                progress.trial, progress.epoch, progress.epochs, progress.score
            )

    def end(self) -> None:
        """The command ends: what runs now is for the next one to continue."""
        self._ended = True

    def glance(self) -> Glance | None:
        """What a screen shows of it while it runs; None before anything has happened."""
        if self._last is None or self._ended:
            return None
        running = list(self._running.values())
        shown, more = tuple(running[:_MOST_RUNNING]), len(running[_MOST_RUNNING:])
        since = max(0.0, self._clock() - self._told)
        return Glance(self._last, self._last.seconds, shown, more, since)

    def standing(self) -> Standing | None:
        """How it stands; None before anything has happened."""
        if self._last is None:
            return None
        # Each state, as a gauge that is left out would keep its last value for ever.
        states: dict[str, int] = {state: self._last.states.get(state, 0) for state in STATES}
        left = states["RUNNING"] if self._ended else 0
        return replace(
            self._last,
            states={**states, "RUNNING": states["RUNNING"] - left},
            left=left,
            epoch_seconds=mean(self._epochs) if self._epochs else None,
        )
