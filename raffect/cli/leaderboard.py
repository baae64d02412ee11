"""The leaderboard of a sweep, for people."""

from __future__ import annotations

from statistics import mean, stdev
from typing import TYPE_CHECKING

from rich.markup import escape

from raffect.text import count_text, duration, score_text, short_value

if TYPE_CHECKING:
    from raffect.cli.screen import Screen
    from raffect.sweep.leaderboard import SweepView
    from raffect.sweep.records import TrialRow

SETTINGS_SHOWN = (
    "variant", "seed", "model.tcn.depth", "model.transformer.layers", "optimiser.lr", "losses.",
)  # fmt: skip
"""What a sweep is about; the rest is in `trials --json` and in the report."""
_NAMES = {"model.tcn.depth": "TCN depth"}
_MOST_SETTINGS = 7
"""Columns of settings and objectives that fit beside the others."""
_UNITS = {"latency": "ms", "parameters": "weights"}


def show_leaderboard(screen: Screen, view: SweepView, most: int = 10) -> None:
    """Print the best trials of a sweep, and what the scores are to be compared with."""
    from raffect.affwild2.tasks import SPECS

    keys = _shown_settings(view.rows)[: _MOST_SETTINGS - len(view.objectives)]
    rows = [
        [
            str(row.number),
            score_text(row.score) + ("*" if row.pareto else "=" if row.tied else ""),
            *(_objective(row, name) for name in view.objectives[1:]),
            f"{row.best_epoch or '–'}/{row.epochs}",
            escape(_state(row)),
            duration(row.seconds),
            *(short_value(row.params[key]) if key in row.params else "–" for key in keys),
        ]
        for row in view.rows[:most]
    ]
    extra = [f">{_UNITS[name]}" for name in view.objectives[1:]]
    names = [">" + setting_name(key) for key in keys]
    columns = [">trial", ">score", *extra, ">epoch", "state", ">time", *names]
    screen.say(
        f"[bold]{view.task.value.upper()}[/] sweep {view.name!r}: {SPECS[view.task].score_name},"
        " best epoch on validation"
    )
    screen.table(columns, rows)
    for line in _notes(view, len(view.rows) - most):
        screen.say(f"[dim]{line}[/]")


def _state(row: TrialRow) -> str:
    from raffect.sweep.attributes import STATE_NAMES
    from raffect.sweep.failures import kind_of

    state = STATE_NAMES[row.state] + (f" ({row.origin})" if row.origin else "")
    return state if row.reason is None else f"{state}: {kind_of(row.reason)}"


def _objective(row: TrialRow, name: str) -> str:
    value = row.objectives.get(name)
    if value is None:
        return "–"
    return count_text(int(value)) if name == "parameters" else short_value(value)


def _notes(view: SweepView, left: int) -> list[str]:
    from raffect.sweep.failures import summarise

    more = f"{left} more trials. " if left > 0 else ""
    lines = [
        f"{more}Trivial baseline: {view.baseline['score']:.4f}. Trial 0 is the base configuration."
    ]
    if floor := view.linear_floor:
        window = f"ridge on means of the features over {2 * floor['half_width'] + 1} frames"
        lines.append(f"Linear floor: {floor['score']:.4f} ({window}).")
    lines += [escape(view.against_recipe)] if view.recipe else []
    lines += map(escape, view.cautions)
    reasons = summarise(row.reason for row in view.rows if row.reason)
    lines += [escape(line) for line in reasons.splitlines()]
    if front := sum(row.pareto for row in view.rows):
        lines.append(
            "* no other trial is better in one objective and as good in the others:"
            f" {front} trials."
        )
    best = view.best
    if best is not None and len(best.seeds) > 1:
        scores = list(best.seeds.values())
        tied = sum(row.tied for row in view.rows) - 1
        lines.append(
            f"Trial {best.number} over {len(scores)} seeds: {mean(scores):.4f} ± "
            f"{stdev(scores):.4f}; = marks {tied} other trials within that of its score."
        )
    return lines


def setting_name(key: str) -> str:
    """A setting's name in a table's head."""
    return _NAMES.get(key, key.split(".")[-1].replace("_", " "))


def _shown_settings(rows: list[TrialRow]) -> list[str]:
    keys = dict.fromkeys(key for row in rows for key in row.params)
    return [key for start in SETTINGS_SHOWN for key in keys if key.startswith(start)]
