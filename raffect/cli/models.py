"""train, evaluate, submission: temporal models and their scores."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raffect.cli.options import (
    AddressOption,
    AnnotationsOption,
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
    TaskArgument,
    WorkersOption,
    begin,
    in_fold,
    temporal_settings,
)
from raffect.cli.screen import Screen
from raffect.context import DEFAULT_FEATURES, SHARD_ABOVE

if TYPE_CHECKING:
    from raffect.temporal.epochs import EpochResult

DIFFERENCE_TOLD = 5e-5
"""Scores are shown with four decimals."""
PredictionsArgument = Annotated[
    Path, typer.Argument(metavar="PREDICTIONS", help="CSV file of predictions.")
]


def train(
    task: TaskArgument,
    features: FeaturesOption = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the model.", show_default="the task")
    ] = None,
    fold: FoldOption = None,
    workers: WorkersOption = 1,
    shard_features: ShardOption = None,
    shard_above: ShardAboveOption = SHARD_ABOVE,
    postprocess: PostprocessOption = None,
    config: ConfigOption = None,
    changes: SetOption = None,
    store: StoreOption = None,
    address: AddressOption = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train one temporal model, by default with the recipe's settings."""
    from raffect.affwild2.tasks import parse_task
    from raffect.context import Context
    from raffect.settings import build
    from raffect.store import files_of, model_folder
    from raffect.store.layout import METRICS, check_name
    from raffect.temporal.postprocess import CrossFitted
    from raffect.temporal.sharding import Sharding
    from raffect.temporal.train import train as run

    chosen_task = parse_task(task)
    names = features or [DEFAULT_FEATURES]
    options = in_fold(fold)
    if postprocess is not None:
        options["postprocess"] = postprocess
    chosen = temporal_settings("train", chosen_task, config, changes, options, len(names))
    called = check_name(name or chosen_task.value)
    target, screen = begin(store, quiet, as_json)
    with screen.stage(f"Training a model of {chosen_task.value.upper()}") as bar:

        def on_epoch(result: EpochResult, total: int) -> None:
            bar.tick(result.epoch, total)
            bar.tell(f"score {result.score:.4f} at epoch {result.epoch}")

        manifest = run(
            target,
            chosen,
            names,
            called,
            workers=workers,
            on_epoch=on_epoch,
            context=Context(address, overwrite, on_note=screen.say),
            sharding=Sharding(shard_features, shard_above),
        )
    folder = model_folder(called)
    screen.say(
        f"Best score on validation: {manifest.counts['score']:.4f}"
        f" at epoch {manifest.counts['epoch']} (chosen on that split)"
    )
    metrics = files_of(target, folder).read_json(METRICS)
    if "postprocess" in metrics:
        final = build(CrossFitted, metrics["postprocess"]).final
        screen.say(
            f"Before post-processing: {metrics['raw']:.4f}. Fitted on one half of the"
            f" videos, it is scored on the other; on both: {final.describe(chosen_task)}"
        )
    screen.ready(target.where(folder), manifest)
    if as_json:
        screen.json({"name": called, "folder": target.where(folder), **manifest.counts, **metrics})


def evaluate(
    task: TaskArgument,
    predictions: PredictionsArgument,
    annotations: AnnotationsOption,
    split: Annotated[str, typer.Option(help="train or validation")] = "validation",
    fold: Annotated[
        str | None,
        typer.Option("--fold", metavar="I/K", help="Score on this fold's validation videos."),
    ] = None,
    as_submitted: Annotated[
        bool,
        typer.Option(
            "--as-submitted", help="Score what `submission` writes: clipped and rounded."
        ),
    ] = False,
    as_paper: Annotated[
        bool,
        typer.Option("--as-paper", help="Also print the score as the paper's code counts it."),
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Score a predictions file against an annotation tree, as the challenge does."""
    from raffect.affwild2.annotations import load_annotations
    from raffect.affwild2.evaluation import PAPER_STRIDE, PAPER_WINDOW
    from raffect.affwild2.evaluation import evaluate as run
    from raffect.affwild2.predictions import read_predictions
    from raffect.affwild2.tasks import SPECS, parse_split, parse_task

    chosen = parse_task(task)
    labels = load_annotations(annotations, chosen, parse_split(split), fold)
    values = read_predictions(predictions, chosen)
    result = run(chosen, values, labels, submitted=as_submitted, as_paper=as_paper)
    screen = Screen(quiet, as_json)
    told = abs(result.score - result.submitted_score) >= DIFFERENCE_TOLD
    if not as_submitted and (told or result.clipped):
        screen.note(
            f"`submission` clips {result.clipped:,} of these values to [-1, 1] and rounds all of"
            f" them: what it writes scores {result.submitted_score:.4f} (--as-submitted)."
        )
    if as_json:
        screen.json(asdict(result))
        return
    low, high = result.interval
    screen.styled(
        f"[bold]{result.score:.4f}[/]  {SPECS[chosen].score_name}{' as submitted' * as_submitted}"
        f"  [dim](95 % over videos: {low:.4f} to {high:.4f})[/]"
    )
    if as_paper:
        paper = "no score" if result.paper_score is None else f"{result.paper_score:.4f}"
        screen.styled(
            f"{paper}  [dim]as the authors' code counts: segments of {PAPER_WINDOW} frames at"
            f" stride {PAPER_STRIDE}, the rest of a video left out, overlaps counted twice[/]"
        )
    rows = [[name, f"{value:.4f}"] for name, value in result.parts.items()]
    screen.table(["part", ">score"], rows)
    screen.styled(f"[dim]{result.frames:,} frames of {result.videos} videos, each frame once[/]")


def submission(
    task: TaskArgument,
    predictions: PredictionsArgument,
    example: Annotated[
        Path, typer.Option("--example", metavar="FILE", help="The organisers' example file.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where to write.")],
    quiet: QuietOption = False,
) -> None:
    """Write a challenge submission: exactly the rows of the organisers' example file."""
    from raffect.affwild2.predictions import read_predictions
    from raffect.affwild2.submission import write_submission
    from raffect.affwild2.tasks import parse_task

    chosen = parse_task(task)
    screen = Screen(quiet)
    values = read_predictions(predictions, chosen)
    rows = write_submission(chosen, values, example, out, screen.note)
    screen.path(f"{out}: {rows:,} rows, in the order of {example}")
