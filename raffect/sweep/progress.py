"""What a running sweep tells: each event, and the state that a screen shows, here or far away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
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
