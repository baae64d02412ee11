"""`raffect`: the entry point, where every error becomes a message and an exit code."""

from __future__ import annotations

import gc
import sys
import traceback
from contextlib import suppress
from functools import partial
from typing import Annotated

import typer

from raffect import __version__, interrupts
from raffect.cli.ablate import ablate
from raffect.cli.data import check, prepare, synth
from raffect.cli.demo import demo
from raffect.cli.doctor import doctor
from raffect.cli.encoders import extract, finetune
from raffect.cli.ensemble import ensemble
from raffect.cli.export import export, import_model, pull, push
from raffect.cli.features import import_, list_features
from raffect.cli.hands import delete, enqueue
from raffect.cli.jobs import follow, list_jobs, list_unless_told, stop, submit
from raffect.cli.models import evaluate, submission, train
from raffect.cli.options import fits_all_options
from raffect.cli.predict import predict
from raffect.cli.results import board, dashboard, report, trials
from raffect.cli.retrain import retrain
from raffect.cli.settings import settings
from raffect.cli.streams import OutputError, prepare_streams
from raffect.cli.sweeps import tune
from raffect.errors import NotThereError, RaffectError, find_user_error

_TYPER_INTERRUPTED = 130
app = typer.Typer(
    name="raffect",
    help="Continuous emotion recognition on Aff-Wild2: from raw crops to the best trial, on Ray.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
PANELS = {
    "Start here": (demo,),
    "Data": (synth, prepare, check, delete),
    "Encoder": (finetune, extract),
    "Models": (train, ensemble, predict, evaluate, submission, settings),
    "Models elsewhere": (export, import_model, push, pull),
    "Sweeps": (tune, ablate, retrain, enqueue, trials, report, dashboard, board),
    "Clusters": (submit, doctor),
}
for panel, commands in PANELS.items():
    for command in commands:
        # What follows `submit --` is another command's.
        context = {"ignore_unknown_options": True} if command is submit else None
        name = "import" if command is import_model else None
        app.command(name, rich_help_panel=panel, context_settings=context)(
            fits_all_options(command)
        )
jobs_app = typer.Typer(help="List, follow or stop raffect's jobs on a cluster.")
jobs_app.callback(invoke_without_command=True)(fits_all_options(list_unless_told))
jobs_app.command("list")(fits_all_options(list_jobs))
for verb in (follow, stop):
    jobs_app.command()(fits_all_options(verb))
app.add_typer(jobs_app, name="jobs", rich_help_panel="Clusters")
features_app = typer.Typer(help="List the store's sets of features, or import your own.")
features_app.callback(invoke_without_command=True)(fits_all_options(list_features))
features_app.command("import")(fits_all_options(import_))
app.add_typer(features_app, name="features", rich_help_panel="Encoder")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


def _show_files(wanted: bool) -> None:
    if wanted:
        from raffect.requirements import find_files

        folder = find_files()
        if folder is None:
            raise NotThereError("Only raffect's code is here.", "an installation or a checkout")
        typer.echo(folder)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
    files: Annotated[
        bool,
        typer.Option(
            "--files",
            callback=_show_files,
            is_eager=True,
            help="The folder of constraints.txt and cluster/, and exit.",
        ),
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run a command; exit code 0: done, 2: a user's mistake, 1: a bug or a failed engine."""
    prepare_streams()
    interrupts.install()
    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except OutputError as error:
        code = _refused(error)
    # Python would look through all objects of Ray and Optuna once more, for half a second.
    gc.freeze()
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run a command with these arguments and return its exit code."""
    try:
        result = app(args=arguments, prog_name="raffect", standalone_mode=False)
        code = result if isinstance(result, int) else 0
        # typer turns Ctrl-C into this code silently.
        return _interrupted() if code == _TYPER_INTERRUPTED else code
    except typer.Exit as stop:
        return stop.exit_code
    except (typer.Abort, KeyboardInterrupt):
        return _interrupted()
    except SystemExit as stop:
        # ray.init() has a handler of its own for SIGTERM, which exits with the signal's number.
        if stop.code == interrupts.received():
            return _interrupted()
        raise
    except typer.TyperException as error:
        # Usage errors have a `show` method, declared by a class that is private to typer.
        getattr(error, "show", partial(sys.stderr.write, f"{error}\n"))()
        return int(getattr(error, "exit_code", RaffectError.exit_code))
    except Exception as error:
        if interrupts.received() is not None:
            # Whatever the interruption has broken; the terminal itself may be gone.
            return _interrupted()
        known = find_user_error(error)
        if known is None and "ray" in sys.modules:
            from raffect.engine import find_lost_work

            known = find_lost_work(error)
        if known is None:
            traceback.print_exception(error)
            return 1
        return _refused(known)


def _refused(error: RaffectError) -> int:
    sys.stderr.write(f"Error: {error}\n")
    return error.exit_code


def _interrupted() -> int:
    interrupts.let_say()
    with suppress(OSError):
        # A single video, and what has no result yet, begins anew.
        told = "Run the same command again: it continues after what is finished."
        sys.stderr.write(f"\nInterrupted. {told}\n")
        sys.stderr.flush()
    return interrupts.exit_code()
