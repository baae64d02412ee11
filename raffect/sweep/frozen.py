"""Features of an encoder as it was before it was fine-tuned: the same tower, weights, settings."""

from __future__ import annotations

from dataclasses import dataclass, field

from raffect.config import ExtractConfig, FinetuneConfig
from raffect.context import Context
from raffect.errors import ConflictError, NotThereError, SettingsError
from raffect.settings import build
from raffect.store import Store, encoder_folder, features_folder, read_manifest
from raffect.store.features import FeatureNames, feature_names, plain_names
from raffect.store.manifest import has_manifest


@dataclass(frozen=True)
class FrozenFeatures:
    """What to make, encoder and features under one name; nothing if the user named them."""

    name: str
    encoder: FinetuneConfig | None = None
    extract: ExtractConfig = field(default_factory=ExtractConfig)


@dataclass(frozen=True)
class FrozenSets:
    """What a model without fine-tuning is trained on: the names, and those of them to be made."""

    features: str | list[str]
    made: tuple[FrozenFeatures, ...]


def plan_frozen_sets(
    store: Store, features: FeatureNames, wanted: str | None = None
) -> FrozenSets | str:
    """The sets of features with each tuned encoder frozen, or why there are none, in words.

    Args:
        wanted: As `plan_frozen` takes it, where there is one set.

    Raises: as `plan_frozen`.
    """
    names = feature_names(features)
    if wanted is not None and len(names) > 1:
        raise SettingsError(
            f"--frozen {wanted}: there are {len(names)} sets of features.",
            "--frozen with one set of features",
            "Leave it out: what can be made is made, under names of its own.",
        )
    planned = [plan_frozen(store, name, wanted) for name in names]
    found = [one for one in planned if isinstance(one, FrozenFeatures)]
    if not found:
        return "; ".join(one for one in planned if isinstance(one, str))
    used = [
        name if isinstance(one, str) else one.name
        for name, one in zip(names, planned, strict=True)
    ]
    return FrozenSets(plain_names(used), tuple(found))


def plan_frozen(store: Store, features: str, wanted: str | None = None) -> FrozenFeatures | str:
    """The features of the frozen encoder, or why there are none, in words.

    Args:
        features: Those of the tuned encoder.
        wanted: Features of the store, or a name for those to be made.

    Raises:
        NotThereError: There are no such features; or the wanted ones are not there, and can't be
            made.
        SettingsError: The wanted ones are of an encoder that was fine-tuned.
    """
    manifest = read_manifest(store, features_folder(features))
    if wanted is not None and has_manifest(store, features_folder(wanted)):
        found = _encoder(store, wanted)
        if wanted == features or (not isinstance(found, str) and found.epochs):
            raise SettingsError(
                f"The encoder of the features {wanted!r} was fine-tuned.",
                "--frozen with features of an encoder as it was before, or a new name for them",
                "Leave --frozen out: they are made.",
            )
        return FrozenFeatures(wanted)
    encoder = _encoder(store, features)
    if not isinstance(encoder, str):
        if encoder.epochs:
            known = {k: v for k, v in manifest.config.items() if k in ExtractConfig.model_fields}
            name = wanted or f"{features}-frozen"
            frozen = FrozenFeatures(name, encoder, build(ExtractConfig, known))
            return FrozenFeatures(name) if _is_made(store, frozen) else frozen
        encoder = f"the encoder of {features!r} was never fine-tuned"
    if wanted is not None:
        raise NotThereError(
            f"The store {store.uri} holds no features {wanted!r}; they can't be made: {encoder}.",
            "features of the same crops by an encoder that was not fine-tuned",
            "Make them with `raffect extract --model ARCHITECTURE --name NAME`, or leave --frozen"
            " out.",
        )
    return encoder


def _is_made(store: Store, wanted: FrozenFeatures) -> bool:
    """Whether the store has just these; anything else of that name is for make_frozen to tell."""
    assert wanted.encoder is not None
    if not has_manifest(store, features_folder(wanted.name)):
        return False
    config = read_manifest(store, features_folder(wanted.name)).config
    encoder = _encoder(store, wanted.name)
    if isinstance(encoder, str) or config != {"encoder": wanted.name, **wanted.extract.identity()}:
        return False
    tower = (wanted.encoder.encoder, wanted.encoder.head, wanted.encoder.run.seed)
    return not encoder.epochs and (encoder.encoder, encoder.head, encoder.run.seed) == tower


def _encoder(store: Store, features: str) -> FinetuneConfig | str:
    """How the encoder of features was tuned, or why that is not known."""
    manifest = read_manifest(store, features_folder(features))
    name = manifest.config.get("encoder")
    if name is None:
        return f"{features!r} was imported, and its encoder is not known"
    folder = encoder_folder(name)
    if not has_manifest(store, folder):
        return f"the encoder of {features!r}, {name!r}, is not in this store"
    encoder = read_manifest(store, folder)
    if manifest.sources.get(folder) != encoder.digest():
        return f"the encoder of {features!r}, {name!r}, was made again since"
    known = {k: v for k, v in encoder.config.items() if k in FinetuneConfig.model_fields}
    return build(FinetuneConfig, known)


def make_frozen(store: Store, frozen: FrozenFeatures, context: Context = Context()) -> None:
    """Make the features where they are not there yet; the context's `progress` counts crops.

    Raises:
        NotThereError: The dataset or the pretrained weights can't be had.
        ConflictError: The name is taken by something else.
    """
    from raffect import engine
    from raffect.clip.extract import extract
    from raffect.clip.frozen import freeze

    if frozen.encoder is None:
        return
    try:
        freeze(store, frozen.name, frozen.encoder, context)
        workers = 1
        if not has_manifest(store, features_folder(frozen.name)):
            engine.connect(context.address)
            workers = max(1, int(engine.count_gpus()))
        extract(store, frozen.name, frozen.name, frozen.extract, workers, context)
    except ConflictError as error:
        raise ConflictError(
            error.got,
            "a name of its own for the features of the frozen encoder",
            "Give another one: --frozen NAME",
        ) from None
