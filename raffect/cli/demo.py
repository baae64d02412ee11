"""demo: the whole pipeline on synthetic data, on this machine."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from raffect.cli.options import JsonOption, QuietOption
from raffect.cli.screen import Screen
from raffect.errors import ConflictError

if TYPE_CHECKING:
    from raffect.demo import Demo, DemoStage

VIDEOS = 48


def demo(
    keep: Annotated[
        Path,
        typer.Option(
            "--keep", metavar="DIR", help="Folder of its data (raw), store and settings.yaml."
        ),
    ] = Path("raffect-demo"),
    trials: Annotated[int, typer.Option("--trials", min=1, help="Trials per task.")] = 12,
    videos: Annotated[
        int, typer.Option("--videos", help="Number of synthetic videos; fewer are faster.")
    ] = VIDEOS,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Run the whole pipeline on synthetic faces: leaderboards and a report in minutes."""
    from raffect.demo import Demo

    screen = Screen(quiet, as_json)
    show = Demo(keep, trials, videos)
    screen.styled(
        "[bold]raffect demo[/]: synthetic faces, not Aff-Wild2; the recipe, scaled down to"
        " run in a few minutes on two cores.\n"
        f"[dim]Writes to {escape(str(keep))}. Interrupt it at any time; run again, it"
        " continues.[/]\n"
    )
    for stage in show.stages():
        with screen.stage(stage.title) as bar, _made_otherwise(stage, keep):
            bar.tell(stage.run(bar.tick, bar.tell) or bar.note)
        show.seconds[stage.key] = bar.seconds
    if as_json:
        screen.json(show.summary())
    else:
        _show_results(screen, show)


@contextmanager
def _made_otherwise(stage: DemoStage, keep: Path) -> Iterator[None]:
    """Rephrase conflicts with the folder's content in terms of this command's options."""
    try:
        yield
    except ConflictError as error:
        if stage.key.startswith("tune"):
            # Another command may be running the sweep: another folder would not help.
            raise
        raise ConflictError(
            error.got,
            f"the same --videos as before, on what this version's demo has made in {keep}",
            "Give another folder, with --keep DIR.",
        ) from None


def _show_results(screen: Screen, show: Demo) -> None:
    from raffect.cli.leaderboard import show_leaderboard

    for view in show.views():
        screen.say("")
        show_leaderboard(screen, view, most=5)
    screen.say("")
    rows = [
        [
            task.upper(),
            f"{scores['baseline']:.3f}",
            *("–" if of is None else f"{of:.3f}" for of in (scores["best"], scores["expected"])),
            f"{scores['reachable']:.3f}",
        ]
        for task, scores in show.summary()["scores"].items()
    ]
    screen.styled(
        "[bold]Scores[/] on the synthetic validation videos, best epoch of the best trial"
    )
    screen.table(
        ["task", ">trivial baseline", ">best trial", ">expected", ">best reachable"], rows
    )
    screen.say("\nReport:")
    screen.path(f"  {show.report.resolve()}")
    screen.say("Try next:")
    if shutil.which("raffect") is None:
        screen.path(f"  source {Path(sys.prefix) / 'bin' / 'activate'}")
    for command in show.next_commands():
        screen.path(f"  {command}")
