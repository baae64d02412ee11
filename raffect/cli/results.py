"""trials, report, dashboard: what came of sweeps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from raffect.cli.leaderboard import show_leaderboard
from raffect.cli.options import JsonOption, QuietOption, StoreOption, UnusedAddress

if TYPE_CHECKING:
    from raffect.cli.screen import Screen
    from raffect.sweep.leaderboard import SweepView
    from raffect.sweep.rows import TrialRow

PANEL = "Sweeps"


def register(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (trials, report):
        app.command(rich_help_panel=PANEL)(command)


def trials(
    sweeps: Annotated[
        list[str] | None, typer.Argument(metavar="[SWEEP ...]", help="All sweeps when left out.")
    ] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    address: UnusedAddress = None,
) -> None:
    """List all sweeps, or show the leaderboard of one, or of several side by side."""
    from raffect.cli.screen import Screen
    from raffect.store import Store
    from raffect.sweep.leaderboard import list_sweeps, load_sweep

    target = Store.open(store)
    screen = Screen(quiet, as_json)
    if not sweeps:
        views = list_sweeps(target)
        if as_json:
            screen.json([_sweep_json(view) for view in views])
        else:
            _show_sweeps(screen, views, target.uri)
        return
    views = [load_sweep(target, name) for name in sweeps]
    if as_json:
        lists = {view.name: [_trial_json(row) for row in view.rows] for view in views}
        screen.json(lists if len(views) > 1 else lists[views[0].name])
        return
    if len(views) > 1:
        _show_sweeps(screen, views, target.uri)
    for view in views:
        show_leaderboard(screen, view)


def report(
    sweep: Annotated[str, typer.Argument(metavar="SWEEP")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FILE", show_default="in the sweep's folder", help="Where to write."
        ),
    ] = None,
    store: StoreOption = None,
    quiet: QuietOption = False,
    address: UnusedAddress = None,
) -> None:
    """Write one HTML file that shows a sweep; it opens offline."""
    from raffect.cli.screen import Screen
    from raffect.report.page import write_report
    from raffect.store import Store

    screen = Screen(quiet)
    with screen.stage(f"Drawing the report of {sweep}"):
        where = write_report(Store.open(store), sweep, out)
    screen.path(where)


def _trial_json(row: TrialRow) -> dict[str, Any]:
    return {
        "number": row.number,
        "state": row.state,
        "score": row.score,
        "epochs": row.epochs,
        "seconds": row.seconds,
        "params": row.params,
        "reason": row.reason,
        "model": row.model,
    }


def _sweep_json(view: SweepView) -> dict[str, Any]:
    best = view.best.score if view.best else None
    return {
        "name": view.name,
        "task": view.task.value,
        "trials": view.counts,
        "target": view.target,
        "best": best,
    }


def _show_sweeps(screen: Screen, views: list[SweepView], uri: str) -> None:
    if not views:
        screen.say(f"No sweeps in {uri} yet: make one with `raffect tune va`.")
        return
    from raffect.report.naming import score_text

    rows = [
        [
            view.name,
            view.task.value,
            score_text(view.best.score if view.best else None),
            ", ".join(f"{count} {state.lower()}" for state, count in view.counts.items()),
        ]
        for view in views
    ]
    screen.table(["sweep", "task", ">best", "trials"], rows)
