"""Where the marks of the live curve lie: one path for each kind, in a box of 1000 by 300."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from raffect.report.data import Trial
from raffect.report.trials import scored

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
