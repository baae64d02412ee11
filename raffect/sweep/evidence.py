"""How sure a sweep's scores are, from its trials' sums per video: apart from the leaderboard.

A leaderboard is read from the study alone. This reads a small file of every trial besides, so that
it is done when someone looks at it (SweepView.evidence).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from raffect.affwild2.selection import FEWEST_VIDEOS, Differences, judge
from raffect.affwild2.tasks import Task
from raffect.store import Store
from raffect.sweep.paired import Paired, Sums, read_all_sums
from raffect.sweep.records import TrialRow

MOST_JUDGED = 2_000
"""Trials that are judged, the best first: the others of a longer sweep are clearly worse."""

_PAUSE = 10
"""Times what the evidence took, until it is read again."""


@dataclass(frozen=True)
class TrialEvidence:
    """How certain a trial's score is, by resampling the validation videos.

    Attributes:
        interval: 95 % interval of the score.
        probability_best: Share of the resamples in which it is the best trial.
        versus_recipe: None while the recipe has no score in full; so for the recipe itself.
        versus_best: None for the best trial itself.
    """

    interval: tuple[float, float]
    probability_best: float
    versus_recipe: Paired | None = None
    versus_best: Paired | None = None


@dataclass(frozen=True)
class Evidence:
    """How certain a sweep's scores are.

    Attributes:
        trials: By number, those that kept their sums, at most MOST_JUDGED and the recipe.
        expected: What the best trial is worth on as many new videos, which chose nothing
            (selection.expected_of_best); None where it can't be said.
        videos: Validation videos that are resampled.
        missing: Why there is no evidence for the best trial; empty if there is.
    """

    trials: Mapping[int, TrialEvidence] = field(default_factory=dict)
    expected: float | None = None
    videos: int = 0
    missing: str = ""


@dataclass
class Judged:
    """Evidence for who looks at a sweep again and again: of many trials it takes seconds.

    While the best trial and the recipe's score are the same, a tenth of the time goes there.
    """

    shown: object = None
    evidence: Evidence = Evidence()
    again: float = 0.0

    def read(
        self,
        store: Store,
        task: Task,
        rows: Sequence[TrialRow],
        recipe: TrialRow | None,
        searched: bool,
    ) -> Evidence:
        """As `read_evidence`, of now or of a moment ago."""
        began = time.monotonic()
        best = next((row.number for row in rows if row.is_candidate), None)
        shown = best, recipe and recipe.full_score
        if shown != self.shown or began > self.again:
            self.evidence = read_evidence(store, task, rows, recipe, searched)
            self.shown = shown
            self.again = time.monotonic() + _PAUSE * (time.monotonic() - began)
        return self.evidence


def read_evidence(
    store: Store, task: Task, rows: Sequence[TrialRow], recipe: TrialRow | None, searched: bool
) -> Evidence:
    """The evidence of trials, the best first; `searched`: the best of them was chosen."""
    rows = [*rows[:MOST_JUDGED], *(row for row in rows[MOST_JUDGED:] if row is recipe)]
    found = read_all_sums(store, rows)
    candidates = [row for row in rows if row.is_candidate]
    if not candidates:
        return Evidence()
    best = candidates[0].number
    if best not in found:
        return Evidence(
            missing="the best trial kept no sums per video, as trials of raffect before 0.4; "
            "those of a new sweep do"
        )
    # Trials that were taken over may have been scored on other videos.
    videos, _ = found[best]
    judged = [row for row in rows if row.number in found and found[row.number][0] == videos]
    numbers = [row.number for row in judged]
    whole = recipe is not None and recipe.state == "COMPLETE" and recipe.number in numbers
    selection = judge(
        task,
        np.stack([found[number][1] for number in numbers]),
        candidates=np.array([row.is_candidate for row in judged]),
        compared=np.array([row.state == "COMPLETE" for row in judged]),
        reference=numbers.index(recipe.number) if whole and recipe is not None else None,
    )
    if selection is None:
        few = f"{len(videos)} validation video{'s' if len(videos) > 1 else ''}"
        return Evidence(
            missing=f"{few} say nothing about others: at least {FEWEST_VIDEOS} are needed"
        )

    def difference(of: Differences | None, index: int) -> Paired | None:
        if of is None or of.reference == index:
            return None
        return Paired(float(of.values[index]), _pair(of.intervals[index]))

    return Evidence(
        trials={
            number: TrialEvidence(
                interval=_pair(selection.intervals[index]),
                probability_best=float(selection.probability_best[index]),
                versus_recipe=difference(selection.versus_reference, index),
                versus_best=difference(selection.versus_best, index),
            )
            for index, number in enumerate(numbers)
        },
        expected=selection.expected if searched else None,
        videos=len(videos),
    )


def _pair(interval: Sums) -> tuple[float, float]:
    return float(interval[0]), float(interval[1])
