"""How a stage is run, apart from its settings: where, and who is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

STORE_VARIABLE = "RAFFECT_STORE"
DEFAULT_FEATURES = "clip"
SHARD_ABOVE = 0.5
"""Share of a node's object store from which on features are sharded over workers."""
TRIAL_BYTES = 400_000_000
"""What a trial's process holds for itself, with torch and Ray; it shares features with others."""
DEFAULT_STORE = "./raffect-store"
"""The store of commands that name none, where STORE_VARIABLE does not name one either."""
Progress = Callable[[int, int], None]
"""Called with how much is done and how much there is in all."""
OnNote = Callable[[str], None]
"""Called with a sentence for the user."""


def ignore(*told: object) -> None:
    """Default for callers that show nothing."""


@dataclass(frozen=True)
class Context:
    """How a stage is run; no result depends on it.

    Attributes:
        address: A Ray cluster; None is RAY_ADDRESS, else this machine.
        overwrite: Make anew what is finished under the same name, or was begun with other
            settings; what was begun with the same settings is continued all the same.
        progress: Called as the stage advances.
        on_note: Called with what the user should know, e.g. that the cluster has no room yet.
    """

    address: str | None = None
    overwrite: bool = False
    progress: Progress = ignore
    on_note: OnNote = ignore
