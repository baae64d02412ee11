"""Lists of sweeps, and sweeps side by side, for people."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.text import Text

from raffect.text import duration, score_text, short_names, short_value

if TYPE_CHECKING:
    from raffect.cli.screen import Screen
    from raffect.sweep.comparison import Comparison, Marks, Searched, Step
    from raffect.sweep.leaderboard import SweepView

HEIGHT = 10
"""Lines of a chart."""
_AGO = ((86400, "day"), (3600, "h"), (60, "min"))


def show_sweeps(screen: Screen, views: Sequence[SweepView], now: datetime | None = None) -> None:
    """Print a line for each sweep."""
    rows = [
        [
            view.name + " (ablation)" * (view.kind == "ablation"),
            view.task.value,
            score_text(view.best.score if view.best else None),
            _states(view),
            duration(view.device_hours * 3600),
            ago(view.changed, now or datetime.now(UTC)),
        ]
        for view in views
    ]
    screen.table(["sweep", "task", ">best", "trials", ">device time", ">last change"], rows)


def ago(when: str | None, now: datetime) -> str:
    """How long ago a time of ISO 8601 was, in its largest unit."""
    if when is None:
        return "–"
    seconds = (now - datetime.fromisoformat(when)).total_seconds()
    for size, unit in _AGO:
        count = int(seconds // size)
        if count > 0:
            return f"{count} {unit}{'s' if unit == 'day' and count > 1 else ''} ago"
    return "just now"


def show_comparison(screen: Screen, views: Sequence[SweepView], comparison: Comparison) -> None:
    """Print sweeps side by side; curves are drawn on a terminal, and are a table anywhere."""
    show_sweeps(screen, views)
    for view in views:
        if view.recipe:
            screen.styled(f"[dim]{view.name}: {escape(view.against_recipe)}[/]")
    for remark in comparison.remarks:
        screen.styled(f"[yellow]{escape(remark)}[/]")
    _show_marks(screen, comparison, comparison.by_trials, "trials", str)
    _show_chart(screen, comparison, lambda step: float(step.trials), lambda n: f"{n:g} trials")
    _show_marks(screen, comparison, comparison.by_cost, "device time", _whole)
    _show_chart(screen, comparison, lambda step: step.device_seconds, duration)
    _show_spaces(screen, comparison)
    _show_settings(screen, views, comparison)


def _states(view: SweepView) -> str:
    states = ", ".join(f"{count} {state.lower()}" for state, count in view.counts.items())
    missing = view.target - sum(view.counts.values())
    return f"{states}, {missing} remaining" if missing > 0 else states


def _show_marks(
    screen: Screen, comparison: Comparison, marks: Marks, title: str, write: Callable[[int], str]
) -> None:
    _heading(screen, f"Best score so far, by {title}")
    rows = [
        [name, *map(score_text, best), score_text(steps[-1].best)]
        for name, best, steps in zip(comparison.names, marks.best, comparison.curves, strict=True)
    ]
    screen.table(["sweep", *(f">{write(mark)}" for mark in marks.at), ">final"], rows)


def _show_chart(
    screen: Screen,
    comparison: Comparison,
    at: Callable[[Step], float],
    write: Callable[[float], str],
) -> None:
    if screen.silent or not screen.console.is_terminal:
        return
    from raffect.cli.plot import Curve, draw_steps

    curves = [
        Curve(name, [(at(s), s.best) for s in steps if s.best is not None], at(steps[-1]))
        for name, steps in zip(comparison.names, comparison.curves, strict=True)
    ]
    if any(curve.points for curve in curves):
        chart = draw_steps(curves, screen.console.width - 2, HEIGHT, write, score_text)
        screen.console.print(chart)


def _show_spaces(screen: Screen, comparison: Comparison) -> None:
    apart = [found for found in comparison.searched if found.kind != "shared"]
    short = short_names([found.name for found in comparison.searched])
    _heading(screen, "Search spaces")
    if apart:
        rows = [
            [short[found.name], _kind(found, comparison.names), *map(_range, found.ranges)]
            for found in apart
        ]
        screen.table(["parameter", "", *comparison.names], rows)
    shared = [short[found.name] for found in comparison.searched if found.kind == "shared"]
    screen.styled(f"[dim]Searched alike in all:[/] {escape(', '.join(shared) or 'none')}")


def _kind(found: Searched, names: tuple[str, ...]) -> str:
    if found.kind == "narrowed" and found.narrowest is not None:
        return f"narrowed in {names[found.narrowest]}"
    if found.kind == "partial":
        own = [n for n, text in zip(names, found.ranges, strict=True) if text is not None]
        return f"only in {' and '.join(own)}"
    return found.kind


def _range(text: str | None) -> str:
    """A range in few characters: its bounds, or its choices."""
    from raffect.sweep.ranges import parse_range

    if not text:
        return "–" if text is None else "in some trials"
    found = parse_range(text)
    return text if found is None else str(found)


def _show_settings(screen: Screen, views: Sequence[SweepView], comparison: Comparison) -> None:
    short = short_names([setting.key for setting in comparison.settings])
    best = [f"{v.name}:{v.best.number}" if v.best else v.name for v in views]
    _heading(screen, "Best trials")
    scores = [score_text(view.best.score if view.best else None) for view in views]
    rows = [[Text(cell) for cell in ("score", *scores)]]
    for setting in comparison.settings:
        values = ["–" if v is None else short_value(v) for v in setting.values]
        cells = [short[setting.key], *values]
        rows.append([Text(cell, "dim" if setting.same else "") for cell in cells])
    screen.table(["setting", *best], rows)
    if any(setting.same for setting in comparison.settings):
        screen.styled("[dim]Dimmed: searched settings that all best trials have in common.[/]")


def _whole(seconds: int) -> str:
    """A time that is whole in its unit."""
    for size, unit in _AGO[1:]:
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def _heading(screen: Screen, text: str) -> None:
    screen.styled(f"\n[bold]{text}[/]")
