"""synth, prepare, check: the dataset."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raffect.cli.options import (
    AddressOption,
    AnnotationsOption,
    FirstFrameOption,
    JsonOption,
    OverwriteOption,
    QuietOption,
    StoreOption,
    begin,
)
from raffect.cli.screen import Screen
from raffect.text import shortened

if TYPE_CHECKING:
    from raffect.store import Store

SHOWN_NAME = 29
"""Characters of a name in a table of 80 columns; what is longer loses its middle."""


def synth(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to write it.")],
    videos: Annotated[int, typer.Option(min=8, help="Number of videos.")] = 48,
    frames: Annotated[int, typer.Option(min=16, help="Median frames per video.")] = 240,
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
    quiet: QuietOption = False,
) -> None:
    """Write a synthetic dataset in the layout of Aff-Wild2, for trying things out."""
    from raffect.store.translate import translated
    from raffect.synthetic.tree import write_synthetic

    screen = Screen(quiet)
    title = "Drawing synthetic faces (no real data)"
    with translated(str(folder), "DIR"), screen.stage(title) as bar:
        write_synthetic(folder, videos, frames, seed, progress=bar.tick)
    screen.say("Next:")
    screen.path(
        f"  raffect prepare --images {folder}/cropped_aligned"
        f" --images {folder}/cropped_aligned_new_50_vids --annotations {folder}/annotations"
    )


def prepare(
    images: Annotated[
        list[str],
        typer.Option(
            "--images",
            metavar="DIR",
            help="Folder of the videos' crops, or s3://bucket/prefix; may be repeated.",
        ),
    ],
    annotations: AnnotationsOption,
    store: StoreOption = None,
    address: AddressOption = None,
    first_frame: FirstFrameOption = None,
    strict: Annotated[bool, typer.Option("--strict", help="Treat warnings as errors.")] = False,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Read crops and annotations into the store (Ray Data)."""
    from raffect.affwild2.prepare import prepare as run
    from raffect.context import Context
    from raffect.store import DATASET

    target, screen = begin(store, quiet, as_json, may_be_new=True)
    with screen.stage("Preparing crops and labels") as bar:
        context = Context(address, overwrite, bar.tick, screen.say)
        manifest = run(
            target,
            images,
            annotations,
            context=context,
            first_frame=first_frame,
            strict=strict,
        )
    _show_dataset(screen, target, as_json)
    screen.ready(target.where(DATASET), manifest)


def check(
    store: StoreOption = None,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Remove damaged files, so that they can be made again."),
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Verify every file of the store, and count what the dataset holds.

    After --repair, the command that made a damaged folder makes just what is missing.
    """
    from raffect.check import clear_leftovers, find_faults, finished, refuse, remedy, unfinished
    from raffect.check import repair as take_away
    from raffect.store import DATASET
    from raffect.store.manifest import has_manifest

    target, screen = begin(store, quiet, as_json)
    with screen.stage("Verifying the store") as bar:
        faults = find_faults(target, progress=bar.tick)
    if repair:
        left = take_away(target, faults)
        clear_leftovers(target)
        for fault in faults:
            if fault not in left:
                screen.path(f"Removed: {target.where(fault.key)}")
        for folder in sorted({fault.folder for fault in faults if fault not in left}):
            screen.say(f"Next: {remedy(folder)}")
        if not left and any(fault.folder == DATASET for fault in faults):
            return
        faults = left
    refuse(target, faults)
    if begun := unfinished(target):
        screen.note(f"unfinished or without a manifest: {', '.join(begun)}.")
    if not has_manifest(target, DATASET) and (others := finished(target)):
        # Such as a store that models were imported into.
        screen.say(f"There is no dataset. As they were written: {', '.join(others)}.")
        if as_json:
            screen.json({"folders": others})
        return
    _show_dataset(screen, target, as_json)


def _show_dataset(screen: Screen, store: Store, as_json: bool) -> None:
    """What the dataset holds and what is odd about it, by its manifest."""
    from rich.text import Text

    from raffect.affwild2.findings import findings_of, noted
    from raffect.store import DATASET, read_manifest
    from raffect.store.layout import MANIFEST

    manifest = read_manifest(store, DATASET)
    findings = findings_of(manifest)
    if as_json:
        screen.json({**manifest.counts, "findings": noted(findings)})
        return
    rows = [
        [task, split, *(f"{number:,}" for number in _labels(numbers))]
        for task, splits in manifest.counts["labels"].items()
        for split, numbers in splits.items()
    ]
    screen.table(["task", "split", ">videos", ">frames", ">valid", ">with crop", ">without"], rows)
    crops = manifest.counts["crops"]
    videos = manifest.config.get("images", {}).get("videos")
    screen.say(
        f"Crops: {crops['readable']:,} readable, {len(crops['unreadable']):,} unreadable"
        + (f", of {videos:,} videos" if videos is not None else "")
    )
    if not findings:
        return
    odd = []
    for finding in findings:
        first = shortened(finding.names[0], SHOWN_NAME)
        cells = [f"{'! ' if finding.warning else ''}{finding.text}", f"{finding.count:,}", first]
        odd.append([Text(cell, "yellow" if finding.warning else "") for cell in cells])
    screen.say("")
    screen.table(["left out or unusual", ">count", "first"], odd)
    warnings = sum(finding.warning for finding in findings)
    if warnings:
        screen.styled(
            f"[yellow]! {warnings} warning{'s' if warnings > 1 else ''}:"
            " scores may suffer; `prepare --strict` would refuse it.[/]"
        )
    screen.path(f"Full list: {store.where(DATASET)}/{MANIFEST}, notes")


def _labels(numbers: Mapping[str, int]) -> list[int]:
    """Videos, annotated frames, valid ones, and of those with a crop and without."""
    valid, without = numbers["valid"], numbers["valid_without_crop"]
    return [numbers["videos"], numbers["frames"], valid, valid - without, without]
