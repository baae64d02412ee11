"""Sweeps as they are in the store now, read again only when they have changed.

Sweeps are written while they are read, and may be begun anew or deleted meanwhile. A reader that
comes at such a moment gets what was read before, or a sweep that says that it is being written.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Literal

from raffect.errors import NotThereError, SettingsError, StoreError
from raffect.store import Store, sweep_folder
from raffect.store.layout import LEASE, SEEDS, STUDY, SWEEPS, check_name
from raffect.store.lease import TTL_S
from raffect.store.stage import has_plan
from raffect.sweep.leaderboard import SweepReader, SweepView

REFRESH_S = 2.0
"""Least time between two looks at a sweep: each costs some requests on object storage."""
IDLE_REFRESH_S = 30.0
"""Longest time between two looks at a sweep in which nothing happens."""
_COST_FACTOR = 10
"""A large study takes seconds of CPU to read: a tenth of the time is spent on it at most."""
_ATTEMPTS = 3
_PAUSE_S = 0.2

Status = Literal["running", "finished", "stopped", "lost", "writing"]
"""`running`: a command holds its lease. `lost`: the holder no longer renews it. `stopped`: trials
are missing and nobody holds it. `writing`: it could not be read yet."""


@dataclass(frozen=True)
class LiveSweep:
    """A sweep as it was at the last look; `view` is None as long as it could not be read.

    `job` and `host` are of the command that runs it; `trouble` says why this is not the newest
    state. `study` changes whenever its study or its scores under further seeds do, `version`
    whenever anything of this does.
    """

    name: str
    view: SweepView | None = None
    status: Status = "writing"
    job: str | None = None
    host: str | None = None
    trouble: str | None = None
    study: str = ""
    version: str = ""


@dataclass
class _Memory:
    """What is kept of a sweep from one look to the next; times by the clock of LiveSweeps.

    A change is noticed by the names in `files`, and was seen at `changed`; the text of `lease` was
    first seen at `renewed`. `cost` is the least time until it is read again.
    """

    lock: threading.Lock = field(default_factory=threading.Lock)
    sweep: LiveSweep | None = None
    reader: SweepReader | None = None
    view: SweepView | None = None
    files: str = ""
    lease: str = ""
    renewed: float = 0.0
    looked: float = float("-inf")
    changed: float = 0.0
    cost: float = 0.0


class LiveSweeps:
    """Reads the sweeps of a store for many readers; its methods may be called in threads."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        # A page says at once that the store is away, and is asked for again.
        self.store = store.hurried()
        self._clock = clock
        self._lock = threading.Lock()
        self._memories: dict[str, _Memory] = {}

    def all(self) -> list[LiveSweep]:
        """All sweeps, the last changed first; those in which nothing happens are read rarely."""
        found = []
        for name in self.store.names(SWEEPS):
            # Deleted meanwhile, or something else that lies there.
            with suppress(NotThereError):
                found.append(self.look(name, idle_s=IDLE_REFRESH_S))

        def recency(sweep: LiveSweep) -> tuple[bool, str]:
            changed = sweep.view.changed if sweep.view else None
            return sweep.status in ("running", "writing"), changed or ""

        return sorted(found, key=recency, reverse=True)

    def look(self, name: str, idle_s: float = 0.0) -> LiveSweep:
        """A sweep as it is now; looks may be `idle_s` apart while nothing happens in it.

        Raises:
            NotThereError: There is no such sweep.
            StoreError: The store can't be read, and this sweep never was.
        """
        try:
            check_name(name)
        except SettingsError:
            raise _no_sweep(name) from None
        with self._lock:
            memory = self._memories.setdefault(name, _Memory())
        if memory.sweep is not None and memory.lock.locked():
            # Another thread is reading it: what is known is a moment old.
            return memory.sweep
        with memory.lock:
            now = self._clock()
            idle = idle_interval(now - memory.changed, idle_s)
            pause = max(REFRESH_S, idle, min(IDLE_REFRESH_S, memory.cost))
            if memory.sweep is None or now - memory.looked >= pause:
                memory.sweep = self._read_patiently(name, memory)
                memory.looked = self._clock()
            return memory.sweep

    def _read_patiently(self, name: str, memory: _Memory) -> LiveSweep:
        try:
            for attempt in range(_ATTEMPTS):
                try:
                    return self._read(name, memory)
                except (NotThereError, FileNotFoundError, ValueError) as error:
                    # Between two writes of its writer, begun anew, or deleted.
                    failure = error
                if attempt + 1 < _ATTEMPTS:
                    time.sleep(_PAUSE_S)
            folder = sweep_folder(name)
            exists = has_plan(self.store, folder) or self.store.names(folder)
        except StoreError as error:
            if memory.sweep is None:
                raise
            return _stamped(replace(memory.sweep, trouble=error.got), memory.files)
        if not exists:
            with self._lock:
                self._memories.pop(name, None)
            raise _no_sweep(name) from failure
        trouble = f"It is being written just now ({type(failure).__name__})."
        return _stamped(replace(memory.sweep or LiveSweep(name), trouble=trouble), memory.files)

    def _read(self, name: str, memory: _Memory) -> LiveSweep:
        began = time.thread_time()
        folder = sweep_folder(name)
        names = self.store.names(folder)
        study = self.store.names(f"{folder}/{STUDY}")
        seeds = self.store.files(f"{folder}/{SEEDS}") if SEEDS in names else []
        files = json.dumps([names, study, seeds])
        view = memory.view
        if view is None or files != memory.files:
            memory.reader = memory.reader or SweepReader(self.store, name)
            view = memory.view = memory.reader.read()
            memory.files, memory.changed = files, self._clock()
            memory.cost = _COST_FACTOR * (time.thread_time() - began)
        lease = self._read_lease(folder) if LEASE in names else ""
        holder = json.loads(lease) if lease else {}
        status = self._status(lease, view, memory)
        return _stamped(
            LiveSweep(name, view, status, holder.get("job"), holder.get("host")), files
        )

    def _read_lease(self, folder: str) -> str:
        """The text of the sweep's lease; empty when nobody holds it."""
        try:
            last = self.store.names(f"{folder}/{LEASE}")[-1]
            return self.store.read_bytes(f"{folder}/{LEASE}/{last}").decode()
        except (IndexError, FileNotFoundError):
            return ""

    def _status(self, lease: str, view: SweepView, memory: _Memory) -> Status:
        if lease != memory.lease:
            memory.lease, memory.renewed = lease, self._clock()
        if not lease:
            return "finished" if view.manifest is not None else "stopped"
        # Clocks of two machines are not compared, as in lease.py: its counter changes or does not.
        return "running" if self._clock() - memory.renewed < TTL_S else "lost"


def idle_interval(quiet_s: float, longest: float = IDLE_REFRESH_S) -> float:
    """Seconds between two looks at a sweep: a tenth of the time since something happened in it."""
    return min(longest, quiet_s / 10)


def _no_sweep(name: str) -> NotThereError:
    return NotThereError(f"The store holds no sweep {name!r}.", "", "Look at the list of sweeps.")


def _stamped(sweep: LiveSweep, files: str) -> LiveSweep:
    """The sweep with digests that change with it."""
    shown = [files, sweep.view is None, sweep.status, sweep.job, sweep.trouble]
    return replace(sweep, study=digest(files), version=digest(json.dumps(shown)))


def digest(text: str) -> str:
    """A short digest, for HTTP's entity tags."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
