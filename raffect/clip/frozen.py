"""An encoder as its weights are, e.g. for teams that have no expression labels to tune it on."""

from __future__ import annotations

from raffect.clip.encoder import build_encoder
from raffect.config import FinetuneConfig, RunConfig
from raffect.context import Context
from raffect.store import Manifest, Stage, Store, encoder_folder
from raffect.store.layout import CONFIG, ENCODER_WEIGHTS, METRICS
from raffect.store.manifest import has_manifest
from raffect.training.checkpoints import json_bytes, tensor_bytes

NOT_TUNED = "not tuned: the encoder is as its weights were, and its expression head is untrained"


def freeze(
    store: Store, name: str, config: FinetuneConfig, context: Context = Context()
) -> Manifest:
    """Write an encoder without tuning it; needs neither Ray, nor a dataset, nor labels.

    Of the settings only `encoder`, `head` and the seed count: the same encoder is the same work
    whatever is set beside.

    Raises:
        NotThereError: The pretrained weights can't be had.
        SettingsError: The architecture or its weights can't be used.
        ConflictError: Another encoder of that name was begun or made.
    """
    folder = encoder_folder(name)
    plan = FinetuneConfig(
        encoder=config.encoder,
        head=config.head,
        epochs=0,
        run=RunConfig(seed=config.run.seed),
    ).identity()
    encoder = None
    if context.overwrite or not has_manifest(store, folder):
        encoder = build_encoder(config.encoder, config.head, config.run.seed, guess=False)
    stage = Stage(store, folder, "encoder", plan, {}, context.overwrite)
    if stage.finished is not None:
        return stage.finished
    assert encoder is not None
    context.on_note(f"encoders/{name} is {NOT_TUNED}.")
    parts = [
        stage.write_part(ENCODER_WEIGHTS, tensor_bytes(encoder.state_dict())),
        stage.write_part(CONFIG, json_bytes(encoder.describe())),
        stage.write_part(METRICS, json_bytes({"tuned": False, "note": NOT_TUNED})),
    ]
    return stage.finish(parts, {"epochs": 0, "dim": encoder.dim})
