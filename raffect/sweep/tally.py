"""What a sweep's trials come to, kept from look to look: a page that is watched adds what ended.

Of the trials that ended before, a look copies references, 8 bytes of each in a few lists: whoever
draws the look before goes on with its own.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from typing import Any, TypeVar

from optuna.trial import FrozenTrial

from raffect.sweep.attributes import FINISHED
from raffect.sweep.records import Maker, TrialRow, rank

T = TypeVar("T")
PACE = 20
"""Trials that ended last, from which the rate is taken."""
_FEW = 30
"""More than these are sorted together with all that are there."""
_Point = tuple[int, float]


class Tally:
    """Trials as they stand at a look.

    Attributes:
        ended: Those that ended, best first.
        live: The others, by number.
        points: By state, number and score of those that ended with a finite score, by number.
        stairs: Number and score of those that were the best so far when trials go by number.
        failed: Those that failed or were refused, by number.
        recipes: Those with the base settings.
        makers: How many of those with a model were computed by what.
        counts: How many there are by state, without those taken over from other sweeps.
        ends: When the last PACE of its own ended, ISO 8601.
        changed: When the last one ended; None if none has.
        lowest: Of these scores; infinite if there is none.
        highest: Likewise.
        last: The highest number; -1 if there is none.
        nanoseconds: Device time of all epochs; whole, so that their order does not matter.
    """

    def __init__(self) -> None:
        self.ended: list[TrialRow] = []
        self.live: list[TrialRow] = []
        self.points: dict[str, list[_Point]] = {}
        self.stairs: list[_Point] = []
        self.failed: list[TrialRow] = []
        self.recipes: list[TrialRow] = []
        self.makers: Counter[tuple[Maker, ...]] = Counter()
        self.counts: Counter[str] = Counter()
        self.ends: list[str] = []
        self.changed: str | None = None
        self.lowest = math.inf
        self.highest = -math.inf
        self.last = -1
        self.nanoseconds = 0

    @classmethod
    def of(cls, rows: Iterable[TrialRow]) -> Tally:
        """That of trials in any order."""
        some = sorted(rows, key=_number)
        ended = [row for row in some if row.state in FINISHED]
        return cls().grown(ended, [row for row in some if row.state not in FINISHED])

    def look(
        self, trials: Sequence[FrozenTrial], read: Callable[[FrozenTrial], TrialRow]
    ) -> Tally:
        """The next look at a study's trials, by number; Optuna changes none that has ended."""
        rows = [read(trials[row.number]) for row in self.live]
        rows += map(read, trials[self.last + 1 :])
        ended = [row for row in rows if row.state in FINISHED]
        return self.grown(ended, [row for row in rows if row.state not in FINISHED])

    def grown(self, ended: Sequence[TrialRow], live: Sequence[TrialRow]) -> Tally:
        """The next look: more trials have ended, and `live` are all that have not."""
        found = Tally()
        for name, value in vars(self).items():
            setattr(found, name, copy(value))
        found.points = {state: list(of) for state, of in self.points.items()}
        found._forget_live()
        _sort_in(found.ended, ended, rank)
        _sort_in(found.failed, [row for row in ended if _has_failed(row)], _number)
        for row in ended:
            found._add(row)
        for state, new in _by_state(ended).items():
            _sort_in(found.points.setdefault(state, []), new, None)
            found.lowest = min(found.lowest, *(score for _, score in new))
            found.highest = max(found.highest, *(score for _, score in new))
        own = [row.finished for row in ended if row.finished and not row.origin]
        found.ends = sorted([*found.ends, *own])[-PACE:]
        found.live = list(live)
        for row in live:
            found._count(row, 1)
        return found

    @property
    def rows(self) -> list[TrialRow]:
        """All of them, best first: those with a final score, then the rest by number."""
        found = list(self.ended)
        _sort_in(found, self.live, rank)
        return found

    def _forget_live(self) -> None:
        for row in self.live:
            self._count(row, -1)

    def _count(self, row: TrialRow, by: int) -> None:
        if row.origin is None:
            self.counts[row.state] += by
        self.nanoseconds += by * round(1e9 * row.device_seconds)
        self.last = max(self.last, row.number)

    def _add(self, row: TrialRow) -> None:
        self._count(row, 1)
        if row.recipe:
            self.recipes.append(row)
        if row.model is not None:
            self.makers[row.makers] += 1
        if row.finished:
            self.changed = max(self.changed or "", row.finished)
        if row.is_candidate and row.score is not None:
            self._climb((row.number, row.score))

    def _climb(self, point: _Point) -> None:
        at = bisect_left(self.stairs, point)
        if at and self.stairs[at - 1][1] >= point[1]:
            return
        end = at
        while end < len(self.stairs) and self.stairs[end][1] <= point[1]:
            end += 1
        self.stairs[at:end] = [point]


def _number(row: TrialRow) -> int:
    return row.number


def _has_failed(row: TrialRow) -> bool:
    return row.state == "FAIL" or bool(row.reason and row.score is None)


def _by_state(ended: Iterable[TrialRow]) -> dict[str, list[_Point]]:
    found: dict[str, list[_Point]] = {}
    for row in ended:
        if row.model is not None and row.score is not None and math.isfinite(row.score):
            found.setdefault(row.state, []).append((row.number, row.score))
    return found


def _sort_in(known: list[T], new: Sequence[T], key: Callable[[T], Any] | None) -> None:
    if len(new) > _FEW:
        known += new
        known.sort(key=key)
    else:
        for one in new:
            insort(known, one, key=key)  # type: ignore[arg-type]
