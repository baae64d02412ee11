"""export, import: models as folders that run anywhere, and back into a store."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from raffect.cli.options import (
    COMPLETE_MODEL,
    JsonOption,
    OverwriteOption,
    QuietOption,
    StoreOption,
    begin,
)

ReplaceOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace a folder that an export wrote.")
]


def export(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL|SWEEP[:TRIAL]",
            autocompletion=COMPLETE_MODEL,
            help="A model, a sweep (its best trial), or a trial.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder to make.")],
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="folder (safetensors and JSON), onnx or torchscript; may be repeated.",
            show_default="folder",
        ),
    ] = None,
    store: StoreOption = None,
    overwrite: ReplaceOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write a model with its encoder into a folder that runs without raffect."""
    from raffect.export.layout import FORMATS, check_formats, check_target
    from raffect.predict.models import resolve
    from raffect.text import size_text

    wanted = check_formats(formats or FORMATS[:1])
    check_target(out, overwrite)
    target, screen = begin(store, quiet, as_json)
    files = resolve(target, model)
    with screen.stage(f"Exporting {model}") as bar:
        # Torch takes seconds to load: a wrong name is said before.
        from raffect.export.write import export as run

        manifest = run(target, files, model, wanted, out, overwrite, bar.tick)
        bar.tell(size_text(sum(entry.size for entry in manifest.files)))
    if as_json:
        screen.json({"out": str(out), **manifest.canonical()})
        return
    screen.path(f"{out} written: {', '.join(wanted)}. Its README.md says what it is.")
    programs = [each for each in ("run.py", "run_graphs.py") if (out / each).exists()]
    if not programs:
        screen.say(
            "Without an encoder: the model was trained on imported features, which it takes."
        )
    words = " torchscript" if wanted == ("torchscript",) else ""
    for program in programs[:1]:
        screen.path(f"Next: python {shlex.quote(str(out / program))} CROPS OUT.csv{words}")


def import_model(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder that `raffect export` wrote.")
    ],
    name: Annotated[str, typer.Option(help="Name of the model.")],
    encoder_name: Annotated[
        str | None, typer.Option(help="Name of its encoder.", show_default="as it was called")
    ] = None,
    store: StoreOption = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Put an exported model and its encoder into a store; every file is verified."""
    from raffect.context import Context
    from raffect.export.layout import read_export
    from raffect.store import encoder_folder, model_folder
    from raffect.store.layout import check_name

    for called in (name, encoder_name or name):
        check_name(called)
    read_export(folder)
    target, screen = begin(store, quiet, as_json, may_be_new=True)
    with screen.stage(f"Importing {name}") as bar:
        from raffect.export.load import import_model as run

        found = run(target, folder, name, encoder_name, Context(overwrite=overwrite))
        bar.tell(f"score {found.manifest.counts['score']:.4f}")
    where = target.where(model_folder(name))
    if as_json:
        screen.json({"name": name, "folder": where, "encoders": found.encoders})
        return
    for called in found.encoders.values():
        screen.path(f"{target.where(encoder_folder(called))} is its encoder.")
    screen.ready(where, found.manifest)
    told = f"--store {shlex.quote(target.uri)}"
    source = "--frames CROPS" if found.encoders else "--split validation"
    screen.path(f"Next: raffect predict models/{name} {source} --out OUT.csv {told}")
