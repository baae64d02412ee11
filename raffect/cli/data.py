"""synth, prepare, check: the dataset."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from raffect.cli.options import (
    AddressOption,
    AnnotationsOption,
    JsonOption,
    OverwriteOption,
    QuietOption,
    StoreOption,
    begin,
)
from raffect.cli.screen import Screen


def synth(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to write it.")],
    videos: Annotated[int, typer.Option(min=8, help="Number of annotated subjects.")] = 48,
    frames: Annotated[int, typer.Option(min=16, help="Median frames per video.")] = 240,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    quiet: QuietOption = False,
) -> None:
    """Write a synthetic raw tree in the layout of Aff-Wild2, for trying things out."""
    from raffect.synthetic.tree import write_synthetic

    screen = Screen(quiet)
    with screen.stage("Drawing synthetic faces (no real data)") as bar:
        write_synthetic(folder, videos, frames, seed, progress=bar.tick)
    screen.say("Next:")
    screen.path(
        f"  raffect prepare --images {folder}/cropped_aligned"
        f" --images {folder}/cropped_aligned_new_50_vids --annotations {folder}/annotations"
    )


def prepare(
    images: Annotated[
        list[Path], typer.Option("--images", metavar="DIR", help="A root of crops; repeatable.")
    ],
    annotations: AnnotationsOption,
    store: StoreOption = None,
    address: AddressOption = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Bring crops and annotations of a raw tree into the store."""
    from raffect.affwild2.prepare import prepare as run
    from raffect.context import Context

    target, screen = begin(store, quiet, as_json)
    with screen.stage("Preparing crops and labels") as bar:
        context = Context(address, overwrite, bar.tick, screen.say)
        manifest = run(target, images, annotations, context=context)
    if as_json:
        screen.json(manifest.counts)
        return
    _show_counts(screen, manifest.counts)
    screen.ready(target.where("dataset"), manifest)


def check(
    store: StoreOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Count what the store's dataset holds, and verify every file of it."""
    from raffect.affwild2.check import check as run

    target, screen = begin(store, quiet, as_json)
    with screen.stage("Verifying the dataset") as bar:
        counts = run(target, progress=bar.tick)
    if as_json:
        screen.json(counts)
    else:
        _show_counts(screen, counts)


def _show_counts(screen: Screen, counts: Mapping[str, Any]) -> None:
    columns = ("videos", "frames", "valid", "valid_without_crop")
    rows = [
        [task, split, *(f"{numbers[key]:,}" for key in columns)]
        for task, splits in counts["labels"].items()
        for split, numbers in splits.items()
    ]
    titles = [f">{name.replace('_', ' ')}" for name in columns]
    screen.table(["task", "split", *titles], rows)
    unreadable = counts["crops"]["unreadable"]
    screen.say(f"Crops: {counts['crops']['readable']:,} readable, {len(unreadable):,} unreadable")
    for path in unreadable[:10]:
        screen.say(f"  unreadable: {path}")
