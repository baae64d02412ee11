"""`raffect`: the entry point, and the one place where an error becomes a message and a code."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from functools import partial
from types import FrameType
from typing import Annotated

import typer

from raffect import __version__
from raffect.cli import board, data, demo, doctor, encoders, jobs, models, results, sweeps
from raffect.errors import RaffectError, find_user_error

EXIT_BUG = 1
EXIT_INTERRUPTED = 130

app = typer.Typer(
    name="raffect",
    help="Continuous emotion recognition on Aff-Wild2: from raw crops to the best trial, on Ray.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
for module in (demo, data, encoders, models, sweeps, results, board, jobs, doctor):
    module.register(app)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="And exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run a command; exit 0 done, 2 the user's mistake, 1 a bug or a failed engine."""
    signal.signal(signal.SIGINT, _Interrupt())
    sys.exit(run(sys.argv[1:]))


class _Interrupt:
    """Ctrl-C ends the command in order; pressed again, at once.

    An interruption that meets the engine in a callback can be lost there, or leave a lock behind.
    Nothing is at risk either way: what was not finished is not taken for whole.
    """

    def __init__(self) -> None:
        self._pressed = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self._pressed:
            os._exit(EXIT_INTERRUPTED)
        self._pressed = True
        raise KeyboardInterrupt


def run(arguments: list[str]) -> int:
    """Run a command with these arguments and return its exit code."""
    try:
        result = app(args=arguments, prog_name="raffect", standalone_mode=False)
        code = result if isinstance(result, int) else 0
        # typer turns Ctrl-C into this code, without a word.
        return _interrupted() if code == EXIT_INTERRUPTED else code
    except typer.Exit as stop:
        return stop.exit_code
    except (typer.Abort, KeyboardInterrupt):
        return _interrupted()
    except typer.TyperException as error:
        # Errors of usage show themselves; the class that declares it is private to typer.
        getattr(error, "show", partial(sys.stderr.write, f"{error}\n"))()
        return int(getattr(error, "exit_code", RaffectError.exit_code))
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
        return 0
    except Exception as error:
        return _explain(error)


def _interrupted() -> int:
    sys.stderr.write("\nInterrupted. Give the same command again: it continues.\n")
    sys.stderr.flush()
    return EXIT_INTERRUPTED


def _explain(error: Exception) -> int:
    known = find_user_error(error)
    if known is None:
        traceback.print_exception(error)
        return EXIT_BUG
    sys.stderr.write(f"Error: {known}\n")
    return RaffectError.exit_code
