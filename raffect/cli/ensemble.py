"""ensemble: several trials as one model."""

from __future__ import annotations

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


def ensemble(
    members: Annotated[
        list[str],
        typer.Argument(
            metavar="SWEEP|MODEL ...",
            autocompletion=COMPLETE_MODEL,
            help="A sweep, or several models and SWEEP:TRIALs of one task.",
        ),
    ],
    top: Annotated[
        int | None,
        typer.Option(
            min=1, help="Number of best trials of the sweep to average.", show_default="5 or all"
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the model.", show_default="TASK-ensemble")
    ] = None,
    method: Annotated[
        str, typer.Option(help="greedy (weights chosen on validation, cross-fitted) or mean")
    ] = "greedy",
    store: StoreOption = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Average several trials or models into one, which is used like any other model.

    Fold and post-processing are those of its members.
    """
    from raffect.context import Context
    from raffect.predict.models import resolve_members
    from raffect.store import model_folder
    from raffect.temporal.ensembling import make_ensemble, read_metrics, task_of

    target, screen = begin(store, quiet, as_json)
    wanted = resolve_members(target, members, top)
    called = name or f"{task_of(target, wanted[0][1])}-ensemble"
    with screen.stage(f"Averaging {len(wanted)} models") as bar:
        context = Context(overwrite=overwrite, on_note=screen.note)
        manifest = make_ensemble(target, called, wanted, method, context)
        bar.tell(f"score {manifest.counts['score']:.4f}")
    metrics = read_metrics(target, called)
    if as_json:
        screen.json({"name": called, "fold": manifest.config["fold"], **metrics})
        return
    rows = [
        [of["model"], f"{of['weight']:.2f}", f"{of['score']:.4f}"] for of in metrics["members"]
    ]
    screen.table(["member", ">weight", ">score"], rows)
    before = f"; before post-processing {metrics['raw']:.4f}" if "raw" in metrics else ""
    screen.styled(f"Score on validation: [bold]{metrics['score']:.4f}[/]{before}")
    if metrics["method"] == "greedy":
        screen.styled("[dim]Weights chosen on one half of the videos, scored on the other.[/]")
    screen.ready(target.where(model_folder(called)), manifest)
