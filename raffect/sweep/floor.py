"""The linear floor of a sweep, computed beside its trials: on a cluster, or in the command."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import ray
from threadpoolctl import threadpool_limits

from raffect.context import OnNote
from raffect.errors import find_user_error
from raffect.sweep.attributes import LINEAR_FLOOR
from raffect.sweep.failures import reason_of
from raffect.temporal.linear import LinearFit, linear_floor

if TYPE_CHECKING:
    from raffect.sweep.study import SweepStudy


class FloorTask:
    """Work that the first trial does not wait for; the study keeps what it finds, once.

    A task of its own asks for no core, as trials hold all of them until the sweep ends. On this
    machine it is a thread: a process would import PyTorch first, as those of trials do, for 3 s of
    CPU time while they make their first epochs. If it fails, the sweep goes on, and its floor is
    None.
    """

    def __init__(
        self,
        study: SweepStudy,
        data: ray.ObjectRef[Any],
        on_note: OnNote,
        is_local: bool = False,
    ) -> None:
        self._study = study
        self._data = data
        self._on_note = on_note
        self._begin = _in_thread if is_local else _as_task
        self._running: Future[LinearFit] | None = None
        # Asked once: to ask the study writes what waits, and looks come several times a second.
        self._done = LINEAR_FLOOR in study.facts

    def look(self, wait: bool = False) -> None:
        """Begin, at the first look; record the floor if it is there, or once it is."""
        if self._done:
            return
        if self._running is None:
            self._running = self._begin(self._data)
        if not wait and not self._running.done():
            return
        floor = None
        try:
            found = self._running.result()
            parts, value = found.score.parts, found.score.value
            floor = {"score": value, "parts": parts, "half_width": found.half_width}
        except Exception as error:
            # Of whatever kind: its process may also have been lost.
            cause = getattr(error, "cause", error)
            known = find_user_error(error)
            why = f": {known.got}" if known else f", as it failed: {reason_of(cause)}"
            self._on_note(f"The linear floor is unknown{why}")
        self._done = True
        self._study.describe({LINEAR_FLOOR: floor})


def _as_task(data: ray.ObjectRef[Any]) -> Future[LinearFit]:
    task = ray.remote(linear_floor).options(num_cpus=0, name="linear floor")
    found: Future[LinearFit] = task.remote(data).future()
    return found


def _in_thread(data: ray.ObjectRef[Any]) -> Future[LinearFit]:
    found: Future[LinearFit] = Future()

    def compute() -> None:
        try:
            # More threads would wait busily for one another, as the trials have the cores.
            with threadpool_limits(1):
                found.set_result(linear_floor(ray.get(data)))
        except Exception as error:
            found.set_exception(error)

    # A command that is interrupted does not wait for it.
    threading.Thread(target=compute, daemon=True, name="linear floor").start()
    return found
