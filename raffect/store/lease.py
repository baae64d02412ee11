"""One driver per sweep: a lease in the store that its holder renews while it lives.

Leases are numbered objects. Whoever creates the next number by a conditional write holds the
sweep; only the holder rewrites its object, with a counter that grows. Nobody compares clocks: a
lease is dead when its counter stands still for TTL_S by the waiting command's own clock. A holder
on this machine whose process is gone is dead at once.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from raffect.errors import ConflictError, StoreError
from raffect.store import Store

RENEW_S = 5.0
TTL_S = 30.0
"""Six renewals: a driver may lose the store that long and keep its sweep."""
OnWait = Callable[[str], None]


class Lease:
    """A sweep's lease, held by this process after `acquire`.

    Args:
        store: The store.
        folder: Where the lease's objects lie.
        renew_s: Seconds between renewals.
        ttl_s: Seconds without a renewal after which the lease is another's to take.
    """

    def __init__(
        self, store: Store, folder: str, renew_s: float = RENEW_S, ttl_s: float = TTL_S
    ) -> None:
        self._store = store
        self._folder = folder
        self._renew_s = renew_s
        self._ttl_s = ttl_s
        self._id = uuid.uuid4().hex
        self._number = 0
        self._renewals = 0
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def acquire(self, on_wait: OnWait | None = None) -> None:
        """Take the lease, as soon as its last holder is gone.

        Args:
            on_wait: Told once when there is something to wait for.

        Raises:
            ConflictError: Its holder lives.
        """
        while True:
            current = self._newest()
            if current is not None:
                self._outlive(current, on_wait)
            self._number = (current or 0) + 1
            if self._store.create(self._key(self._number), self._content()):
                break
        if current is not None:
            self._store.delete(self._key(current))
        self._thread = threading.Thread(target=self._keep, daemon=True, name="raffect-lease")
        self._thread.start()

    def release(self) -> None:
        """Give the lease back; another command may take it at once."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
            if self._is_mine():
                self._store.delete(self._key(self._number))

    def _outlive(self, number: int, on_wait: OnWait | None) -> None:
        """Return when the holder is gone.

        Raises:
            ConflictError: It renews its lease.
        """
        first = self._read(number)
        if first is None or _is_dead_here(first):
            return
        if _is_here(first):
            raise _held(self._folder, first)
        if on_wait is not None:
            on_wait(
                f"{_describe(first)} may still be at this sweep; waiting up to {self._ttl_s:g} s."
            )
        until = time.monotonic() + self._ttl_s
        while time.monotonic() < until:
            time.sleep(min(1.0, self._renew_s / 2))
            now = self._read(number)
            if now is None:
                return
            if now != first:
                raise _held(self._folder, now)

    def _keep(self) -> None:
        while not self._ended.wait(self._renew_s):
            self._renewals += 1
            try:
                if not self._is_mine():
                    # Taken over while this process was stopped or cut off; the study's next
                    # write is refused (journal.py), and says so.
                    return
                self._store.write_bytes(self._key(self._number), self._content())
            except StoreError:
                continue

    def _is_mine(self) -> bool:
        found = self._read(self._number)
        return found is not None and found["id"] == self._id

    def _content(self) -> bytes:
        facts = {
            "id": self._id,
            "host": socket.gethostname(),
            "boot": _boot(),
            "pid": os.getpid(),
            "started": _started(os.getpid()),
            "job": os.environ.get("RAFFECT_JOB"),
            "renewals": self._renewals,
        }
        return json.dumps(facts).encode()

    def _newest(self) -> int | None:
        numbers = [int(name.removesuffix(".json")) for name in self._store.names(self._folder)]
        return max(numbers, default=None)

    def _read(self, number: int) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = self._store.read_json(self._key(number))
        except FileNotFoundError:
            return None
        return found

    def _key(self, number: int) -> str:
        return f"{self._folder}/{number:08d}.json"


@contextmanager
def held(store: Store, folder: str, on_wait: OnWait | None = None) -> Iterator[Lease]:
    """The lease of a folder for the time of a block.

    Raises:
        ConflictError: Another command holds it.
    """
    lease = Lease(store, folder)
    lease.acquire(on_wait)
    try:
        yield lease
    finally:
        lease.release()


def _is_here(holder: dict[str, Any]) -> bool:
    return (holder["host"], holder["boot"]) == (socket.gethostname(), _boot())


def _is_dead_here(holder: dict[str, Any]) -> bool:
    """Whether it is a process of this machine, and gone."""
    return _is_here(holder) and _started(holder["pid"]) != holder["started"]


def _started(pid: int) -> str | None:
    """When a process began, in the kernel's own count: numbers of processes come again."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    # Dead, and only kept until its parent asks how it ended, which in a container may be never.
    return None if fields[0] in "ZX" else fields[19]


def _boot() -> str:
    """What tells this machine's run from others of the same name, e.g. containers'."""
    found = []
    for path in ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"):
        try:
            where = Path(path)
            found.append(str(where.readlink()) if "ns" in where.parts else where.read_text())
        except OSError:
            continue
    return "".join(found).strip()


def _describe(holder: dict[str, Any]) -> str:
    job = f", job {holder['job']}" if holder.get("job") else ""
    return f"Process {holder['pid']} on {holder['host']}{job}"


def _held(folder: str, holder: dict[str, Any]) -> ConflictError:
    return ConflictError(
        f"{_describe(holder)}, is at {folder.rpartition('/')[0]} already.",
        "one command per sweep at a time",
        "Let it finish, or stop it; then give this command again: it continues.",
    )
