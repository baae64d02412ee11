"""One driver per sweep: a lease in the store that its holder renews while it lives.

Leases are numbered objects. Whoever creates the next number by a conditional write holds the
sweep, and only the holder rewrites that object, each time with a higher counter. No clocks are
compared across machines: a lease has expired when its counter has not moved for TTL_S by the
waiting command's own clock. A holder on this machine is looked up in the process table instead.

    held by a live process here        -> ConflictError at once
    held by a dead process here        -> taken at once
    held elsewhere, counter moves      -> ConflictError
    held elsewhere, counter stands     -> taken after TTL_S
    damaged                            -> as one that is held elsewhere
    released (the object is gone)      -> taken at once

So a holder whose last renewal began less than TTL_S ago knows without a request that it still
holds the lease: `is_sure`. Once it has been cut off for longer it looks before each renewal.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel

from raffect.context import OnNote
from raffect.errors import ConflictError, StoreError
from raffect.store import Store

RENEW_S = 5.0
TTL_S = 30.0
"""Six renewals: how long a driver may be cut off from the store and still keep its sweep."""
_NAME = re.compile(r"[0-9]{8}\.json")


class Holder(BaseModel):
    """What a lease object says of the process that holds it."""

    id: str
    host: str
    boot: str
    pid: int
    started: str | None
    job: str | None = None
    since: str | None = None
    renewals: int = 0

    @classmethod
    def here(cls) -> Holder:
        """This process, now."""
        return cls(
            id=uuid.uuid4().hex,
            host=socket.gethostname(),
            boot=_boot(),
            pid=os.getpid(),
            started=_started(os.getpid()),
            job=os.environ.get("RAFFECT_JOB"),
            since=datetime.now(UTC).isoformat(timespec="minutes"),
        )

    @property
    def is_here(self) -> bool:
        """Whether it runs, or ran, on this machine since its last boot."""
        return (self.host, self.boot) == (socket.gethostname(), _boot())

    @property
    def is_dead(self) -> bool:
        """Whether it ran on this machine and is gone."""
        return self.is_here and _started(self.pid) != self.started

    @classmethod
    def unknown(cls, data: bytes) -> Holder:
        """Who wrote what can't be read: nobody here, and somebody else when it has changed."""
        id_ = hashlib.sha256(data).hexdigest()
        return cls(id=id_, host="an unknown machine", boot="", pid=0, started=None)

    @property
    def is_unknown(self) -> bool:
        """Whether its lease can't be read."""
        return self.pid == 0

    def __str__(self) -> str:
        job = f" (job {self.job})" if self.job else ""
        return f"Process {self.pid} on {self.host}{job}"


