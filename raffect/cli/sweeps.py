"""tune: making a sweep, and what to do with it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from raffect.cli.leaderboard import show_leaderboard
from raffect.cli.options import (
    AddressOption,
    ConfigOption,
    FeaturesOption,
    FoldOption,
    JsonOption,
    OverwriteOption,
    PostprocessOption,
    QuietOption,
    SetOption,
    ShardAboveOption,
    ShardOption,
    StoreOption,
    TasksArgument,
    begin,
    in_fold,
    temporal_settings,
)
from raffect.context import DEFAULT_FEATURES
from raffect.sweep.settings import RETRAIN_SEEDS, SweepSettings
from raffect.text import listed

if TYPE_CHECKING:
    from raffect.cli.screen import Screen
    from raffect.store import Store
    from raffect.sweep.leaderboard import SweepView
    from raffect.sweep.progress import SweepProgress

DEFAULTS = SweepSettings()
# Panels of the help.
_SEARCH, _BUDGET, _MACHINES = "Search", "Budget", "Machines"
_RESULT = "Results"


@dataclass(frozen=True)
class Again:
    """What of a command the next ones repeat.

    Attributes:
        own_space: The space is not the task's default.
        config: The file of settings.
        address: Of the cluster.
    """

    own_space: bool = False
    config: Path | None = None
    address: str | None = None

    def there(self, command: str) -> str:
        """A command that trains, where this one ran: as a job too, or at the same address."""
        from raffect.jobs.submission import JOB_VARIABLE

        if os.environ.get(JOB_VARIABLE):
            return command.replace("raffect ", "raffect submit -- ", 1)
        return f"{command} --address {shlex.quote(self.address)}" if self.address else command


def tune(
    task: TasksArgument,
    features: FeaturesOption = None,
    name: Annotated[
        str | None,
        typer.Option(
            help="Name of the sweep (NAME-TASK with several tasks).", show_default="the task"
        ),
    ] = None,
    space: Annotated[
        str | None,
        typer.Option(metavar="MODULE|FILE", help="Search space.", show_default="tune_spaces.TASK"),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(
            rich_help_panel=_BUDGET,
            min=1,
            help="Number of trials to reach, pruned and failed ones included.",
            show_default="the space's",
        ),
    ] = None,
    max_epochs: Annotated[
        int | None,
        typer.Option(
            rich_help_panel=_BUDGET,
            min=1,
            help="Epochs of a trial that is not pruned.",
            show_default="the recipe's",
        ),
    ] = None,
    max_hours: Annotated[
        float | None,
        typer.Option(
            metavar="HOURS",
            rich_help_panel=_BUDGET,
            help="Start no trial after this much time, over all runs of the command.",
        ),
    ] = None,
    max_device_hours: Annotated[
        float | None,
        typer.Option(
            metavar="HOURS",
            rich_help_panel=_BUDGET,
            help="The same for device time: GPU hours, or slot hours without GPUs.",
        ),
    ] = None,
    max_failures: Annotated[
        int | None,
        typer.Option(
            rich_help_panel=_BUDGET,
            min=1,
            help="Stop the sweep after this many failed trials.",
            show_default="5 without a success",
        ),
    ] = None,
    max_trial_minutes: Annotated[
        float | None,
        typer.Option(
            metavar="MINUTES",
            rich_help_panel=_BUDGET,
            help="Fail a trial that takes longer.",
            show_default="no limit",
        ),
    ] = None,
    stuck_minutes: Annotated[
        float | None,
        typer.Option(
            metavar="MINUTES",
            rich_help_panel=_BUDGET,
            help="Restart a trial without a new epoch for this long; then fail it.",
            show_default="10 epochs, at least 10",
        ),
    ] = None,
    concurrent: Annotated[
        int | None,
        typer.Option(
            rich_help_panel=_MACHINES,
            min=1,
            help="Trials that run at the same time.",
            show_default="what fits",
        ),
    ] = None,
    gpus_per_trial: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            rich_help_panel=_MACHINES,
            min=0.0,
            help="GPUs per trial; 0.25 lets four share one.",
            show_default="1 if there are GPUs",
        ),
    ] = None,
    workers_per_trial: Annotated[
        int,
        typer.Option(
            rich_help_panel=_MACHINES, min=1, help="Data-parallel workers of each trial."
        ),
    ] = DEFAULTS.workers_per_trial,
    shard_features: ShardOption = None,
    shard_above: ShardAboveOption = DEFAULTS.shard_above,
    sampler: Annotated[
        str, typer.Option(rich_help_panel=_SEARCH, help="tpe, gp, cmaes, random or nsga2")
    ] = DEFAULTS.sampler,
    pruning: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=_SEARCH,
            help="asha, hyperband, median or none",
            show_default="asha; none for two objectives",
        ),
    ] = None,
    min_epochs: Annotated[
        int | None,
        typer.Option(
            rich_help_panel=_SEARCH,
            min=1,
            help="Epochs before a trial can be pruned.",
            show_default="a ninth of the budget",
        ),
    ] = None,
    reduction_factor: Annotated[
        int,
        typer.Option(
            rich_help_panel=_SEARCH, min=2, help="At each rung, one trial in this many continues."
        ),
    ] = DEFAULTS.reduction_factor,
    seed: Annotated[
        int, typer.Option(rich_help_panel=_SEARCH, min=0, help="Random seed of the sampler.")
    ] = DEFAULTS.seed,
    objective: Annotated[
        str,
        typer.Option(
            rich_help_panel=_SEARCH,
            help="score; or a front: score,latency, score,parameters",
        ),
    ] = ",".join(DEFAULTS.objectives),
    max_params: Annotated[
        int | None,
        typer.Option(
            rich_help_panel=_SEARCH, min=1, help="Maximum number of trainable parameters."
        ),
    ] = None,
    max_latency_ms: Annotated[
        float | None,
        typer.Option(
            metavar="MS",
            rich_help_panel=_SEARCH,
            help="Maximum latency per 1,000 frames, on the trial's device.",
        ),
    ] = None,
    warm_start: Annotated[
        list[str] | None,
        typer.Option(
            rich_help_panel=_SEARCH,
            metavar="SWEEP",
            help="Start from the trials of this sweep; may be repeated.",
        ),
    ] = None,
    branch: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=_SEARCH,
            metavar="NEW",
            help="Start another sweep, NEW, from the trials of this one.",
        ),
    ] = None,
    track: Annotated[
        list[str] | None,
        typer.Option(
            rich_help_panel=_RESULT,
            metavar="TRACKER",
            help="tensorboard, mlflow, wandb or none; may be repeated.",
            show_default=", ".join(DEFAULTS.trackers),
        ),
    ] = None,
    postprocess: PostprocessOption = None,
    keep_models: Annotated[
        int | None,
        typer.Option(
            rich_help_panel=_RESULT,
            min=1,
            help="Keep the weights of this many best trials only.",
            show_default="all",
        ),
    ] = None,
    require_same_code: Annotated[
        bool,
        typer.Option(
            "--require-same-code",
            rich_help_panel=_RESULT,
            help="Refuse to continue with code other than that of earlier trials.",
        ),
    ] = False,
    fold: FoldOption = None,
    config: ConfigOption = None,
    changes: SetOption = None,
    store: StoreOption = None,
    address: AddressOption = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Search for the best model of each task (Ray Tune, Optuna). Run again, it continues."""
    from raffect.affwild2.tasks import parse_task
    from raffect.cli.progress import SweepTable
    from raffect.context import Context
    from raffect.engine import connect
    from raffect.errors import SettingsError
    from raffect.jobs.publish import SweepPublisher
    from raffect.settings import build
    from raffect.store.layout import check_name
    from raffect.sweep.together import Together
    from raffect.sweep.tune import tune as run

    tasks = list(dict.fromkeys(map(parse_task, task)))
    of_one = {"--space": space, "--warm-start": warm_start, "--branch": branch}
    if len(tasks) > 1 and (wrong := [option for option, value in of_one.items() if value]):
        raise SettingsError(
            f"{listed(wrong)} with several tasks: each task has its own space and sweeps.",
            "one task, or none of these options",
            "Run one command per task.",
        )
    given = {"optimiser.epochs": max_epochs, "postprocess": postprocess}
    options = {key: value for key, value in given.items() if value is not None}
    names = features or [DEFAULT_FEATURES]
    wanted: dict[str, Any] = {
        "trials": trials,
        "max_hours": max_hours,
        "max_device_hours": max_device_hours,
        "max_failures": max_failures,
        "max_trial_minutes": max_trial_minutes,
        "stuck_minutes": stuck_minutes,
        "concurrent": concurrent,
        "gpus_per_trial": gpus_per_trial,
        "workers_per_trial": workers_per_trial,
        "shard_features": shard_features,
        "shard_above": shard_above,
        "sampler": sampler,
        "pruning": pruning,
        "min_epochs": min_epochs,
        "reduction_factor": reduction_factor,
        "seed": seed,
        "objectives": tuple(part.strip() for part in objective.split(",")),
        "max_params": max_params,
        "max_latency_ms": max_latency_ms,
        "space": space,
        "keep_models": keep_models,
        "require_same_code": require_same_code,
        "trackers": [one for one in track or DEFAULTS.trackers if one != "none"],
    }
    planned = []
    # What is wrong with any of them is said before the first one begins.
    for chosen in tasks:
        base = temporal_settings(
            "tune", chosen, config, changes, options | in_fold(fold), len(names)
        )
        suffix = f"-{chosen.value}" if len(tasks) > 1 else ""
        called = check_name(f"{name}{suffix}" if name else chosen.value)
        began = ([called] if branch else []) + (warm_start or [])
        own = {"max_epochs": base.optimiser.epochs, "warm_start": began}
        search = build(SweepSettings, {**wanted, **own})
        planned.append((chosen, base, check_name(branch or called), search))
    target, screen = begin(store, quiet, as_json)
    together = Together.of(target, tasks, fold, address)
    found = {}
    for chosen, base, called, search in planned:
        together.ahead = chosen is not tasks[-1]
        with (
            SweepTable(screen, f"Sweeping {chosen.value.upper()}") as table,
            SweepPublisher(target, called, chosen.value, table.say) as publisher,
        ):

            def on_update(
                progress: SweepProgress,
                table: SweepTable = table,
                publisher: SweepPublisher = publisher,
            ) -> None:
                table.update(progress)
                publisher.update(progress)

            view = run(
                target,
                chosen,
                names,
                called,
                search,
                base,
                on_update=on_update,
                context=Context(address, overwrite, on_note=table.say),
                together=together,
            )
            publisher.publish_finished(view, lambda: connect(address))
        again = Again(space is not None, config, address)
        show_end(screen, target, view, names, again)
        found[chosen.value] = view.to_json()
    if as_json:
        screen.json(found)


