"""Sweeps as they are in the store now, read again only when they have changed.

Sweeps are written while they are read, also begun anew or deleted. A reader that comes at such a
moment gets what was known before, or is told that the sweep is being written; never an error.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

from raffect.errors import NotThereError, SettingsError, StoreError
from raffect.store import Store, sweep_folder
from raffect.store.layout import LEASE, PLAN, SEEDS, STUDY, SWEEPS, check_name
from raffect.store.lease import TTL_S
from raffect.sweep.leaderboard import SweepView, load_sweep

REFRESH_S = 2.0
"""Least time between two looks at a sweep; each costs some requests on object storage."""
PATIENCE_S = 30.0
"""Longest time between two looks at a sweep in which nothing happens."""
_SHARE = 10
"""A large study takes seconds of a core to read: at most a tenth of the time is spent on it."""
"""As sweep/run.py names it, which would load Ray."""
_ATTEMPTS = 3
_PAUSE_S = 0.2

Status = Literal["running", "finished", "stopped", "lost", "writing"]


@dataclass(frozen=True)
class Seen:
    """A sweep as it was when it was looked at last.

    Attributes:
        name: Its name.
        view: Its leaderboard; None as long as it could not be read.
        status: Whether a command is at it, by its lease; `lost`: the command is gone without a
            word; `stopped`: trials are missing and nobody is at it.
        job: The Ray job that is at it.
        host: Where its command runs.
        trouble: Why this is not the newest state.
        study: Another one whenever its study or what else is scored changes.
        version: Another one whenever anything of this changes.
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
class _Known:
    """What is remembered of a sweep between two looks."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    seen: Seen | None = None
    view: SweepView | None = None
    mark: str = ""
    lease: str = ""
    leased: float = 0.0
    looked: float = float("-inf")
    changed: float = 0.0
    cost: float = 0.0


class Watch:
    """Looks at the sweeps of a store for many readers; its methods may be called in threads.

    Args:
        store: The store.
        clock: Seconds.
    """

    def __init__(self, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        self.store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[str, _Known] = {}

    def names(self) -> list[str]:
        """Names of the sweeps.

        Raises:
            StoreError: The store can't be read.
        """
        return [name for name in self.store.names(SWEEPS) if _is_name(name)]

    def all(self) -> list[Seen]:
        """All sweeps, the last changed first.

        Raises:
            StoreError: The store can't be read.
        """
        found = []
        for name in self.names():
            try:
                found.append(self.look(name, patient=True))
            except NotThereError:
                continue
        return sorted(found, key=_recency, reverse=True)

    def look(self, name: str, patient: bool = False) -> Seen:
        """A sweep as it is now.

        Args:
            name: The sweep.
            patient: Seldom look at sweeps in which nothing happens.

        Raises:
            NotThereError: There is no such sweep.
            StoreError: The store can't be read, and this sweep never was.
        """
        if not _is_name(name):
            raise _no_sweep(name)
        with self._lock:
            known = self._known.setdefault(name, _Known())
        if known.seen is not None and known.lock.locked():
            # Another reader is at it: what is known is a moment old.
            return known.seen
        with known.lock:
            if known.seen is None or self._is_due(known, patient):
                known.seen = self._fresh(name, known)
                known.looked = self._clock()
            return known.seen

    def _is_due(self, known: _Known, patient: bool) -> bool:
        now = self._clock()
        quiet = min(PATIENCE_S, (now - known.changed) / 10) if patient else 0.0
        return now - known.looked >= max(REFRESH_S, quiet, min(PATIENCE_S, known.cost))

    def _fresh(self, name: str, known: _Known) -> Seen:
        try:
            for attempt in range(_ATTEMPTS):
                try:
                    return self._read(name, known)
                except StoreError:
                    raise
                except Exception as error:
                    # Torn by its writer: any of the readers' own errors may come of that.
                    failed = error
                    if attempt + 1 < _ATTEMPTS:
                        time.sleep(_PAUSE_S)
            return self._unread(name, known, failed)
        except StoreError as error:
            if known.seen is None:
                raise
            return _stamp(replace(known.seen, trouble=error.got), known.mark)

    def _read(self, name: str, known: _Known) -> Seen:
        began = time.thread_time()
        folder = sweep_folder(name)
        files = self.store.names(folder)
        mark = json.dumps(
            [
                files,
                self.store.names(f"{folder}/{STUDY}"),
                self.store.files(f"{folder}/{SEEDS}") if SEEDS in files else [],
            ]
        )
        view = known.view
        if view is None or mark != known.mark:
            view = known.view = load_sweep(self.store, name)
            known.mark, known.changed = mark, self._clock()
            known.cost = _SHARE * (time.thread_time() - began)
        status, holder = self._status(name, files, view, known)
        return _stamp(
            Seen(name, view, status, job=holder.get("job"), host=holder.get("host")), mark
        )

    def _status(
        self, name: str, files: list[str], view: SweepView, known: _Known
    ) -> tuple[Status, dict[str, str]]:
        folder = f"{sweep_folder(name)}/{LEASE}"
        leases = self.store.names(folder) if LEASE in files else []
        try:
            text = self.store.read_bytes(f"{folder}/{leases[-1]}").decode() if leases else ""
        except FileNotFoundError:
            text = ""
        if not text:
            known.lease = ""
            return "finished" if view.manifest is not None else "stopped", {}
        if text != known.lease:
            known.lease, known.leased = text, self._clock()
        # Nobody compares clocks, as in lease.py: its counter stands still, or it does not.
        lives = self._clock() - known.leased < TTL_S
        return "running" if lives else "lost", json.loads(text)

    def _unread(self, name: str, known: _Known, error: Exception) -> Seen:
        """What to show of a sweep that can't be read just now.

        Raises:
            NotThereError: It is no sweep, or no longer one.
        """
        folder = sweep_folder(name)
        if not self.store.exists(f"{folder}/{PLAN}") and not self.store.names(folder):
            with self._lock:
                self._known.pop(name, None)
            raise _no_sweep(name) from error
        trouble = f"It is being written just now ({type(error).__name__})."
        return _stamp(replace(known.seen or Seen(name), trouble=trouble), known.mark)


def _recency(seen: Seen) -> tuple[bool, str]:
    changed = seen.view.changed if seen.view else None
    return seen.status in ("running", "writing"), changed or ""


def _is_name(name: str) -> bool:
    try:
        check_name(name)
    except SettingsError:
        return False
    return True


def _no_sweep(name: str) -> NotThereError:
    return NotThereError(f"The store holds no sweep {name!r}.", "", "Look at the list of sweeps.")


def _stamp(seen: Seen, mark: str) -> Seen:
    told = json.dumps([mark, seen.view is None, seen.status, seen.job, seen.trouble])
    return replace(seen, study=_digest(mark), version=_digest(told))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
