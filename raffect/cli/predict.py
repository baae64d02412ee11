"""predict: values for every frame of a split, of crops, of a test set or of videos."""

from __future__ import annotations

from collections.abc import Mapping
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
from raffect.errors import SettingsError

_VIDEO = "Video"


def predict(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL|SWEEP[:TRIAL] ...]",
            autocompletion=COMPLETE_MODEL,
            help="A model, a sweep (its best trial), or a trial; of videos also several.",
            show_default=False,
        ),
    ] = None,
    more: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            metavar="MODEL",
            autocompletion=COMPLETE_MODEL,
            help="The same as an option; may be repeated.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="CSV file; of videos .csv or .parquet."),
    ] = None,
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
    video: Annotated[
        str | None,
        typer.Option(
            "--video",
            metavar="FILE|DIR",
            rich_help_panel=_VIDEO,
            help="A video, or a folder of them (continued when given again).",
        ),
    ] = None,
    person: Annotated[
        list[int] | None,
        typer.Option(
            "--person",
            metavar="N",
            min=0,
            rich_help_panel=_VIDEO,
            help="Number of a person, from 0 in the order of their first frames; may be repeated.",
            show_default="all",
        ),
    ] = None,
    aligned: Annotated[
        bool,
        typer.Option(
            "--aligned",
            rich_help_panel=_VIDEO,
            help="The frames are crops of one face: look for none.",
        ),
    ] = False,
    detector: Annotated[
        str | None,
        typer.Option(
            "--detector",
            metavar="FILE.onnx",
            rich_help_panel=_VIDEO,
            help="Another detector of faces.",
            show_default="CenterFace",
        ),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(
            "--detect-at",
            min=64,
            metavar="PIXELS",
            rich_help_panel=_VIDEO,
            help="Shrink frames to this longer side to look for faces: 384 takes a third of the"
            " time of 640, and misses small ones.",
            show_default="640",
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot",
            metavar="FILE",
            rich_help_panel=_VIDEO,
            help="Draw the curves with thumbnails: .png or .html.",
        ),
    ] = None,
    overlay: Annotated[
        Path | None,
        typer.Option(
            "--overlay",
            metavar="FILE.mp4",
            rich_help_panel=_VIDEO,
            help="Write the video with boxes and values.",
        ),
    ] = None,
    camera: Annotated[
        str | None,
        typer.Option(
            "--camera",
            metavar="NUMBER|URL|FILE",
            rich_help_panel=_VIDEO,
            help="Show values while a camera, a stream or a file runs, until Ctrl-C.",
        ),
    ] = None,
    lenient: Annotated[
        bool,
        typer.Option(
            "--lenient",
            rich_help_panel=_VIDEO,
            help="Exit with 0 though a video breaks off, or one of a folder can't be used.",
        ),
    ] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Predict every frame of a split, of crops, of the test set or of videos, into a file."""
    names = [*(models or []), *(more or [])]
    if not names:
        raise SettingsError(
            "predict needs a model.",
            "the name of a model or of a sweep (its best trial), or SWEEP:TRIAL",
            "Name one: `raffect trials` lists the sweeps.",
        )
    of_video: dict[str, object] = {
        "--person": person or None, "--aligned": aligned, "--detector": detector,
        "--detect-at": size, "--plot": plot, "--overlay": overlay, "--lenient": lenient,
    }  # fmt: skip
    of_dataset: dict[str, object] = {
        "--frames": frames, "--split": split, "--example": example, "--first-frame": first_frame,
    }  # fmt: skip
    if camera is not None:
        only: dict[str, object] = {
            "--video": video,
            "--plot": plot,
            "--overlay": overlay,
            "--lenient": lenient,
        }
        _refuse({**of_dataset, **only}, "--camera is watched as it goes")
    elif video is not None:
        _refuse(of_dataset, "--video is predicted from its own frames")
    else:
        _refuse(of_video, "They are of --video and --camera")
    from raffect.video.faces import FaceOptions

    faces = FaceOptions(person or None, aligned, detector, size)
    target, screen = begin(store, quiet, as_json)
    if camera is not None:
        from raffect.cli.camera import CameraOptions, watch_camera

        watched = CameraOptions(camera, faces, out, raw)
        watch_camera(target, screen, names, watched, as_json)
        return
    if out is None:
        raise SettingsError(
            "predict needs --out.", "--out FILE; with --camera it may be left out", "Give --out."
        )
    if video is not None:
        from raffect.cli.videos import VideoOptions, predict_videos

        options = VideoOptions(video, out, faces, plot, overlay, lenient, raw)
        predict_videos(target, screen, names, options, as_json)
        return
    if len(names) > 1:
        raise SettingsError(
            f"A predictions file is of one model; got {', '.join(names)}.",
            "one model; with --video and --camera several",
            "Predict with one after the other, or make one of them with `raffect ensemble`.",
        )
    from raffect.predict.files import predict_to_file

    with screen.stage(f"Predicting with {names[0]}") as bar:
        done = predict_to_file(
            target,
            names[0],
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


def _refuse(options: Mapping[str, object], why: str) -> None:
    # Not `in`: frame 0 equals False.
    given = [name for name, value in options.items() if value is not None and value is not False]
    if given:
        raise SettingsError(
            f"{', '.join(given)} can't be given here. {why}.",
            "options of one source",
            f"Leave out {' and '.join(given)}.",
        )
