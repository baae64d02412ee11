"""finetune, extract: the frame encoder and its features."""

from __future__ import annotations

from typing import Annotated

import typer

from raffect.cli.options import (
    AddressOption,
    ConfigOption,
    OverwriteOption,
    QuietOption,
    SetOption,
    StoreOption,
    WorkersOption,
    begin,
    settings,
)

DEFAULT_NAME = "clip"


def finetune(
    name: Annotated[str, typer.Option(help="Name of the encoder.")] = DEFAULT_NAME,
    model: Annotated[
        str | None, typer.Option(help="open_clip architecture, e.g. ViT-B-16, or raffect-tiny.")
    ] = None,
    pretrained: Annotated[
        str | None, typer.Option(help="open_clip tag, local weights file, or none.")
    ] = None,
    workers: WorkersOption = 1,
    config: ConfigOption = None,
    changes: SetOption = None,
    store: StoreOption = None,
    address: AddressOption = None,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
) -> None:
    """Fine-tune CLIP's image tower on the expression labels (Ray Train)."""
    from raffect.clip.finetune import finetune as run
    from raffect.clip.training import FinetuneEpoch
    from raffect.config import FinetuneConfig
    from raffect.context import Context
    from raffect.store import encoder_folder

    extra: dict[str, object] = {}
    if model is not None:
        extra["encoder.model"] = model
    if pretrained is not None:
        extra["encoder.pretrained"] = None if pretrained.lower() == "none" else pretrained
    chosen = settings(FinetuneConfig(), config, changes, extra)
    target, screen = begin(store, quiet)
    with screen.stage(f"Fine-tuning {chosen.encoder.model} on expressions") as bar:

        def on_epoch(result: FinetuneEpoch) -> None:
            bar.tick(result["epoch"], chosen.epochs)
            bar.tell(f"macro F1 {result['macro_f1']:.3f}")

        manifest = run(
            target,
            name,
            chosen,
            workers=workers,
            on_epoch=on_epoch,
            context=Context(address, overwrite, on_note=screen.say),
        )
    screen.ready(target.where(encoder_folder(name)), manifest)


def extract(
    encoder: Annotated[str, typer.Option(help="Name of the encoder.")] = DEFAULT_NAME,
    name: Annotated[
        str | None, typer.Option(help="Name of the features.", show_default="the encoder's")
    ] = None,
    workers: WorkersOption = 1,
    config: ConfigOption = None,
    changes: SetOption = None,
    store: StoreOption = None,
    address: AddressOption = None,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
) -> None:
    """Turn every crop into one feature (Ray Data)."""
    from raffect.clip.extract import extract as run
    from raffect.config import ExtractConfig
    from raffect.context import Context
    from raffect.store import features_folder

    chosen = settings(ExtractConfig(), config, changes)
    target, screen = begin(store, quiet)
    with screen.stage(f"Extracting features with {encoder}") as bar:
        context = Context(address, overwrite, bar.tick, screen.say)
        manifest = run(target, encoder, name or encoder, chosen, workers=workers, context=context)
        bar.tell(f"{manifest.counts['rows']:,} x {manifest.counts['dim']}")
    screen.ready(target.where(features_folder(name or encoder)), manifest)
