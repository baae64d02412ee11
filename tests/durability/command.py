"""A command in a process of its own, and what it says while it runs."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.durability.driver import EVENT

ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True)
class Event:
    """A line of driver.py."""

    kind: str
    trial: int
    epoch: int
    state: str


class Command:
    """A running command; the newest on its sweep or folder is the one that counts.

    Args:
        arguments: Of Python.
        variables: Its environment.
        log: File that gets what it says on standard error.
    """

    def __init__(self, arguments: list[str], variables: dict[str, str], log: Path) -> None:
        self.events: list[Event] = []
        self.remarks: list[str] = []
        self.log = log
        with log.open("wb") as complaints:
            self.process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=ROOT,
                env=variables,
                stdout=subprocess.PIPE,
                stderr=complaints,
                text=True,
                start_new_session=True,
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(EVENT):
                kind, trial, epoch, state = line.removeprefix(EVENT).split()
                self.events.append(Event(kind, int(trial), int(epoch), state))
            else:
                self.remarks.append(line)

    def wait_until(self, happened: Callable[[list[Event]], bool], within_s: float) -> bool:
        """Wait for what its events tell; False if the command ends before.

        Raises:
            TimeoutError: It takes too long.
        """
        until = time.monotonic() + within_s
        while not happened(self.events):
            if self.process.poll() is not None:
                return False
            if time.monotonic() > until:
                raise TimeoutError(f"{len(self.events)} events in {within_s:g} s")
            time.sleep(0.01)
        return True

    def wait(self, within_s: float) -> int:
        """Its exit code.

        Raises:
            subprocess.TimeoutExpired: It takes too long.
        """
        code = self.process.wait(timeout=within_s)
        self._reader.join(timeout=10)
        return code

    @property
    def complaint(self) -> str:
        """What it said beside the events."""
        errors = self.log.read_text(encoding="utf-8", errors="replace")
        return f"{errors}{''.join(self.remarks)}".strip()