class Lease:
    """A sweep's lease, as objects in a folder; held by this process after `acquire`.

    It is renewed every `renew_s` seconds, and another process may take it after `ttl_s` seconds
    without a renewal.
    """

    def __init__(
        self, store: Store, folder: str, renew_s: float = RENEW_S, ttl_s: float = TTL_S
    ) -> None:
        self._store = store
        # A renewal that fails is followed by the next one.
        self._renewing = store.hurried()
        self._sure_until = 0.0
        self._folder = folder
        self._renew_s = renew_s
        self._ttl_s = ttl_s
        self._number = 0
        self._holder = Holder.here()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def holder(self) -> Holder | None:
        """Who holds it, or held it and is gone; None after a release."""
        current = self._current()
        return self._read(current) if current else None

    def _current(self) -> int:
        names = self._names(self._store)
        return int(names[-1].removesuffix(".json")) if names else 0

    def _names(self, store: Store) -> list[str]:
        return [name for name in store.names(self._folder) if _NAME.fullmatch(name)]

    def acquire(self, on_wait: OnNote | None = None) -> None:
        """Take the lease, as soon as its last holder is gone; `on_wait` is told of a wait.

        Raises:
            ConflictError: The holder is alive.
        """
        while True:
            current = self._current()
            if current:
                self._wait_for_expiry(current, on_wait)
            self._number = current + 1
            began = _now()
            if self._store.create(self._key(self._number), self._content()):
                break
            # Another waiting command created the same number first: look at the new holder.
        self._sure_until = began + self._ttl_s
        if current:
            self._store.delete_keys([self._key(current)])
        self._thread = threading.Thread(target=self._renew, daemon=True, name="raffect-lease")
        self._thread.start()

    def release(self) -> None:
        """Give the lease back; another command may take it at once."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
            if self.is_sure or self._is_mine():
                self._renewing.delete_keys([self._key(self._number)])

    @property
    def is_sure(self) -> bool:
        """Whether no other process can have taken the lease, by the time alone."""
        return _now() < self._sure_until

    def _wait_for_expiry(self, number: int, on_wait: OnNote | None) -> None:
        first = self._read(number)
        if first is None or first.is_dead:
            return
        if first.is_here:
            raise self._conflict(first)
        if on_wait is not None:
            on_wait(f"{first} may still be at this sweep; waiting up to {self._ttl_s:g} s.")
        until = time.monotonic() + self._ttl_s
        while time.monotonic() < until:
            time.sleep(min(1.0, self._renew_s / 2))
            now = self._read(number)
            if now is None:
                return
            if now != first:
                raise self._conflict(now)

    def _renew(self) -> None:
        while not self._ended.wait(self._renew_s):
            self._holder.renewals += 1
            with suppress(StoreError):
                mine = self.is_sure or self._is_mine()
                if mine is None:
                    continue
                if not mine:
                    # Taken over while this process was suspended or cut off. The journal refuses
                    # the study's next write (journal.py), which ends the sweep with a message.
                    return
                began = _now()
                self._renewing.write_bytes(self._key(self._number), self._content())
                # Who was not sure for a moment may have been overtaken while it wrote.
                if self.is_sure:
                    self._sure_until = began + self._ttl_s

    def _is_mine(self) -> bool | None:
        """Whether this process holds it; None if the newest lease can't be read."""
        names = self._names(self._renewing)
        found = self._read(self._number) if names[-1:] == [self._name(self._number)] else None
        if found is not None and found.is_unknown:
            return None
        return found is not None and found.id == self._holder.id

    def _content(self) -> bytes:
        return json.dumps(self._holder.model_dump()).encode()

    def _read(self, number: int) -> Holder | None:
        try:
            data = self._store.read_bytes(self._key(number))
        except FileNotFoundError:
            return None
        try:
            return Holder.model_validate_json(data)
        except ValueError:
            return Holder.unknown(data)

    def _key(self, number: int) -> str:
        return f"{self._folder}/{self._name(number)}"

    @staticmethod
    def _name(number: int) -> str:
        return f"{number:08d}.json"

    def _conflict(self, holder: Holder) -> ConflictError:
        since = f", since {holder.since}" if holder.since else ""
        return ConflictError(
            f"{holder} is at {self._folder.rpartition('/')[0]} already{since}.",
            "one command per sweep at a time",
            "Let it finish, or stop it; then run this command again: it continues.",
        )


def holder_of(store: Store, folder: str) -> Holder | None:
    """Who holds a folder's lease and is not known to be gone."""
    holder = Lease(store, folder).holder
    return None if holder is None or holder.is_dead else holder


@contextmanager
def held(store: Store, folder: str, on_wait: OnNote | None = None) -> Iterator[Lease]:
    """Hold a folder's lease for the time of a block; ConflictError if another command does."""
    lease = Lease(store, folder)
    lease.acquire(on_wait)
    try:
        yield lease
    finally:
        lease.release()


def _now() -> float:
    """Seconds, also those for which the machine was suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _started(pid: int) -> str | None:
    """When a process started, in kernel ticks: process ids are reused, this pair is not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    # Zombies (Z, X) count as dead: in a container nobody may ever reap them.
    return None if fields[0] in "ZX" else fields[19]


def _boot() -> str:
    """Identifies this boot and this PID namespace: containers may share a host name."""
    found = []
    for path in ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"):
        with suppress(OSError):
            where = Path(path)
            found.append(str(where.readlink()) if "ns" in where.parts else where.read_text())
    return "".join(found).strip()
