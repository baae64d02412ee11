"""features: the store's sets of features, and bringing in those that others computed."""

from __future__ import annotations

from typing import Annotated

import typer

from raffect.cli.options import JsonOption, OverwriteOption, QuietOption, StoreOption, begin


def list_features(
    context: typer.Context,
    store: StoreOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """List the store's features: rows, width and encoder; unfinished ones, too."""
    if context.invoked_subcommand is not None:
        return
    from raffect.store.features import dtype_of
    from raffect.store.layout import FEATURES
    from raffect.store.manifest import list_manifests

    target, screen = begin(store, quiet, as_json)
    found, rows = [], []
    for name, manifest in list_manifests(target, FEATURES):
        counts, config = (manifest.counts, manifest.config) if manifest else ({}, {})
        about = {
            "name": name,
            "rows": counts.get("rows"),
            "dim": counts.get("dim"),
            "dtype": dtype_of(config).name if manifest else None,
            "encoder": config.get("encoder"),
        }
        found.append({**about, "finished": manifest is not None})
        numbers = [f"{counts[key]:,}" if counts else "–" for key in ("rows", "dim")]
        made_by = (about["encoder"] or "imported") if manifest else "unfinished"
        rows.append([name, *numbers, about["dtype"] or "–", made_by])
    if as_json:
        screen.json(found)
    elif not found:
        screen.say("No features yet. Make some: raffect extract, or raffect features import DIR")
    else:
        screen.table(["features", ">rows", ">width", "type", "encoder"], rows)


def import_(
    folder: Annotated[
        str,
        typer.Argument(
            metavar="DIR", help="Folder with a VIDEO.npy per video, or s3://bucket/prefix."
        ),
    ],
    name: Annotated[str, typer.Option(help="Name of the features.")],
    store: StoreOption = None,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
) -> None:
    """Import features of your own: one array (frames, values) per video.

    Row i is frame i, unless VIDEO.frames.npy gives the frame number (from 1) of each row.
    """
    from raffect.context import Context
    from raffect.store import features_folder
    from raffect.store.raw import RawFolder
    from raffect.temporal.import_features import import_features

    target, screen = begin(store, quiet)
    with screen.stage(f"Importing {name}") as bar:
        context = Context(None, overwrite, bar.tick, screen.say)
        manifest = import_features(target, RawFolder.of(folder, "DIR"), name, context)
        bar.tell(f"{manifest.counts['rows']:,} x {manifest.counts['dim']}")
    screen.ready(target.where(features_folder(name)), manifest)