def show_end(
    screen: Screen,
    store: Store,
    view: SweepView,
    features: Sequence[str] = (DEFAULT_FEATURES,),
    again: Again = Again(),
) -> None:
    """Print what a sweep has found and spent, and what to do next; the end of a job's log, too."""
    from raffect.report.commands import extend_command, short_commands
    from raffect.store import sweep_folder
    from raffect.text import duration

    show_leaderboard(screen, view)
    spent = f"{duration(3600 * view.hours)}, {duration(3600 * view.device_hours)} of device time"
    ended = f" It ended early: {view.ended}." if view.ended else ""
    screen.styled(f"[dim]Spent: {spent}.{ended}[/]")
    if view.manifest is not None:
        screen.ready(store.where(sweep_folder(view.name)), view.manifest)
    commands = short_commands(view, store.uri)
    if view.best is not None:
        where = f"--store {shlex.quote(store.uri)}"
        commands[2:2] = [
            again.there(f"raffect retrain {view.name} --seeds {RETRAIN_SEEDS} {where}"),
            again.there(f"raffect ablate {view.task.value} --base {view.name} {where}"),
        ]
    longer = extend_command(view, store.uri, features, again.own_space, again.config)
    commands.append(again.there(longer))
    screen.say("Next:")
    for command in commands:
        screen.path(f"  {command}")
