"""Ends the processes that a command leaves behind when it is killed.

After kill -9 of a command, Ray's agents go on for a minute, and a process that stands still for
ever; W&B's tries to reach its server. A helper process reads from a pipe that only the command
holds: at its end the command is gone, however it ended. It then gives the processes that carry the
command's mark in their environment, which children inherit, a moment to end by themselves.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

MARK = "RAFFECT_COMMAND"
_GRACE_S = 5.0
_LIMIT_S = 30.0


@contextmanager
def marked() -> Iterator[None]:
    """Processes that begin in this block, and their children, end with this one."""
    before = os.environ.get(MARK)
    os.environ[MARK] = _start()
    try:
        yield
    finally:
        # What a user's own script starts is not ours to end.
        del os.environ[MARK]
        if before is not None:
            os.environ[MARK] = before


@cache
def _start() -> str:
    """Start the helper, once; the mark."""
    mark = uuid.uuid4().hex
    # -S and -E: a bare interpreter starts in hundredths of a second.
    helper = subprocess.Popen(
        [sys.executable, "-S", "-E", __file__, mark],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # Neither Ctrl-C nor a terminal that is closed ends it.
        start_new_session=True,
    )
    _helpers.append(helper)
    return mark


_helpers: list[subprocess.Popen[bytes]] = []


def _find(mark: str) -> list[int]:
    wanted = f"{MARK}={mark}".encode()
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with suppress(OSError):
                if wanted in (process / "environ").read_bytes().split(b"\0"):
                    found.append(int(process.name))
    return found


def _reap(mark: str) -> None:
    """Wait for the command's end, then for that of the processes with its mark, or end them."""
    sys.stdin.buffer.read()
    began = time.monotonic()
    while (left := _find(mark)) and time.monotonic() - began < _LIMIT_S:
        if time.monotonic() - began > _GRACE_S:
            for pid in left:
                with suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(0.5)


if __name__ == "__main__":
    _reap(sys.argv[1])
