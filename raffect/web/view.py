"""What the page's templates and its JSON show of a sweep."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from itertools import islice
from typing import TypeVar

from raffect.affwild2.tasks import SPECS
from raffect.report.collect import failures
from raffect.report.commands import short_commands
from raffect.report.data import Failure
from raffect.report.sections import WORDS
from raffect.sweep.attributes import FINISHED, STATES
from raffect.sweep.leaderboard import SweepView
from raffect.sweep.records import TrialRow
from raffect.sweep.tally import Tally
from raffect.text import short_names
from raffect.web.live import LiveSweep

T = TypeVar("T")
TOP = 15
"""Trials of the live leaderboard; the report has more of them."""
STATUS_TEXT = {
    "running": "running",
    "finished": "finished",
    "stopped": "stopped",
    "lost": "not heard of",
    "writing": "being written",
}
WIDTH, HEIGHT = 1000, 300
_MOST_RUNNING = 12
_MOST_MARKS = 1500
"""Marks of one state; more would only lie on one another."""
_ROUND_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_INTERVALS = 4
"""Wanted between grid lines; round steps make it a few more or less."""


@dataclass(frozen=True)
class SweepPage:
    """A sweep that could be read, for the templates.

    `store` is a URI; the leaderboard has so many `rows`, None for all.
    """

    live: LiveSweep
    view: SweepView
    store: str = field(repr=False)
    rows: int | None = TOP

    @property
    def title(self) -> str:
        """Its task in words."""
        return WORDS[self.view.task].title

    @property
    def score_name(self) -> str:
        """What is scored."""
        return SPECS[self.view.task].score_name

    @cached_property
    def states(self) -> dict[str, int]:
        """Trials by state, those that there are."""
        counts: dict[str, int] = {state: self.view.counts.get(state, 0) for state in STATES}
        if self.live.status != "running":
            # No command runs them; the next run of the command continues them.
            counts["WAITING"] += counts["RUNNING"]
            counts["RUNNING"] = 0
        return {state: count for state, count in counts.items() if count}

    @property
    def ended(self) -> int:
        """Trials that ended."""
        return sum(self.states.get(state, 0) for state in FINISHED)

    @property
    def share(self) -> list[tuple[str, float, float]]:
        """State, start and width of each segment of the bar, in percent of the target."""
        whole, start, segments = max(self.view.target, sum(self.states.values()), 1), 0.0, []
        for state, count in self.states.items():
            segments.append((state, start, 100 * count / whole))
            start += 100 * count / whole
        return segments

    @cached_property
    def top(self) -> list[TrialRow]:
        """The best trials."""
        ranked = (row for row in self.view.rows if row.model is not None)
        return list(islice(ranked, self.rows))

    @property
    def ranked(self) -> int:
        """Number of trials that could be in the leaderboard."""
        return self.view.tally.makers.total()

    @property
    def running(self) -> list[TrialRow]:
        """Trials that run, the furthest first."""
        if self.live.status != "running":
            return []
        rows = [row for row in self.view.tally.live if row.state == "RUNNING"]
        return sorted(rows, key=lambda row: (-row.epochs, row.number))[:_MOST_RUNNING]

    @cached_property
    def names(self) -> dict[str, str]:
        """Searched parameters, each with a short name."""
        params = dict.fromkeys(name for row in self.top + self.running for name in row.params)
        return short_names(list(params))

    @cached_property
    def failures(self) -> tuple[Failure, ...]:
        """Failed and refused trials by reason."""
        return failures(self.view.tally.failed)

    @property
    def chart(self) -> Chart | None:
        """The curve of the scores."""
        return chart_of(self.view.tally)

    @property
    def rate(self) -> float | None:
        """Trials that ended per hour of late; None where there are too few, or none comes."""
        return rate_of(self.view.tally.ends) if self.live.status == "running" else None

    @property
    def seconds_left(self) -> float | None:
        """Until all trials have ended, at this rate."""
        left = self.view.target - self.ended
        return 3600 * left / self.rate if self.rate and left > 0 else None

    @property
    def commands(self) -> list[str]:
        """What to look at next, ready for a shell."""
        return short_commands(self.view, self.store)


def rate_of(ended: Sequence[str]) -> float | None:
    """Trials per hour, from when the last of them ended."""
    ends = list(map(datetime.fromisoformat, ended))
    seconds = (ends[-1] - ends[0]).total_seconds() if ends else 0.0
    return 3600 * (len(ends) - 1) / seconds if seconds > 0 else None


@dataclass(frozen=True)
class Chart:
    """Scores over the trials' numbers up to `last`, as paths of an SVG; marks by state.

    The box is stretched to the room that there is: lines keep their width, and a mark is a line
    of length 0 with round ends. `grid` are heights of lines, `labels` their scores, from the top.
    """

    marks: dict[str, str]
    best: str
    grid: tuple[float, ...]
    labels: tuple[str, ...]
    last: int


def chart_of(tally: Tally) -> Chart | None:
    """The curve of these trials; None before there is a score."""
    if not tally.points:
        return None
    low, high, step = scale(tally.lowest, tally.highest)
    last = tally.last

    def across(number: int) -> str:
        return f"{WIDTH * (number + 0.5) / (last + 1):.1f}"

    def down(score: float) -> str:
        return f"{HEIGHT * (high - score) / (high - low):.1f}"

    marks = {
        state: "".join(f"M{across(number)} {down(score)}h0" for number, score in thinned(of))
        for state, of in sorted(tally.points.items())
    }
    if failed := thinned([row for row in tally.failed if row.state == "FAIL"]):
        marks["FAIL"] = "".join(f"M{across(row.number)} {HEIGHT}v-9" for row in failed)
    # Stairs: level until a trial is better.
    stairs = ""
    for number, score in tally.stairs:
        x, y = across(number), down(score)
        stairs += f"H{x}V{y}" if stairs else f"M{x} {y}"
    count = round((high - low) / step)
    digits = next(d for d in range(12) if abs(round(step, d) - step) < step * 1e-6)
    return Chart(
        marks=marks,
        best=f"{stairs}H{WIDTH}" if stairs else "",
        grid=tuple(HEIGHT * i / count for i in range(count + 1)),
        # Adding 0.0 turns -0.0 into 0.0.
        labels=tuple(f"{high - step * i + 0.0:.{digits}f}" for i in range(count + 1)),
        last=last,
    )


def scale(low: float, high: float) -> tuple[float, float, float]:
    """Ends of an axis and the step of its grid: round numbers around these two."""
    rough = (high - low or 0.1) / _INTERVALS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in _ROUND_STEPS if power * factor >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return first * step, max(last, first + 1) * step, step


def thinned(marks: Sequence[T], most: int = _MOST_MARKS) -> list[T]:
    """At most `most` of them, evenly."""
    if len(marks) <= most:
        return list(marks)
    return [marks[round(i * (len(marks) - 1) / (most - 1))] for i in range(most)]
