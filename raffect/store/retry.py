"""Waiting for a store that is away, where giving up would cost more than a short wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from raffect.errors import StoreAwayError

T = TypeVar("T")
PATIENCE_S = 60.0
"""Long enough for a server to restart or a network to come back."""
_LONGEST_PAUSE_S = 4.0


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
        except StoreAwayError:
            pause = min(2 * pause, _LONGEST_PAUSE_S)
            if time.monotonic() + pause > until:
                raise
            time.sleep(pause)
