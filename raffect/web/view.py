"""What the page's templates and its JSON show of a sweep."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from raffect.affwild2.tasks import SPECS
from raffect.report.collect import failures
from raffect.report.data import Failure, Trial, scored, trials_of
from raffect.report.sections import TITLES
from raffect.sweep.attributes import FINISHED, STATES
from raffect.sweep.leaderboard import SweepView
from raffect.sweep.records import TrialJson, TrialRow
from raffect.text import short_names
from raffect.web.watch import Seen

TOP = 15
"""Trials of the live leaderboard; the report has more of them."""
_MOST_RUNNING = 12
_PACE = 20
"""Trials that ended last, from which the rate is taken."""
STATUS_TEXT = {
    "running": "running",
    "finished": "finished",
    "stopped": "stopped",
    "lost": "not heard of",
    "writing": "being written",
}


@dataclass(frozen=True)
class Shown:
    """A sweep that could be read, for the templates.

    Attributes:
        seen: The sweep.
        view: Its leaderboard.
        store: URI of its store.
    """

    seen: Seen
    view: SweepView
    store: str = field(repr=False)

    @property
    def title(self) -> str:
        """Its task in words."""
        return TITLES[self.view.task]

    @property
    def score_name(self) -> str:
        """What is scored."""
        return SPECS[self.view.task].score_name

    @cached_property
    def states(self) -> dict[str, int]:
        """Trials by state, those that there are."""
        counts = self.view.counts
        found = {state: counts.get(state, 0) for state in STATES}
        if self.seen.status != "running":
            # Nobody is at them; the next run of the command continues them.
            found["WAITING"] += found["RUNNING"]
            found["RUNNING"] = 0
        return {state: count for state, count in found.items() if count}

    @property
    def ended(self) -> int:
        """Trials that ended."""
        return sum(self.states.get(state, 0) for state in FINISHED)

    @property
    def share(self) -> list[tuple[str, float, float]]:
        """State, begin and width of each part of the bar, in percent of what was asked for."""
        whole, begin, parts = max(self.view.target, sum(self.states.values()), 1), 0.0, []
        for state, count in self.states.items():
            parts.append((state, begin, 100 * count / whole))
            begin += 100 * count / whole
        return parts

    @property
    def top(self) -> list[TrialRow]:
        """The best trials."""
        return [row for row in self.view.rows if row.model is not None][:TOP]

    @property
    def running(self) -> list[TrialRow]:
        """Trials that run, the furthest first."""
        if self.seen.status != "running":
            return []
        found = [row for row in self.view.rows if row.state == "RUNNING"]
        return sorted(found, key=lambda row: (-row.epochs, row.number))[:_MOST_RUNNING]

    @cached_property
    def names(self) -> dict[str, str]:
        """Searched parameters, each with a short name."""
        params = dict.fromkeys(name for row in self.top + self.running for name in row.params)
        return short_names(list(params))

    @property
    def epochs(self) -> int:
        """A trial's full budget."""
        return int(self.view.config["optimiser"]["epochs"])

    @cached_property
    def failures(self) -> tuple[Failure, ...]:
        """Failed and refused trials by reason."""
        return failures(self.trials)

    @cached_property
    def trials(self) -> tuple[Trial, ...]:
        """The trials by number, as the report has them."""
        return trials_of(self.view.rows)

    @property
    def chart(self) -> Chart | None:
        """The curve of the scores."""
        return chart_of(self.trials)

    @property
    def rate(self) -> float | None:
        """Trials that ended per hour of late; None where there are too few, or none comes."""
        return rate_of(self.view.rows) if self.seen.status == "running" else None

    @property
    def seconds_left(self) -> float | None:
        """Until all trials have ended, at this rate."""
        left = self.view.target - self.ended
        return 3600 * left / self.rate if self.rate and left > 0 else None

    @property
    def commands(self) -> list[str]:
        """What to look at next, ready for a shell."""
        where = f"--store {shlex.quote(self.store)}"
        name = self.view.name
        found = [f"raffect trials {name} {where}", f"raffect report {name} {where}"]
        if self.view.best is not None:
            out = f"--split validation --out {name}.csv"
            found.append(f"raffect predict sweeps/{name} {out} {where}")
        return found


