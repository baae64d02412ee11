"""tune, retrain: making sweeps."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from raffect.cli.leaderboard import describe_sweep, show_leaderboard
from raffect.cli.options import (
    AddressOption,
    ConfigOption,
    OverwriteOption,
    QuietOption,
    SetOption,
    StoreOption,
    TaskArgument,
)

PANEL = "Sweeps"


def register(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (tune,):
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
