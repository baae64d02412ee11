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
_MAIN = 3
"""Settings that are left out after the others."""
_NAMES = {"model.tcn.depth": "TCN depth"}
_UNITS = {"latency": "ms", "parameters": "weights"}


def show_leaderboard(screen: Screen, view: SweepView, most: int = 10) -> None:
    """Print the best trials of a sweep, and what the scores are to be compared with."""
    from raffect.affwild2.tasks import SPECS

    keys, shown = _shown_settings(view.rows), view.rows[:most]
    judged = any(row.number in view.evidence.trials for row in shown)
    raw = any(row.raw != row.score for row in shown)
    rows = [
        [
            str(row.number),
            _score(view, row),
            *([score_text(row.raw)] if raw else []),
            *(_objective(row, name) for name in view.objectives[1:]),
            *(_judgement(view, row) if judged else []),
            f"{row.best_epoch or '–'}/{row.epochs}",
            _state(row),
            *(short_value(row.params[key]) if key in row.params else "–" for key in keys),
            duration(row.seconds),
        ]
        for row in shown
    ]
    extra = [f">{_UNITS[name]}" for name in view.objectives[1:]]
    names = [">" + setting_name(key) for key in keys]
    sure = [">95 % interval", ">against recipe"] if judged else []
    before = [">raw"] if raw else []
    first = [">trial", ">score", *before, *extra, *sure, ">epoch", "state"]
    screen.styled(
        f"[bold]{view.task.value.upper()}[/] sweep {view.name!r}: {SPECS[view.task].score_name},"
        " best epoch on validation"
    )
    columns = [*first, *names, ">time"]
    left = screen.table(columns, rows, _least_important(columns, names))
    if left:
        screen.styled(f"[dim]Columns left out at this width: {escape(', '.join(left))}.[/]")
    for line in _notes(view, len(view.rows) - most):
        screen.styled(f"[dim]{line}[/]")


def _least_important(columns: list[str], settings: list[str]) -> list[str]:
    """What gives way on a narrow screen, the first first: trial, score and state stay.

    The first settings say more than how the score compares, which the lines below the table say
    of the best trial.
    """
    main, rest = settings[:_MAIN], settings[_MAIN:]
    order = [">time", *reversed(rest), ">against recipe", *reversed(main[1:])]
    order += [">epoch", ">95 % interval", ">raw", *main[:1]]
    return [name.lstrip(">") for name in order if name in columns]


def _score(view: SweepView, row: TrialRow) -> str:
    marks = ("*" if row.pareto else "=" if row.tied else "") + "<" * view.is_below_floor(row)
    return score_text(row.score) + marks


def _judgement(view: SweepView, row: TrialRow) -> list[str]:
    """The score's interval, and its difference to the recipe's with that of its own."""
    known = view.evidence.trials.get(row.number)
    if known is None:
        return ["–", "–"]
    low, high = known.interval
    versus = known.versus_recipe
    if versus is None:
        return [f"{low:.3f}–{high:.3f}", "–"]
    less, more = versus.interval
    return [f"{low:.3f}–{high:.3f}", f"{versus.difference:+.3f} ({less:+.3f}, {more:+.3f})"]


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

    more = f"{left} more {'trial' if left == 1 else 'trials'}. " if left > 0 else ""
    lines = [f"[/][bold]{line}[/][dim]"] if (line := view.expectation) else []
    lines += [
        f"{more}Trivial baseline: {view.baseline['score']:.4f}. Trial 0 is the base configuration."
    ]
    if floor := view.linear_floor:
        window = f"ridge regression on feature means over {2 * floor['half_width'] + 1} frames"
        below = sum(map(view.is_below_floor, view.rows))
        marked = f" Scores below it ({below}) are marked <." if below else ""
        lines.append(f"Linear floor: {floor['score']:.4f} ({window}).{marked}")
    lines += [escape(view.against_recipe)] if view.recipe else []
    lines += map(escape, view.cautions)
    reasons = summarise(row.reason for row in view.rows if row.reason)
    lines += [escape(line) for line in reasons.splitlines()]
    if front := sum(row.pareto for row in view.rows):
        lines.append(
            f"* marks the Pareto front ({front} trials): no other trial is better in one objective"
            " and as good in the others."
        )
    best = view.best
    if best is not None and len(best.seeds) > 1:
        scores = list(best.seeds.values())
        tied = sum(row.tied for row in view.rows) - 1
        lines.append(
            f"Trial {best.number} over {len(scores)} seeds: {mean(scores):.4f} ± "
            f"{stdev(scores):.4f}; = marks {tied} other trials within one standard deviation."
        )
    return lines


def setting_name(key: str) -> str:
    """A setting's name in a table's head."""
    return _NAMES.get(key, key.split(".")[-1].replace("_", " "))


def _shown_settings(rows: list[TrialRow]) -> list[str]:
    keys = dict.fromkeys(key for row in rows for key in row.params)
    return [key for start in SETTINGS_SHOWN for key in keys if key.startswith(start)]
