"""The encoders whose features models were trained on, for crops that are in no store."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raffect.clip.encoder import FrameEncoder, load_encoder
from raffect.clip.encoding import encode_arrays
from raffect.clip.layers import use_layer
from raffect.config import ExtractConfig
from raffect.errors import SettingsError
from raffect.settings import build, override
from raffect.store import Store
from raffect.temporal.data import FeatureSet, check_encoder, sets_of
from raffect.temporal.ensemble import Ensemble
from raffect.temporal.inference import ModelBundle
from raffect.training.device import choose_device


def find_sets(ensembles: Sequence[Ensemble]) -> list[FeatureSet]:
    """The sets of features that some models read, each once; all can be computed from crops.

    Raises:
        SettingsError: A model was trained on features that no encoder makes.
    """
    members = list(itertools.chain.from_iterable(each.members for each in ensembles))
    found = {own.key: own for member in members for own in sets_of(member.lineage)}
    if imported := sorted({each.name for each in found.values() if each.encoder is None}):
        raise SettingsError(
            f"This model was trained on imported features ({', '.join(imported)}), which can't be"
            " computed from crops.",
            "--split, or --example FILE, of videos whose features are in the store",
            "Predict videos of the dataset, or train a model on extracted features alone: it"
            " predicts any crops and videos.",
        )
    return list(found.values())


def load_sets(
    store: Store, ensembles: Sequence[Ensemble]
) -> dict[str, tuple[FrameEncoder, ExtractConfig]]:
    """By key the encoders of the models' sets, on this machine's device, and their settings.

    Raises:
        SettingsError: A model was trained on features that no encoder makes.
        ConflictError: Another encoder has that name now.
    """
    sets = find_sets(ensembles)
    for member in itertools.chain.from_iterable(each.members for each in ensembles):
        for own in sets_of(member.lineage):
            check_encoder(store, member.lineage, str(own.encoder))
    return {each.key: _load(store, each) for each in sets}


def _load(store: Store, features: FeatureSet) -> tuple[FrameEncoder, ExtractConfig]:
    config = override(build(ExtractConfig, features.extract), {"run.device": "auto"})
    encoder = use_layer(load_encoder(store, str(features.encoder)), config.layer)
    return encoder.to(choose_device(config.run.device)).eval(), config


def join_sets(
    member: ModelBundle, encoded: dict[str, NDArray[np.floating]]
) -> NDArray[np.floating]:
    """The input `(crops, features)` of a model from the features of each set, by key."""
    own = [encoded[each.key] for each in sets_of(member.lineage)]
    return own[0] if len(own) == 1 else np.concatenate(own, axis=1)


@dataclass(frozen=True)
class Encoders:
    """Encoders by the key of their set of features; each computes once, whoever reads it."""

    sets: dict[str, tuple[FrameEncoder, ExtractConfig]]

    @classmethod
    def of(cls, store: Store, ensembles: Sequence[Ensemble]) -> Encoders:
        """Those of some models; raises as `load_sets`."""
        return cls(load_sets(store, ensembles))

    @property
    def batch_size(self) -> int:
        """Crops that are encoded at a time, as `raffect extract` does."""
        return min(config.batch_size for _, config in self.sets.values())

    def encode(
        self,
        crops: Sequence[NDArray[np.uint8]],
        location: Callable[[int], str] = "number {}".format,
    ) -> dict[str, NDArray[np.floating]]:
        """Features `(crops, dim)` of crops' pixels `(height, width, 3)`, by key of the set.

        `location` names a crop by its index, for messages.

        Raises:
            DataError: Some are not finite, or beyond the range of the set's dtype.
        """
        return {
            key: encode_arrays(encoder, crops, config, location)
            for key, (encoder, config) in self.sets.items()
        }
