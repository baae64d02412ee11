"""The linear floor of a sweep, computed on the cluster beside its trials."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ray

from raffect.context import OnNote
from raffect.errors import find_user_error
from raffect.sweep.attributes import LINEAR_FLOOR
from raffect.sweep.failures import reason_of
from raffect.temporal.linear import linear_floor

if TYPE_CHECKING:
    from raffect.sweep.study import SweepStudy


class FloorTask:
    """A task that the first trial does not wait for; the study keeps what it finds, once.

    It asks for no core, as trials hold all of them until the sweep ends. If it fails, the sweep
    goes on, and its floor is None.
    """

    def __init__(self, study: SweepStudy, data: ray.ObjectRef[Any], on_note: OnNote) -> None:
        self._study = study
        self._data = data
        self._on_note = on_note
        self._running: ray.ObjectRef[Any] | None = None
        # Asked once: to ask the study writes what waits, and looks come several times a second.
        self._done = LINEAR_FLOOR in study.facts

    def look(self, wait: bool = False) -> None:
        """Begin, at the first look; record the floor if it is there, or once it is."""
        if self._done:
            return
        if self._running is None:
            task = ray.remote(linear_floor).options(num_cpus=0, name="linear floor")
            self._running = task.remote(self._data)
        if not ray.wait([self._running], timeout=None if wait else 0)[0]:
            return
        self._done = True
        floor = None
        try:
            found = ray.get(self._running)
            parts, value = found.score.parts, found.score.value
            floor = {"score": value, "parts": parts, "half_width": found.half_width}
        except Exception as error:
            # Of whatever kind: its process may also have been lost.
            cause = getattr(error, "cause", error)
            known = find_user_error(error)
            why = f": {known.got}" if known else f", as it failed: {reason_of(cause)}"
            self._on_note(f"The linear floor is unknown{why}")
        self._study.describe({LINEAR_FLOOR: floor})
