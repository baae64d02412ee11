"""The processes of one run, found by a mark in their environment, which children inherit."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

MARK = "RAFFECT_DURABILITY_RUN"
_TRIALS = (b"ray::SweepTrial", b"ray::ResourceTrainable")
"""Titles of an actor that runs trials, idle and at work; Ray sets them."""
_RAYS_OWN = (b"ray::IDLE", b"ray::DashboardAgent", b"ray::RuntimeEnvAgent")
"""Titles of processes that do no work of ours."""


def marked(mark: str) -> list[int]:
    """Processes that a run has started, those that its own have left behind among them."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for pid in _all():
        with suppress(OSError):
            if wanted in (Path(f"/proc/{pid}/environ").read_bytes()).split(b"\0"):
                found.append(pid)
    return found


def trial_actors(pids: list[int]) -> list[int]:
    """Those that run trials."""
    return titled(pids, *_TRIALS)


def titled(pids: list[int], *begins: bytes) -> list[int]:
    """Those whose title begins so."""
    return [pid for pid in pids if _title(pid).startswith(begins)]


def ray_workers(pids: list[int]) -> list[int]:
    """Those in which Ray runs a task or an actor."""
    titles = {pid: _title(pid) for pid in pids}
    return [
        pid
        for pid, title in titles.items()
        if title.startswith(b"ray::") and not title.startswith(_RAYS_OWN)
    ]


def descendants(pid: int) -> list[int]:
    """A process's children, their children, and so on."""
    parents = {}
    for other in _all():
        with suppress(OSError):
            stat = Path(f"/proc/{other}/stat").read_text().rpartition(")")[2].split()
            parents[other] = int(stat[1])
    found, waiting = [], [pid]
    while waiting:
        parent = waiting.pop()
        children = [other for other, of in parents.items() if of == parent]
        found += children
        waiting += children
    return found


def kill(pids: list[int]) -> None:
    """kill -9, as nearly at once as it can be done."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def kill_marked(mark: str, within_s: float = 20.0) -> None:
    """Kill all that a run has started, also what starts meanwhile.

    Raises:
        RuntimeError: Some are still there.
    """
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        left = marked(mark)
        if not left:
            return
        kill(left)
        time.sleep(0.05)
    raise RuntimeError(f"These processes can't be killed: {marked(mark)}")


def _all() -> Iterator[int]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            yield int(folder.name)


def _title(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
