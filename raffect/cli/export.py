"""export, import, push, pull: models as folders that run anywhere, and back into a store."""

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
from raffect.cli.screen import Screen

ReplaceOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace a folder that an export wrote.")
]

MLflowOption = Annotated[
    str | None,
    typer.Option("--mlflow", metavar="URI", help="An MLflow server's registry, not the hub."),
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
    name: Annotated[
        str | None, typer.Option(help="Name of the model.", show_default="as it was called")
    ] = None,
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

    for called in (name, encoder_name):
        if called is not None:
            check_name(called)
    found_name = read_export(folder).model.name
    # A trial is called SWEEP:7, a model may be called models/NAME.
    name = name or check_name(found_name.rpartition("/")[2].replace(":", "-"))
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


def push(
    source: Annotated[
        str,
        typer.Argument(
            metavar="DIR|MODEL",
            autocompletion=COMPLETE_MODEL,
            help="An exported folder; or a model or SWEEP[:TRIAL] to export and push.",
        ),
    ],
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="OWNER/NAME on the hub, or a name in MLflow.")
    ],
    mlflow: MLflowOption = None,
    public: Annotated[
        bool, typer.Option("--public", help="Make a new repository public; else it is private.")
    ] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Put an exported model on Hugging Face's hub (or HF_ENDPOINT), or into MLflow's registry."""
    from tempfile import TemporaryDirectory

    from raffect.export.layout import FORMATS, MANIFEST, read_export
    from raffect.export.registry import push_to_hub, push_to_mlflow
    from raffect.predict.models import resolve

    with TemporaryDirectory() as scratch:
        folder = Path(source)
        if (folder / MANIFEST).is_file():
            screen = Screen(quiet, as_json)
            read_export(folder)
        else:
            target, screen = begin(store, quiet, as_json)
            files, folder = resolve(target, source), Path(scratch) / "model"
            with screen.stage(f"Exporting {source}") as bar:
                from raffect.export.write import export as run

                run(target, files, source, FORMATS[:1], folder, progress=bar.tick)
        with screen.stage(f"Pushing {source}"):
            if mlflow is None:
                where = push_to_hub(folder, name, public)
            else:
                where = push_to_mlflow(folder, name, mlflow)
    if as_json:
        screen.json({"where": where})
        return
    screen.path(f"{where} holds it.")
    told = "" if mlflow is None else f" --mlflow {shlex.quote(mlflow)}"
    screen.path(f"Next: raffect pull {shlex.quote(name)} --out DIR{told}")


def pull(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="OWNER/NAME on the hub, or NAME[/VERSION] in MLflow."),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder to make.")],
    mlflow: MLflowOption = None,
    revision: Annotated[
        str | None, typer.Option(help="Commit, branch or tag on the hub.", show_default="main")
    ] = None,
    overwrite: ReplaceOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Get a model that `push` put somewhere, as an exported folder; every file is verified."""
    from raffect.export.layout import check_target
    from raffect.export.registry import pull_from_hub, pull_from_mlflow

    check_target(out, overwrite)
    screen = Screen(quiet, as_json)
    with screen.stage(f"Pulling {name}"):
        if mlflow is None:
            found = pull_from_hub(name, out, revision, overwrite)
        else:
            found = pull_from_mlflow(name, mlflow, out, overwrite)
    if as_json:
        screen.json({"out": str(out), **found.manifest.canonical()})
        return
    model = found.model
    screen.path(f"{out} written: {model.name}, a model of {model.task.value.upper()}.")
    screen.path(f"Next: raffect import {shlex.quote(str(out))} --name NAME")
