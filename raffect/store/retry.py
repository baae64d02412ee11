"""Waiting for a store that does not answer, where giving up would cost more than a minute."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from raffect.errors import StoreError

T = TypeVar("T")
PAUSES_S = (2.0, 5.0, 15.0, 40.0)
"""About a minute: a server that restarts, a network that comes back."""


def patiently(action: Callable[[], T], pauses: Sequence[float] = PAUSES_S) -> T:
    """The action's value, tried again after each pause as long as the store fails.

    Args:
        action: May be repeated after any part of it was done.
        pauses: Seconds.

    Raises:
        StoreError: It fails after the last pause, too.
    """
    for pause in pauses:
        try:
            return action()
        except StoreError:
            time.sleep(pause)
    return action()
