"""trials, report, dashboard: what came of sweeps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from raffect.cli.leaderboard import show_leaderboard
from raffect.cli.options import JsonOption, QuietOption, StoreOption, UnusedAddress

if TYPE_CHECKING:
    from raffect.sweep.leaderboard import SweepView, TrialRow

PANEL = "Sweeps"


def register(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (trials, report, dashboard):
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
    """List all sweeps, show the leaderboard of one, or compare several."""
    from raffect.cli.comparison import show_comparison, show_sweeps
    from raffect.cli.screen import Screen
    from raffect.store import Store
    from raffect.sweep.comparison import compare, read_sources
    from raffect.sweep.leaderboard import list_sweeps, load_sweep

    target = Store.open(store)
    screen = Screen(quiet, as_json)
    if not sweeps:
        views = list_sweeps(target)
        if as_json:
            screen.json([_sweep_json(view) for view in views])
        elif views:
            show_sweeps(screen, views)
        else:
            screen.say(f"No sweeps in {target.uri} yet: make one with `raffect tune va`.")
        return
    views = [load_sweep(target, name) for name in dict.fromkeys(sweeps)]
    if as_json:
        lists = {view.name: [_trial_json(row) for row in view.rows] for view in views}
        screen.json(lists if len(sweeps) > 1 else lists[views[0].name])
    elif len(views) > 1:
        sources = [read_sources(target, view.name) for view in views]
        show_comparison(screen, views, compare(views, sources))
    else:
        show_leaderboard(screen, views[0])


def report(
    sweep: Annotated[str, typer.Argument(metavar="SWEEP")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FILE", show_default="in the sweep's folder", help="Where to write."
        ),
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option("--csv", metavar="DIR", help="Write the numbers as CSV files, too."),
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
        where = write_report(Store.open(store), sweep, out, csv)
    screen.path(where)


def dashboard(
    sweep: Annotated[
        str | None, typer.Argument(metavar="[SWEEP]", help="All sweeps when left out.")
    ] = None,
    host: Annotated[str, typer.Option(help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8080,
    store: StoreOption = None,
    quiet: QuietOption = False,
    address: UnusedAddress = None,
) -> None:
    """Show sweeps live in a browser (optuna-dashboard), until Ctrl-C."""
    from raffect.cli.screen import Screen
    from raffect.store import Store
    from raffect.web.optuna_dashboard import LOOPBACK, serve

    screen = Screen(quiet)
    if host not in LOOPBACK:
        screen.say("[yellow]Whoever reaches this machine can look: there is no login.[/]")
    serve(Store.open(store), sweep, host, port, screen.path, screen.path)


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
        "device_hours": view.device_hours,
        "changed": view.changed,
    }
