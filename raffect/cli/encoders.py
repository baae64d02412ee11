"""finetune, extract: the frame encoder and its features."""

from __future__ import annotations

from typing import Annotated

import typer

from raffect.cli.options import (
    AddressOption,
    ConfigOption,
    FoldOption,
    OverwriteOption,
    QuietOption,
    SetOption,
    StoreOption,
    WorkersOption,
    begin,
    in_fold,
    settings,
)

DEFAULT_NAME = "clip"
ModelOption = Annotated[
    str | None, typer.Option(help="open_clip architecture, e.g. ViT-B-16, or hf-hub:ORG/NAME.")
]
PretrainedOption = Annotated[
    str | None, typer.Option(help="open_clip tag, local weights file, or none.")
]


def finetune(
    name: Annotated[str, typer.Option(help="Name of the encoder.")] = DEFAULT_NAME,
    model: ModelOption = None,
    pretrained: PretrainedOption = None,
    fold: FoldOption = None,
    workers: WorkersOption = 1,
    config: ConfigOption = None,
    changes: SetOption = None,
    store: StoreOption = None,
    address: AddressOption = None,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
) -> None:
    """Fine-tune CLIP's image tower on the expression labels (Ray Train).

    --set epochs=0 writes it as it is; this needs no labels.
    """
    from raffect.clip.finetune import finetune as run
    from raffect.clip.training import FinetuneEpoch
    from raffect.config import FinetuneConfig
    from raffect.context import Context
    from raffect.store import encoder_folder

    options = _tower(model, pretrained) | in_fold(fold)
    chosen, folder = settings(FinetuneConfig(), config, changes, options), encoder_folder(name)
    target, screen = begin(store, quiet, may_be_new=True)
    tower = chosen.encoder.model
    title = f"Fine-tuning {tower} on expressions" if chosen.epochs else f"Writing {tower} as it is"
    with screen.stage(title) as bar:

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
    screen.ready(target.where(folder), manifest)


def _tower(model: str | None, pretrained: str | None) -> dict[str, object]:
    chosen: dict[str, object] = {}
    if model is not None:
        chosen["encoder.model"] = model
    if pretrained is not None:
        chosen["encoder.pretrained"] = None if pretrained.lower() == "none" else pretrained
    return chosen


def extract(
    encoder: Annotated[
        str | None, typer.Option(help="Name of the encoder.", show_default=DEFAULT_NAME)
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the features.", show_default="the encoder's")
    ] = None,
    model: ModelOption = None,
    pretrained: PretrainedOption = None,
    workers: WorkersOption = 1,
    config: ConfigOption = None,
    changes: SetOption = None,
    store: StoreOption = None,
    address: AddressOption = None,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
) -> None:
    """Extract one feature vector per crop (Ray Data).

    --model or --pretrained take that encoder as it is, and save it under the features' name.
    """
    from raffect.clip.extract import extract as run
    from raffect.config import ExtractConfig, FinetuneConfig
    from raffect.context import Context
    from raffect.errors import SettingsError
    from raffect.store import DATASET, encoder_folder, features_folder, read_manifest

    tower = _tower(model, pretrained)
    if tower and encoder is not None:
        raise SettingsError(
            "--encoder names one of the store's encoders, and --model or --pretrained another.",
            "either of the two",
            "Leave out --encoder: --name is what the new encoder and its features are called.",
        )
    # Those that say what the encoder is are settings of `finetune`.
    its = [change for change in changes or [] if tower and change.startswith("encoder.")]
    chosen = settings(ExtractConfig(), config, [c for c in changes or [] if c not in its])
    folder = features_folder(name or encoder or DEFAULT_NAME)
    target, screen = begin(store, quiet)
    if tower:
        from raffect.clip.frozen import freeze

        encoder = name or DEFAULT_NAME
        frozen = settings(FinetuneConfig(epochs=0), None, its, tower)
        # A store without crops is said before weights are fetched.
        read_manifest(target, DATASET)
        with screen.stage(f"Writing {frozen.encoder.model} as it is"):
            made = freeze(target, encoder, frozen, Context(address, overwrite, on_note=screen.say))
        screen.ready(target.where(encoder_folder(encoder)), made)
    encoder = encoder or DEFAULT_NAME
    with screen.stage(f"Extracting features with {encoder}") as bar:
        context = Context(address, overwrite, bar.tick, screen.say)
        manifest = run(target, encoder, name or encoder, chosen, workers=workers, context=context)
        bar.tell(f"{manifest.counts['rows']:,} x {manifest.counts['dim']}")
    screen.ready(target.where(folder), manifest)
