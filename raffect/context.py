"""What every stage is told beside its settings: where it runs and whom it tells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

STORE_VARIABLE = "RAFFECT_STORE"
DEFAULT_STORE = "./raffect-store"
"""The store of commands that name none, where STORE_VARIABLE does not name one either."""
Progress = Callable[[int, int], None]
"""Called with how much is done and how much there is in all."""
OnNote = Callable[[str], None]
"""Called with a sentence for the user."""


def _ignore(*told: object) -> None:
    """For callers that do not want to be told."""


@dataclass(frozen=True)
class Context:
    """How a stage is run; no result depends on it.

    Attributes:
        address: A Ray cluster; None is RAY_ADDRESS, else this machine.
        overwrite: Replace what was made under the same name with other settings; what was begun
            with the same settings is continued all the same.
        progress: Told how far the stage is.
        on_note: Told what the user should know meanwhile, e.g. that the cluster has no room yet.
    """

    address: str | None = None
    overwrite: bool = False
    progress: Progress = _ignore
    on_note: OnNote = _ignore
