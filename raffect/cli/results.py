"""trials, report, dashboard, board: what came of sweeps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raffect.cli.ablate import show_ablation
from raffect.cli.hands import stop_trials
from raffect.cli.leaderboard import show_leaderboard
from raffect.cli.options import COMPLETE_SWEEP, JsonOption, QuietOption, StoreOption, begin
from raffect.requirements import require

if TYPE_CHECKING:
    from raffect.cli.screen import Screen
    from raffect.store import Store

HostOption = Annotated[str, typer.Option(help="Address to listen on.")]
PortOption = Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free port.")]


def trials(
    sweeps: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SWEEP ...]",
            autocompletion=COMPLETE_SWEEP,
            help="By default all sweeps. SWEEP stop 7 ends its trial 7.",
        ),
    ] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """List all sweeps, show the leaderboard of one, compare several, or stop a trial."""
    from raffect.cli.comparison import show_comparison, show_sweeps
    from raffect.sweep.comparison import compare, read_sources
    from raffect.sweep.leaderboard import list_sweeps, load_sweep

    target, screen = begin(store, quiet, as_json)
    if not sweeps:
        views = list_sweeps(target)
        if as_json:
            screen.json([view.to_json() for view in views])
        elif views:
            show_sweeps(screen, views)
        else:
            screen.say(f"No sweeps in {target.uri} yet: start one with `raffect tune va`.")
        return
    if sweeps[1:2] == ["stop"]:
        stop_trials(screen, target, sweeps[0], sweeps[2:])
        return
    views = [load_sweep(target, name) for name in dict.fromkeys(sweeps)]
    if as_json:
        lists = {view.name: view.trials_json() for view in views}
        screen.json(lists if len(sweeps) > 1 else lists[views[0].name])
    elif len(views) > 1:
        sources = [read_sources(target, view.name) for view in views]
        show_comparison(screen, views, compare(views, sources))
    else:
        show_leaderboard(screen, views[0])
        if views[0].kind == "ablation":
            from raffect.sweep.ablation_table import tabulate

            show_ablation(screen, views[0], tabulate(target, views[0]))


def report(
    sweep: Annotated[
        str,
        typer.Argument(metavar="SWEEP", autocompletion=COMPLETE_SWEEP, help="Name of the sweep."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            show_default="in the sweep's folder",
            help="HTML file to write.",
        ),
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option("--csv", metavar="DIR", help="Also write the numbers as CSV files."),
    ] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write a sweep's report: one HTML file that opens offline."""
    from raffect.report.page import write_report

    target, screen = begin(store, quiet, as_json)
    with screen.stage(f"Drawing the report of {sweep}"):
        where = write_report(target, sweep, out, csv, on_note=screen.say)
    screen.path(where)
    if as_json:
        screen.json({"report": where, "csv": None if csv is None else str(csv)})


def dashboard(
    sweep: Annotated[
        str | None,
        typer.Argument(
            metavar="[SWEEP]", autocompletion=COMPLETE_SWEEP, help="By default all sweeps."
        ),
    ] = None,
    host: HostOption = "127.0.0.1",
    port: PortOption = 8080,
    store: StoreOption = None,
    quiet: QuietOption = False,
) -> None:
    """Show sweeps live in a browser (optuna-dashboard), until Ctrl-C."""
    require("dashboard", "optuna_dashboard", "`raffect dashboard`")
    from raffect.web.optuna_dashboard import serve

    target, screen = _begin_serving(store, quiet, host)
    serve(target, sweep, host, port, screen.path, screen.path)


def board(
    host: HostOption = "127.0.0.1",
    port: PortOption = 8266,
    store: StoreOption = None,
    quiet: QuietOption = False,
) -> None:
    """Show live leaderboards and reports in a browser, until Ctrl-C."""
    require("dashboard", "uvicorn", "`raffect board`")
    from raffect.web.serve import serve

    target, screen = _begin_serving(store, quiet, host)
    serve(target, host, port, screen.path, screen.path)


def _begin_serving(store: str | None, quiet: bool, host: str) -> tuple[Store, Screen]:
    from raffect.web.listening import LOOPBACK

    target, screen = begin(store, quiet, may_be_new=True)
    if host not in LOOPBACK:
        screen.styled(
            "[yellow]Unauthenticated access: anyone who can reach this port sees everything.[/]"
        )
    return target, screen
