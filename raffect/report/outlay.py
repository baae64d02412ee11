"""What a sweep took, as plain numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StateCost:
    """What the trials of one state took.

    Attributes:
        seconds: Of their epochs.
        device_seconds: The same, times their devices.
    """

    state: str
    trials: int
    epochs: int
    seconds: float
    device_seconds: float


@dataclass(frozen=True)
class Cost:
    """What the sweep took, and what pruning spared it.

    Attributes:
        states: Of each state that occurs; without trials that another sweep paid for.
        hours: Of all runs of the command together; 0 if unknown.
        budget: Epochs of a full trial.
        saved_epochs: Epochs that the pruned trials did not run.
        saved_device_seconds: What they would have taken at each trial's own pace.
        taken_over: Trials that another sweep paid for.
    """

    states: tuple[StateCost, ...]
    hours: float
    budget: int
    saved_epochs: int
    saved_device_seconds: float
    taken_over: int

    @property
    def epochs(self) -> int:
        """Epochs of all trials."""
        return sum(own.epochs for own in self.states)

    @property
    def seconds(self) -> float:
        """Seconds of all epochs; trials may have run at the same time."""
        return sum(own.seconds for own in self.states)

    @property
    def device_seconds(self) -> float:
        """Seconds of all epochs, times the devices that they took."""
        return sum(own.device_seconds for own in self.states)


@dataclass(frozen=True)
class Spent:
    """A trial in the order in which trials ended.

    Attributes:
        device_seconds: Of this trial and of all that ended before it.
        best: The best score among these.
    """

    number: int
    state: str
    score: float | None
    device_seconds: float
    best: float | None