def rate_of(rows: Sequence[TrialRow]) -> float | None:
    """Trials that ended per hour, from the last of them."""
    own = (row.finished for row in rows if row.finished and not row.origin)
    ends = sorted(map(datetime.fromisoformat, own))[-_PACE:]
    seconds = (ends[-1] - ends[0]).total_seconds() if ends else 0.0
    return 3600 * (len(ends) - 1) / seconds if seconds > 0 else None


def sweep_json(seen: Seen) -> dict[str, Any]:
    """A sweep as in `raffect trials --json`, and whether a command is at it."""
    view = seen.view
    found: dict[str, Any] = {"name": seen.name, "status": seen.status, "job": seen.job}
    if view is None:
        return found
    return {
        **found,
        "task": view.task.value,
        "trials": view.counts,
        "target": view.target,
        "best": view.best.score if view.best else None,
        "device_hours": view.device_hours,
        "changed": view.changed,
    }


def trials_json(view: SweepView) -> list[TrialJson]:
    """The leaderboard as in `raffect trials SWEEP --json`."""
    return [row.to_json() for row in view.rows]


def failures_json(view: SweepView) -> dict[str, int]:
    """Trials that failed or were refused, by reason."""
    return {one.kind: len(one.numbers) for one in failures(trials_of(view.rows))}


WIDTH, HEIGHT = 1000, 300
_MOST = 1500
"""Marks of a kind; more would only lie on one another."""
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_INTERVALS = 4


@dataclass(frozen=True)
class Chart:
    """Scores over the trials' numbers.

    The box is stretched to the room that there is: lines keep their width, and a mark is a line
    without length and with round ends.

    Attributes:
        marks: A path for each state that has marks.
        best: The path of the best score so far.
        grid: Heights of the grid's lines.
        labels: Their scores, from the top.
        last: The highest number.
    """

    marks: dict[str, str]
    best: str
    grid: tuple[float, ...]
    labels: tuple[str, ...]
    last: int


def chart_of(trials: Sequence[Trial]) -> Chart | None:
    """The curve of these trials, which are sorted by number; None before there is a score."""
    points = scored(trials)
    if not points:
        return None
    low, high, step = scale([score for _, score in points])
    last = trials[-1].number

    def across(number: int) -> str:
        return f"{WIDTH * (number + 0.5) / (last + 1):.1f}"

    def down(score: float) -> str:
        return f"{HEIGHT * (high - score) / (high - low):.1f}"

    marks: dict[str, list[str]] = {}
    for trial, score in points:
        marks.setdefault(trial.state, []).append(f"M{across(trial.number)} {down(score)}h0")
    for trial in trials:
        if trial.state == "FAIL":
            marks.setdefault("FAIL", []).append(f"M{across(trial.number)} {HEIGHT}v-9")
    count = round((high - low) / step)
    return Chart(
        marks={state: "".join(thinned(found)) for state, found in marks.items()},
        best=_stairs(trials, across, down),
        grid=tuple(HEIGHT * i / count for i in range(count + 1)),
        labels=tuple(_label(high - step * i, step) for i in range(count + 1)),
        last=last,
    )


def _stairs(
    trials: Sequence[Trial], across: Callable[[int], str], down: Callable[[float], str]
) -> str:
    """The best score so far: level until a trial is better."""
    found, best = "", None
    for trial in trials:
        if trial.best_so_far is not None and trial.best_so_far != best:
            best = trial.best_so_far
            x, y = across(trial.number), down(best)
            found += f"H{x}V{y}" if found else f"M{x} {y}"
    return f"{found}H{WIDTH}" if found else ""


def scale(values: Sequence[float]) -> tuple[float, float, float]:
    """Ends of an axis and the step of its grid: round numbers around these values."""
    low, high = min(values), max(values)
    rough = (high - low or 0.1) / _INTERVALS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in _STEPS if power * factor >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return first * step, max(last, first + 1) * step, step


def thinned(found: Sequence[str], most: int = _MOST) -> list[str]:
    """At most so many, evenly."""
    if len(found) <= most:
        return list(found)
    return [found[round(i * (len(found) - 1) / (most - 1))] for i in range(most)]


def _label(value: float, step: float) -> str:
    digits = next(d for d in range(12) if abs(round(step, d) - step) < step * 1e-6)
    return f"{value + 0.0:.{digits}f}"
