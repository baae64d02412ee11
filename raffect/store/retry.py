"""Retrying while the store is unreachable, where giving up would cost more than a short wait."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from raffect.errors import StoreError

T = TypeVar("T")
PAUSES_S = (2.0, 5.0, 15.0, 40.0)
"""About a minute in all: long enough for a server to restart or a network to come back."""


def patiently(action: Callable[[], T], pauses: Sequence[float] = PAUSES_S) -> T:
    """The action's value, tried again after each pause (in seconds) as long as the store fails.

    It must be safe to repeat the action, also after an attempt that failed halfway.

    Raises:
        StoreError: The attempt after the last pause fails, too.
    """
    for pause in pauses:
        try:
            return action()
        except StoreError:
            time.sleep(pause)
    return action()
