"""Calls that may hang: each has a time limit, and a failure is a reply too."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from raffect.doctor.findings import one_line

T = TypeVar("T")


@dataclass(frozen=True)
class Reply(Generic[T]):
    """What a call returned, or why it returned nothing."""

    value: T | None = None
    problem: str = ""


@dataclass(frozen=True)
class Timeouts:
    """Limits for what may hang, in seconds.

    Attributes:
        access: For the cluster to answer at all; importing Ray takes some of it.
        gpus: For torch; its first import from a network disk takes a minute.
        store: For the store's own time-outs and retries.
    """

    access: float = 45.0
    start: float = 60.0
    machine: float = 30.0
    gpus: float = 120.0
    store: float = 180.0


class ScriptError(Exception):
    """A script ended without a result; the message says why."""


def late(seconds: float) -> str:
    """The problem of a call that ran into its time limit."""
    return f"no answer in {seconds:.0f} s"


def within(seconds: float, function: Callable[..., T], *arguments: object) -> Reply[T]:
    """Call a function in a thread, which is abandoned at the time limit (a hung network disk)."""
    replies: list[Reply[T]] = []

    def call() -> None:
        try:
            replies.append(Reply(function(*arguments)))
        except Exception as error:
            replies.append(Reply(problem=one_line(error)))

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(seconds)
    return replies[0] if replies else Reply(problem=late(seconds))


def run_script(
    script: Path, seconds: float, *arguments: str, environment: Mapping[str, str] | None = None
) -> dict[str, object]:
    """Run a script in a process of its own, which it may hang or crash; returns its JSON.

    Args:
        script: Prints JSON as its last line.
        seconds: Time limit.
        *arguments: For the script.
        environment: None means this process's.

    Raises:
        subprocess.TimeoutExpired: The time limit was reached.
        ScriptError: The script crashed.
    """
    # -P: the modules beside the script must not shadow others by their plain names.
    done = subprocess.run(
        [sys.executable, "-P", str(script), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    try:
        found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        # Ray's C++ core prints a failed check before a long stack trace.
        _, _, reason = done.stderr.partition("Check failed: ")
        lines = (reason or done.stderr.strip()).splitlines() or [f"exit code {done.returncode}"]
        raise ScriptError(lines[0] if reason else lines[-1]) from None
    return found
