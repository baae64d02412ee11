"""How long a sweep may take, over all runs of its command."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic


@dataclass
class Budget:
    """What was spent of hours and device hours, and what may be.

    A device is a GPU; where a trial has none, its slot.

    Attributes:
        hours: Most of all runs together; None: no limit.
        device_hours: Most of all trials together; None: no limit.
        before: Seconds of earlier runs.
        devices: Of one trial; several may share one.
        device_seconds: Of trials that ended, in all runs.
    """

    hours: float | None = None
    device_hours: float | None = None
    before: float = 0.0
    devices: float = 1.0
    device_seconds: float = 0.0
    clock: Callable[[], float] = monotonic
    _running: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._began = self.clock()

    def use(self, key: str, seconds: float) -> None:
        """Note the seconds of all epochs of a running trial."""
        self._running[key] = seconds

    def settle(self, key: str) -> None:
        """The trial ended; what it took stays spent."""
        self.device_seconds += self._running.pop(key, 0.0) * self.devices

    @property
    def run_seconds(self) -> float:
        """Seconds of this run."""
        return self.clock() - self._began

    @property
    def seconds(self) -> float:
        """Seconds of all runs."""
        return self.before + self.run_seconds

    @property
    def all_device_seconds(self) -> float:
        """Device seconds of all trials, running ones included."""
        return self.device_seconds + sum(self._running.values()) * self.devices

    @property
    def exhausted(self) -> str | None:
        """What is used up, for people; None as long as trials may begin."""
        spent, device_spent = self.seconds / 3600, self.all_device_seconds / 3600
        return exhausted(self.hours, self.device_hours, spent, device_spent)


def exhausted(
    most: float | None, most_device: float | None, hours: float, device_hours: float
) -> str | None:
    """What of a budget is used up, in words with what was spent."""
    if most is not None and hours >= most:
        return f"{hours:.2f} of {most:g} hours are spent"
    if most_device is not None and device_hours >= most_device:
        return f"{device_hours:.2f} of {most_device:g} device hours are spent"
    return None
