"""What a new sweep begins with: its first trials, and what other sweeps bring to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from optuna.trial import FrozenTrial


@dataclass(frozen=True)
class Overlap:
    """What one sweep brought to another.

    Attributes:
        results: Trials taken over as results.
        points: Trials of which only the parameters are tried.
        comparable: Its trials may count as results.
        shared: Parameters with the same range in both.
        narrowed: Parameters whose ranges differ.
        unknown: Parameters that this space does not search.
        added: Parameters that only this space searches.
    """

    sweep: str
    results: int
    points: int
    comparable: bool
    shared: tuple[str, ...] = ()
    narrowed: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    added: tuple[str, ...] = ()

    def describe(self) -> list[str]:
        """Lines for people."""
        why = "" if self.comparable else " (its scores mean something else here)"
        groups = {
            "same range": self.shared,
            "other range": self.narrowed,
            "not searched here": self.unknown,
            "only searched here": self.added,
        }
        return [
            f"From {self.sweep}: {self.results} results, {self.points} points to try{why}",
            *(f"  {what}: {', '.join(names)}" for what, names in groups.items() if names),
        ]


@dataclass
class Beginning:
    """The first trials of a new study.

    Attributes:
        points: Parameters to try first, in order, each with the trial's attributes; parameters
            that a point leaves out are sampled.
        results: Trials of other studies that count as this one's; one with the recipe's
            configuration comes first.
        overlaps: What each of the other sweeps brought.
    """

    points: list[tuple[Mapping[str, Any], Mapping[str, Any]]] = field(default_factory=list)
    results: list[FrozenTrial] = field(default_factory=list)
    overlaps: list[Overlap] = field(default_factory=list)
