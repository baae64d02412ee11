"""Searched ranges, read back from the words in which a sweep's plan keeps them."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Range:
    """The values that a parameter may take.

    Attributes:
        low: The least; None for choices.
        high: The largest.
        log: Searched by its logarithm.
        step: Between two values; None where all are allowed.
        choices: The allowed values, instead of bounds.
    """

    low: float | None = None
    high: float | None = None
    log: bool = False
    step: float | None = None
    choices: tuple[Any, ...] = ()

    def contains(self, other: Range) -> bool:
        """Whether all values of another range are in this one, but for its steps."""
        if self.low is None or self.high is None or other.low is None or other.high is None:
            return bool(other.choices) and all(choice in self.choices for choice in other.choices)
        return self.low <= other.low and other.high <= self.high


def parse_range(text: str) -> Range | None:
    """A range from how Optuna writes a distribution; None for anything else.

    E.g. `FloatDistribution(high=0.7, log=False, low=0.3, step=None)`.
    """
    try:
        call = ast.parse(text, mode="eval").body
        if not isinstance(call, ast.Call):
            return None
        found = {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
    except (SyntaxError, ValueError):
        return None
    if "choices" in found:
        return Range(choices=tuple(found["choices"]))
    if {"low", "high"} <= set(found):
        step = found.get("step")
        whole = step == 1 and isinstance(found["low"], int)
        return Range(found["low"], found["high"], bool(found.get("log")), None if whole else step)
    return None


def narrowest(ranges: Sequence[Range | None]) -> int | None:
    """The one of several ranges that lies in all others; None if there is no such one."""
    for index, own in enumerate(ranges):
        others = [other for i, other in enumerate(ranges) if i != index]
        if own is not None and all(o is not None and o.contains(own) for o in others):
            return index
    return None
