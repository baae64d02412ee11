"""Why a trial failed, in words that a leaderboard can count: the part before the colon."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from raffect.errors import SettingsError, StoreError

NAN = "nan"
BAD_CONFIG = "bad-config"
OUT_OF_MEMORY = "oom"
LOST_ACTOR = "lost-actor"
STUCK = "stuck"
TOO_LONG = "too-long"
STORAGE = "storage"
LIMIT = "limit"
EXCEPTION = "exception"
STOPPED = "stopped"
"""By a user's hand: no fault of the trial's."""
_LONGEST = 300


def reason_of(error: BaseException) -> str:
    """The reason for an error of a trial's own code."""
    from torch import OutOfMemoryError

    from raffect.training.loop import NotFiniteError

    if isinstance(error, NotFiniteError):
        return _reason(NAN, str(error))
    if isinstance(error, SettingsError):
        return _reason(BAD_CONFIG, error.got)
    if isinstance(error, OutOfMemoryError | MemoryError):
        return _reason(OUT_OF_MEMORY, str(error))
    if isinstance(error, StoreError):
        return _reason(STORAGE, error.got)
    return _reason(EXCEPTION, f"{type(error).__name__}: {error}")


def reason_of_loss(message: str) -> str:
    """The reason for a trial whose process ended, from what the engine says of it."""
    # So Ray's memory monitor words the end of a process that it killed.
    kind = OUT_OF_MEMORY if "running low on memory" in message else LOST_ACTOR
    return _reason(kind, message)


def is_loss(reason: str) -> bool:
    """Whether a trial failed with its process, by nothing that it did, as far as is known."""
    return kind_of(reason) in (LOST_ACTOR, STUCK)


def kind_of(reason: str) -> str:
    """The part of a reason that is the same for the same kind of failure."""
    return reason.partition(":")[0]


def summarise(reasons: Iterable[str]) -> str:
    """Lines for people: how many of each kind, with one example."""
    found = list(reasons)
    example = {kind_of(reason): reason for reason in reversed(found)}
    counts = Counter(kind_of(reason) for reason in found)
    return "\n".join(f"  {n} x {example[kind]}" for kind, n in counts.most_common())


def _reason(kind: str, message: str) -> str:
    text = " ".join(message.split())
    text = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
    return f"{kind}: {text}" if text else kind
