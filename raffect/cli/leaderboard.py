"""The leaderboard of a sweep, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raffect.cli.screen import Screen
    from raffect.sweep.leaderboard import SweepView
    from raffect.sweep.rows import TrialRow


def describe_sweep(view: SweepView) -> str:
    """One short line: the best trial and how the others ended."""
    states = ", ".join(f"{count} {state.lower()}" for state, count in view.counts.items())
    best = view.rows[0]
    return f"best {best.score:.4f} (trial {best.number}); {states}"


def show_leaderboard(screen: Screen, view: SweepView, most: int = 10) -> None:
    """Print the best trials of a sweep, and what the scores are to be compared with."""
    from raffect.affwild2.tasks import SPECS
    from raffect.report.naming import duration, score_text, short_value

    keys = _shown_settings(view.rows)
    rows = [
        [
            str(row.number),
            score_text(row.score),
            f"{row.best_epoch or '–'}/{row.epochs}",
            row.state.lower() if row.reason is None else f"{row.state.lower()}: {row.reason}",
            duration(row.seconds),
            *(short_value(row.params[key]) if key in row.params else "–" for key in keys),
        ]
        for row in view.rows[:most]
    ]
    columns = [">trial", ">score", ">epoch", "state", ">time", *(_heading(key) for key in keys)]
    screen.say(
        f"[bold]{view.task.value.upper()}[/] sweep {view.name!r}: {SPECS[view.task].score_name},"
        " best epoch on validation"
    )
    screen.table(columns, rows)
    left = len(view.rows) - most
    more = f"{left} more trials. " if left > 0 else ""
    screen.say(
        f"[dim]{more}Trivial baseline: {view.baseline['score']:.4f}. Trial 0 is the base"
        " configuration.[/]"
    )


# What a sweep is about; the rest is in `trials --json` and in the report.
_SHOWN = ("model.tcn.depth", "model.transformer.layers", "optimiser.lr", "losses.")

_HEADINGS = {"model.tcn.depth": "TCN depth"}


def _shown_settings(rows: list[TrialRow]) -> list[str]:
    keys = dict.fromkeys(key for row in rows for key in row.params if key.startswith(_SHOWN))
    return sorted(keys, key=lambda key: next(i for i, s in enumerate(_SHOWN) if key.startswith(s)))


def _heading(key: str) -> str:
    words = key.split(".")[-1] if key not in _HEADINGS else _HEADINGS[key]
    return ">" + words.replace("_", " ")
