"""Constraints on a trial's model, measured before it is trained: what is refused costs nothing."""

from __future__ import annotations

from dataclasses import dataclass

from raffect.sweep.reasons import LIMIT
from raffect.sweep.settings import SweepSettings

PARAMETERS = "parameters"
LATENCY = "latency_ms"


@dataclass(frozen=True)
class Limits:
    """What a model may be at most; None: no limit.

    Attributes:
        parameters: Trained values.
        latency_ms: Milliseconds per 1,000 frames on the trial's device.
    """

    parameters: int | None = None
    latency_ms: float | None = None

    @classmethod
    def of(cls, settings: SweepSettings) -> Limits:
        """The limits that a sweep's settings name."""
        return cls(settings.max_params, settings.max_latency_ms)

    def margins(self, parameters: int, latency_ms: float | None) -> dict[str, float]:
        """By how much each limit is missed, in its own unit; zero or less where it is met.

        That is Optuna's convention for constraints.
        """
        found: dict[str, float] = {}
        if self.parameters is not None:
            found[PARAMETERS] = float(parameters - self.parameters)
        if self.latency_ms is not None and latency_ms is not None:
            found[LATENCY] = latency_ms - self.latency_ms
        return found

    def describe(self, parameters: int, latency_ms: float | None) -> str:
        """What is beyond its limit, for people; empty when nothing is."""
        found = []
        if self.parameters is not None and parameters > self.parameters:
            found.append(f"{parameters:,} parameters of at most {self.parameters:,}")
        if self.latency_ms is not None and latency_ms is not None and latency_ms > self.latency_ms:
            found.append(f"{latency_ms:.2f} ms per 1,000 frames of at most {self.latency_ms:g}")
        return f"{LIMIT}: {'; '.join(found)}" if found else ""
