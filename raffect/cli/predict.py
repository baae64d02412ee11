"""predict: a model's values for every frame of a split, of crops or of a test set."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from raffect.cli.options import (
    COMPLETE_MODEL,
    FirstFrameOption,
    JsonOption,
    QuietOption,
    StoreOption,
    begin,
)


def predict(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL|SWEEP[:TRIAL]",
            autocompletion=COMPLETE_MODEL,
            help="A model, a sweep (its best trial), or a trial.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE.csv", help="Where to write.")],
    frames: Annotated[
        str | None,
        typer.Option(
            "--frames", metavar="DIR", help="Crops of one video: a folder, or s3://bucket/prefix."
        ),
    ] = None,
    first_frame: FirstFrameOption = None,
    split: Annotated[
        str | None, typer.Option("--split", help="train or validation, of the store's dataset.")
    ] = None,
    example: Annotated[
        Path | None,
        typer.Option(
            "--example", metavar="FILE", help="The organisers' example file: predict its videos."
        ),
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Leave out the model's post-processing.")
    ] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Predict every frame of a split, a folder of crops, or the test set, into a CSV file."""
    from raffect.predict.files import predict_to_file

    target, screen = begin(store, quiet, as_json)
    with screen.stage(f"Predicting with {model}") as bar:
        done = predict_to_file(
            target,
            model,
            out,
            frames=frames,
            split=split,
            example=example,
            first_frame=first_frame,
            raw=raw,
            progress=bar.tick,
        )
        bar.tell(f"{done.frames:,} frames")
    for file in done.skipped[:10]:
        screen.path(f"  skipped {file}")
    if len(done.skipped) > 10:
        screen.say(f"  and {len(done.skipped) - 10} more files")
    if done.postprocess:
        screen.styled(f"Post-processing: {done.postprocess} [dim](--raw leaves it out)[/]")
    screen.path(f"{out} written.")
    if as_json:
        screen.json({"out": str(out), **asdict(done)})
