"""The ranges of a space's parameters, as Optuna writes them and as people read them."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from raffect.text import short_value


@dataclass(frozen=True)
class Range:
    """The values that a parameter may take: from bounds, or one of some choices."""

    low: float | None = None
    high: float | None = None
    log: bool = False
    step: float | None = None
    choices: tuple[Any, ...] = ()

    def __str__(self) -> str:
        if self.choices:
            return ", ".join(map(short_value, self.choices))
        notes = " log" if self.log else f" by {short_value(self.step)}" if self.step else ""
        return f"{short_value(self.low)} – {short_value(self.high)}{notes}"

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
    """Index of the range that lies in all others; None if there is no such one."""
    for index, own in enumerate(ranges):
        if own is not None and all(one is not None and one.contains(own) for one in ranges):
            return index
    return None
