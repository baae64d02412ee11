"""Ctrl-C, SIGTERM, SIGHUP and SIGUSR1: the first ends a command in order, the second at once.

Kubernetes, Slurm and `raffect jobs stop` end a command by a signal, as does a terminal that is
closed. Python runs a signal's handler in the main thread, and only when that is back from C: one
that waits in Ray or for a socket hears nothing. So two places hear of each signal:

- the handler raises KeyboardInterrupt in the main thread, unless a block is `deferred`;
- a thread reads the numbers that Python's C code writes to its wake-up pipe, whoever has the
  handler. It says what happens, ends the process on the second signal, and brings the main thread
  back from a wait that began at the very moment of the first, or whose signal another thread got.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
"""Slurm's `--signal=USR1@60` is the usual warning before a time limit."""
_SAME_S = 0.3
"""A supervisor and a terminal may both send one; within this time they count as one."""
_PATIENCE_S = 25.0
"""Kubernetes and Slurm send SIGKILL 30 s after SIGTERM."""
_WAKE = signal.SIGURG
"""Ends a wait of the main thread, so that Python runs the handlers; nobody else sends it."""
_WAKE_EVERY_S = 0.5
_MOST_WAKES = 20
_SHOW_CURSOR = b"\x1b[?25h"


class _State:
    """Of this process; a command runs once in it."""

    first: int | None = None
    """The stop signal that came first."""
    deferred = 0
    silent = False
    raised = False
    said = threading.Event()
    """Its word is out."""
    hushed: int | None = None
    """Where standard error leads, while it is kept from others."""


def install() -> None:
    """Let the stop signals end this process, which runs one command; in the main thread."""
    for number in STOP:
        # `nohup` ignores SIGHUP: then the command outlives its terminal.
        if number is signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _handle)
    signal.signal(_WAKE, lambda number, frame: None)
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(read,), daemon=True, name="raffect-signals").start()


def received() -> signal.Signals | None:
    """The stop signal that came first; None as long as none has."""
    return None if _State.first is None else signal.Signals(_State.first)


def by_ctrl_c() -> bool:
    """Whether a KeyboardInterrupt comes from a terminal's user, and not from a supervisor."""
    return received() in (None, signal.SIGINT)


def exit_code() -> int:
    """What a command exits with that was interrupted."""
    return 128 + (received() or signal.SIGINT)


def let_say() -> None:
    """Wait for the word on a stop signal, before the last one of a command that ended soon."""
    if _State.first is not None:
        _State.said.wait(1.0)


@contextmanager
def kept() -> Iterator[None]:
    """Put the handlers back after a block in which a library sets its own.

    ray.init() takes SIGTERM, Ray Tune SIGINT and SIGUSR1, and neither gives them back.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in STOP}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def deferred() -> Iterator[None]:
    """A block that asks `received` itself and ends in order; then KeyboardInterrupt is raised.

    One that is raised in one of Ray's callbacks can be swallowed there, or leave a lock held.
    """
    _State.deferred += 1
    try:
        yield
    finally:
        _State.deferred -= 1
    if _State.first is not None:
        _raise()


@contextmanager
def silent() -> Iterator[None]:
    """A block that says itself what a stop signal does to it."""
    _State.silent = True
    try:
        yield
    finally:
        # The thread that would say it may not have been there yet.
        _State.silent = _State.first is not None


@contextmanager
def hushed() -> Iterator[None]:
    """Silence standard error for all but a stop signal's word, as Ray's C++ core prints there."""
    kept = os.dup(2)
    _State.hushed = kept
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        _State.hushed = None
        os.close(kept)


@contextmanager
def until_ctrl_c() -> Iterator[None]:
    """A block that Ctrl-C ends as its user means it to end; other signals interrupt it."""
    with silent():
        try:
            yield
        except KeyboardInterrupt:
            if not by_ctrl_c():
                raise


def _handle(number: int, frame: FrameType | None) -> None:
    if _State.first is None:
        _State.first = number
    if not _State.deferred and not _State.raised:
        _raise()


def _raise() -> None:
    # Once: the next one ends the process, and must not break the clean-up before that.
    _State.raised = True
    raise KeyboardInterrupt


def _watch(pipe: int) -> None:
    heard: float | None = None
    while True:
        for number in os.read(pipe, 64):
            if number not in STOP:
                continue
            now = time.monotonic()
            if heard is None:
                heard = now
                if _State.first is None:
                    _State.first = number
                # A thread each: what is written to may not be read any more.
                _start(_say)
                _start(_wake)
                if number != signal.SIGINT:
                    _start(_leave, _PATIENCE_S)
            elif now - heard > _SAME_S:
                _leave()


def _wake() -> None:
    main = threading.main_thread().ident
    for _ in range(_MOST_WAKES):
        time.sleep(_WAKE_EVERY_S)
        if _State.raised or main is None:
            return
        signal.pthread_kill(main, _WAKE)


def _say() -> None:
    try:
        _write_word()
    finally:
        _State.said.set()


def _write_word() -> None:
    if not _State.silent:
        stopped = "" if by_ctrl_c() else f" ({signal.Signals(exit_code() - 128).name})"
        said = f"Stopping{stopped}; again to leave now.\n"
        with suppress(OSError):
            if (kept := _State.hushed) is not None:
                os.write(kept, said.encode())
                return
        with suppress(OSError, ValueError):
            # Through sys.stderr: a live table has its own there, which writes above the table.
            sys.stderr.write(said)
            sys.stderr.flush()


def _leave(after_s: float = 0.0) -> None:
    """End the process as it is; what is unfinished is never taken for complete."""
    time.sleep(after_s)
    thread = _start(_show_cursor)
    thread.join(1.0)
    os._exit(exit_code())


def _show_cursor() -> None:
    if os.isatty(1):
        os.write(1, _SHOW_CURSOR)


def _start(target: Callable[..., None], *arguments: object) -> threading.Thread:
    thread = threading.Thread(target=target, args=arguments, daemon=True)
    thread.start()
    return thread
