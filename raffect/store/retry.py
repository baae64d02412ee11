"""Waiting for a store that is away, where giving up would cost more than a short wait."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from raffect.context import OnNote
from raffect.errors import StoreAwayError
from raffect.text import duration

T = TypeVar("T")
PATIENCE_S = 60.0
"""Long enough for a server to restart or a network to come back."""
_LONGEST_PAUSE_S = 4.0
REQUEST_S = 60.0
"""How long a request is tried in all, beside the time that its bytes may take."""
SLOWEST = 1 << 18
"""Bytes per second that a connection must carry at least."""


_SILENCE_S = 7.0
"""How long a request may take without a word: its attempts take up to 6 s where nobody listens."""


class Outage:
    """Tells the user that a store does not answer, and that it does again: once each.

    Attributes:
        on_note: Set by a command that has a screen; None in all other processes.
    """

    def __init__(self) -> None:
        self.on_note: OnNote | None = None
        self._is_told = False

    def met(self, why: str, seconds: float) -> None:
        """The store does not answer, and is asked for so many seconds more."""
        if self.on_note is not None and not self._is_told:
            self._is_told = True
            until = time.strftime("%H:%M:%S", time.localtime(time.time() + seconds))
            self.on_note(f"The store does not answer ({why}); trying again until {until}.")

    def over(self) -> None:
        """It has answered."""
        if self._is_told:
            self._is_told = False
            if self.on_note is not None:
                self.on_note("The store answers again.")


OUTAGE = Outage()
"""Of this process."""


def patiently(action: Callable[[], T], patience_s: float = PATIENCE_S) -> T:
    """The action's value, tried again after growing pauses while the store is away.

    It must be safe to repeat the action, also after an attempt that failed halfway.

    Raises:
        StoreAwayError: The store is still away after `patience_s` seconds, or a little less where
            the next pause would end later.
    """
    until = time.monotonic() + patience_s
    pause = 0.5
    while True:
        try:
            return action()
        except StoreAwayError as error:
            pause, now = min(2 * pause, _LONGEST_PAUSE_S), time.monotonic()
            if now + pause > until:
                raise
            OUTAGE.met(error.why, until - now)
            time.sleep(pause)


class Clock:
    """The time that a request, or all requests for one object, may take: it grows with the size.

    A time-out of the socket does not bound it: a byte now and then keeps the connection open.

    Args:
        size: Bytes to be transferred, as far as known.
    """

    def __init__(self, size: int = 0) -> None:
        self._began = time.monotonic()
        self.size = size

    @property
    def limit(self) -> float:
        """Seconds in all."""
        return REQUEST_S + self.size / SLOWEST

    @property
    def elapsed(self) -> float:
        """Seconds until now."""
        return time.monotonic() - self._began

    def running(self) -> asyncio.Timeout:
        """Let a block raise TimeoutError when the time is up."""
        return asyncio.timeout(self.limit - self.elapsed)

    @contextmanager
    def watched(self, progress: Callable[[], int]) -> Iterator[None]:
        """Tell the user where nothing happens in a block, as far as `progress` counts it."""

        async def watch() -> None:
            # What is sent is not counted.
            wait, before = _SILENCE_S + self.size / SLOWEST, -1
            while progress() != before:
                before = progress()
                await asyncio.sleep(wait)
            OUTAGE.met(f"nothing for {wait:.0f} s", self.limit - self.elapsed)

        watching = None if OUTAGE.on_note is None else asyncio.create_task(watch())
        try:
            yield
        finally:
            if watching is not None:
                watching.cancel()


class GaveUpError(OSError):
    """No attempt at a request succeeded; the cause is what the last one met."""

    def __init__(self, attempts: int, clock: Clock) -> None:
        tried = "once" if attempts == 1 else f"{attempts} times"
        super().__init__(
            f"tried {tried} in {duration(clock.elapsed)}, of {duration(clock.limit)} at most"
        )

    def __reduce__(self) -> tuple[type[OSError], tuple[str]]:
        return OSError, (str(self),)
