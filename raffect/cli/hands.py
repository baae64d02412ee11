"""enqueue, `trials SWEEP stop` and delete: changing what is in the store."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from raffect.cli.complete import stored
from raffect.cli.options import COMPLETE_SWEEP, QuietOption, SetOption, StoreOption, begin

if TYPE_CHECKING:
    from raffect.cli.screen import Screen
    from raffect.store import Store


def enqueue(
    sweep: Annotated[
        str,
        typer.Argument(metavar="SWEEP", autocompletion=COMPLETE_SWEEP, help="Name of the sweep."),
    ],
    changes: SetOption = None,
    space: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE|FILE", help="Its search space.", show_default="as it was named"
        ),
    ] = None,
    store: StoreOption = None,
    quiet: QuietOption = False,
) -> None:
    """Add a trial to a sweep, the base configuration with changes; it runs next."""
    from raffect.settings import parse_assignments
    from raffect.sweep.hands import enqueue as run
    from raffect.text import short_value

    target, screen = begin(store, quiet)
    number, params = run(target, sweep, parse_assignments(changes or []), space)
    shown = ", ".join(f"{name}={short_value(value)}" for name, value in params.items())
    screen.path(f"Trial {number} of {sweep}: {shown}")
    _say_when(screen, target, sweep, "takes it next", "Run `raffect tune` again to train it.")


def stop_trials(screen: Screen, store: Store, sweep: str, numbers: list[str]) -> None:
    """End trials that run or wait.

    Raises:
        SettingsError: What is named is no trial's number.
    """
    from raffect.errors import SettingsError
    from raffect.sweep.hands import stop

    if not numbers or not all(number.isdecimal() for number in numbers):
        raise SettingsError(
            f"These are not trials to stop: {' '.join(numbers) or 'no number given'}.",
            "numbers of running or waiting trials",
            f"E.g. raffect trials {sweep} stop 7; `raffect trials {sweep}` lists them.",
        )
    stop(store, sweep, map(int, numbers))
    screen.say(f"Stopped: trial {', '.join(numbers)} of {sweep}, recorded as failed.")
    _say_when(screen, store, sweep, "ends it within seconds, or at its next epoch")


def delete(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="SWEEP|MODEL|ENCODER|FEATURES ...",
            autocompletion=stored("sweeps", "models", "encoders", "features"),
            help="Names of what to delete.",
        ),
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    store: StoreOption = None,
    quiet: QuietOption = False,
) -> None:
    """Delete from the store, after showing what would go and what was made from it."""
    from raffect.errors import SettingsError
    from raffect.sweep.deletion import delete as run
    from raffect.sweep.deletion import plan_deletion
    from raffect.text import size_text

    target, screen = begin(store, quiet)
    doomed = plan_deletion(target, names)
    for one in doomed:
        size = "unfinished" if one.size is None else size_text(one.size)
        screen.path(f"{target.where(one.folder)}: {one.files} files, {size}")
        if one.may_be_made:
            screen.path("  a command that is still writing it will fail")
        for other in one.dependents:
            screen.path(f"  {other} was made from it, and is kept")
    if not yes:
        if not sys.stdin.isatty():
            raise SettingsError(
                "Nothing was deleted: there is no terminal to ask for confirmation.",
                "a terminal, or --yes",
                "Run the command with --yes.",
            )
        typer.confirm("Delete?", abort=True)
    for one in doomed:
        run(target, one.folder, screen.say)
        screen.path(f"{one.folder} deleted.")


def _say_when(screen: Screen, store: Store, sweep: str, does: str, otherwise: str = "") -> None:
    from raffect.sweep.hands import driver_of

    driver = driver_of(store, sweep)
    if driver is not None:
        screen.path(f"{driver} runs the sweep, and {does}.")
    elif otherwise:
        screen.path(otherwise)
