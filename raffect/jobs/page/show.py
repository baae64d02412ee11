"""What the page's templates and its JSON show of a sweep."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from raffect.affwild2.tasks import SPECS
from raffect.jobs.page.chart import Chart, chart_of
from raffect.jobs.page.watch import Seen
from raffect.report.collect import failures
from raffect.report.data import Failure, Trial
from raffect.report.naming import short_names
from raffect.report.trials import trials_of
from raffect.report.view import TITLES
from raffect.sweep.leaderboard import SweepView
from raffect.sweep.rows import TrialRow

STATES = ("COMPLETE", "PRUNED", "FAIL", "RUNNING", "WAITING")
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
        return sum(self.states.get(state, 0) for state in ("COMPLETE", "PRUNED", "FAIL"))

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


def trials_json(view: SweepView) -> list[dict[str, Any]]:
    """The leaderboard as in `raffect trials SWEEP --json`."""
    names = ("number", "state", "score", "epochs", "seconds", "params", "reason", "model")
    return [{name: getattr(row, name) for name in names} for row in view.rows]


def failures_json(view: SweepView) -> dict[str, int]:
    """Trials that failed or were refused, by reason."""
    return {one.kind: len(one.numbers) for one in failures(trials_of(view.rows))}
