"""A running sweep, told to Ray's dashboard and to Prometheus from its driver.

Nothing here may cost the sweep anything: its loop leaves what happened and goes on; a thread of
the board's own tells it, every few seconds. What can't be told is said once, and tried again.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Protocol

from raffect.jobs.board_state import STATES, Standing, Tally
from raffect.store import Store
from raffect.sweep.leaderboard import load_sweep
from raffect.sweep.progress import SweepProgress

EVERY_S = 5.0
"""Half of the time after which Ray drops a gauge that nobody has set again."""
_LAST_WORD_S = 15.0
"""Longest wait for the last state to be told, when the command ends."""


class Place(Protocol):
    """Where a sweep's standing is told."""

    name: str

    def show(self, standing: Standing) -> None:
        """Tell it; may fail in any way."""


def open_places(store: str, sweep: str, task: str) -> list[Place]:
    """The places that there are for this process: Ray's metrics, and its job if it is one's."""
    from raffect.jobs.board_job import JobCard, find_job
    from raffect.jobs.metrics import Gauges

    places: list[Place] = [Gauges()]
    job = find_job(os.environ)
    if job is not None:
        places.append(JobCard(job, store, sweep, task))
    return places


class Board:
    """Tells of a sweep while a block runs, and its last state at the end of it.

    Args:
        store: The sweep's store.
        sweep: Its name.
        task: Its task.
        on_note: Told, once for each place, that it can't be told there.
        every_s: Seconds between two tellings.
        places: Opens the places; called when the sweep first has news, with Ray connected.
    """

    def __init__(
        self,
        store: Store,
        sweep: str,
        task: str,
        on_note: Callable[[str], None] | None = None,
        every_s: float = EVERY_S,
        places: Callable[[str, str, str], list[Place]] = open_places,
    ) -> None:
        self._store = store
        self._sweep = sweep
        self._task = task
        self._on_note = on_note
        self._every_s = every_s
        self._open = places
        self._tally = Tally(sweep, task)
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._noted: set[str] = set()

    def __enter__(self) -> Board:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._thread is None:
            return
        with self._lock:
            self._tally.end()
        self._ended.set()
        self._thread.join(_LAST_WORD_S)

    def update(self, progress: SweepProgress) -> None:
        """Take in what happened; returns at once."""
        with self._lock:
            self._tally.add(progress)
        self._begin()

    def tell_finished(self, connect: Callable[[], None]) -> None:
        """Tell of a sweep that needed no trial more, so that a job which found it so shows it.

        Args:
            connect: Connects to Ray, which such a sweep had no need of.
        """
        from raffect.jobs.board_job import find_job

        if self._thread is None and find_job(os.environ) is not None:
            connect()
            self._begin()

    def _begin(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._keep, daemon=True, name="raffect-board")
            self._thread.start()

    def _keep(self) -> None:
        # A sweep that has just begun has nothing to be read, one that begins anew half of it.
        with suppress(Exception):
            self._recall()
        places: list[Place] = []
        try:
            places = self._open(self._store.uri, self._sweep, self._task)
        except Exception as error:
            self._note("Ray's dashboard", error)
        ended = False
        while places:
            self._tell(places)
            if ended:
                return
            ended = self._ended.wait(self._every_s)

    def _recall(self) -> None:
        """What earlier runs left."""
        view = load_sweep(self._store, self._sweep)
        own = [row for row in view.rows if row.model is not None and row.origin is None]
        scores = {row.number: row.score for row in own if row.score is not None}
        best = view.best
        before = Standing(
            self._sweep,
            self._task,
            states={state: view.counts.get(state, 0) for state in STATES},
            target=view.target,
            best=None if best is None else best.score,
            best_trial=None if best is None else best.number,
            best_params={} if best is None else best.params,
            hours=view.hours,
            device_hours=view.device_hours,
        )
        with self._lock:
            self._tally.recall(scores, before)

    def _tell(self, places: list[Place]) -> None:
        with self._lock:
            standing = self._tally.standing()
        for place in places:
            try:
                place.show(standing)
            except Exception as error:
                self._note(place.name, error)

    def _note(self, name: str, error: Exception) -> None:
        if name in self._noted or self._on_note is None:
            return
        self._noted.add(name)
        first = (str(error).splitlines() or [""])[0][:200]
        why = f"{type(error).__name__}: {first}" if first else type(error).__name__
        self._on_note(f"Note: {name} can't be kept current ({why}). The sweep goes on.")
