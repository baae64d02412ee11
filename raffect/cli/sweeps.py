"""tune, trials, report: sweeps and what came of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from raffect.cli.options import (
    AddressOption,
    ConfigOption,
    JsonOption,
    OverwriteOption,
    QuietOption,
    SetOption,
    StoreOption,
    TaskArgument,
    UnusedAddress,
)

if TYPE_CHECKING:
    from raffect.cli.screen import Screen
    from raffect.sweep.leaderboard import SweepView, TrialRow

PANEL = "Sweeps"


def register(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (tune, trials, report):
        app.command(rich_help_panel=PANEL)(command)


def tune(
    task: TaskArgument,
    features: Annotated[str, typer.Option(help="Name of the features.")] = "clip",
    name: Annotated[
        str | None, typer.Option(help="Name of the sweep.", show_default="the task")
    ] = None,
    space: Annotated[
        str | None,
        typer.Option(metavar="MODULE|FILE", help="Search space.", show_default="tune_spaces.TASK"),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(min=1, help="Finished trials to reach in all.", show_default="the space's"),
    ] = None,
    max_epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Epochs of a full trial.", show_default="the recipe's"),
    ] = None,
    concurrent: Annotated[
        int | None, typer.Option(min=1, help="Trials at a time.", show_default="what fits")
    ] = None,
    gpus_per_trial: Annotated[
        float | None, typer.Option(min=0.0, help="E.g. 0.25.", show_default="1 if there are GPUs")
    ] = None,
    workers_per_trial: Annotated[
        int, typer.Option(min=1, help="Data-parallel workers of each trial.")
    ] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Of the sampler.")] = 0,
    config: ConfigOption = None,
    changes: SetOption = None,
    store: StoreOption = None,
    address: AddressOption = None,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
) -> None:
    """Search the best model of a task (Ray Tune, Optuna); given again, it continues."""
    from raffect.affwild2.tasks import parse_task
    from raffect.cli.screen import Screen
    from raffect.cli.settings import settings
    from raffect.config import build, recipe
    from raffect.store import Store, sweep_folder
    from raffect.sweep.run import SweepProgress
    from raffect.sweep.run import tune as run
    from raffect.sweep.settings import SweepSettings

    chosen = parse_task(task)
    options = {} if max_epochs is None else {"optimiser.epochs": max_epochs}
    base = settings(recipe(chosen), config, changes, options)
    wanted: dict[str, Any] = {
        "trials": trials,
        "max_epochs": base.optimiser.epochs,
        "concurrent": concurrent,
        "gpus_per_trial": gpus_per_trial,
        "workers_per_trial": workers_per_trial,
        "space": space,
        "seed": seed,
    }
    target = Store.open(store)
    screen = Screen(quiet)
    with screen.stage(f"Sweeping {chosen.value.upper()}") as bar:

        def on_update(progress: SweepProgress) -> None:
            bar.tick(progress.finished, progress.target)
            bar.tell(progress.describe())

        view = run(
            target,
            chosen,
            features,
            name or chosen.value,
            build(SweepSettings, wanted),
            base,
            overwrite=overwrite,
            address=address,
            on_update=on_update,
        )
        bar.tell(describe_sweep(view))
    show_leaderboard(screen, view)
    if view.manifest is not None:
        screen.ready(target.where(sweep_folder(view.name)), view.manifest)
    screen.say("Next:")
    screen.path(f"  raffect report {view.name} --store {target.uri}")
    screen.path(
        f"  raffect predict sweeps/{view.name} --split validation --out {view.name}.csv"
        f" --store {target.uri}"
    )


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
    best = view.rows[0].score if view.rows else None
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
            score_text(view.rows[0].score if view.rows else None),
            ", ".join(f"{count} {state.lower()}" for state, count in view.counts.items()),
        ]
        for view in views
    ]
    screen.table(["sweep", "task", ">best", "trials"], rows)


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
