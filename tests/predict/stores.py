"""Stores with models on features that a real encoder of the store could have made."""

from __future__ import annotations

import numpy as np

from raffect.affwild2.tasks import Task
from raffect.clip.encoder import build_encoder
from raffect.config import EncoderConfig
from raffect.store import Store, encoder_folder, features_folder
from raffect.store import features as feature_files
from raffect.store.layout import CONFIG, ENCODER_WEIGHTS
from raffect.store.manifest import FileEntry, make_manifest, read_manifest, write_manifest
from raffect.temporal.train import train
from tests.clip.clip_data import to_bytes
from tests.sweep import tiny

TASKS = [task.value for task in Task]


def fill_with_tasks(store: Store) -> Store:
    """Fill a store with an encoder and a model of each task, named as the task."""
    # Untrained as it is, the smaller one hardly tells crops apart; nor do models of features that
    # are larger than the encoder's.
    fill_with_encoder(store, model="raffect-tiny-vit", scale=0.02)
    for task in Task:
        train(
            store, tiny.base(task, optimiser__epochs=1, model__input="zscore"), "clip", task.value
        )
    return store


def fill_with_encoder(
    store: Store, dim: int = 64, model: str = "raffect-tiny", scale: float = 1, **settings: str
) -> Store:
    """Fill a store with an encoder, features made by these settings of `extract`, and a model."""
    tiny.fill(store)
    encoder = build_encoder(EncoderConfig(model=model, pretrained=None))
    folder = encoder_folder("clip")
    store.write_bytes(f"{folder}/{ENCODER_WEIGHTS}", to_bytes(encoder))
    store.write_json(f"{folder}/{CONFIG}", encoder.describe())
    entry = FileEntry.of(ENCODER_WEIGHTS, store.read_bytes(f"{folder}/{ENCODER_WEIGHTS}"))
    manifest = make_manifest("encoder", {}, {}, [entry])
    write_manifest(store, folder, manifest)
    write_made(store, "clip", dim, scale, **settings)
    train(store, tiny.base(optimiser__epochs=1), "clip", "mine")
    return store


def write_made(store: Store, name: str, dim: int, scale: float = 1, **settings: str) -> None:
    """Write features of that width as if the encoder had made them by these settings."""
    folder = encoder_folder("clip")
    names = [name for name in (f"v{i}" for i in range(6)) for _ in range(60)]
    frames = np.tile(np.arange(1, 61, dtype=np.int32), 6)
    values = np.random.default_rng(0).normal(scale=scale, size=(360, dim))
    data = feature_files.to_parquet(names, frames, values, settings.get("dtype", "float16"))
    store.write_bytes(f"{features_folder(name)}/00000.parquet", data)
    dataset = read_manifest(store, "dataset").digest()
    write_manifest(
        store,
        features_folder(name),
        make_manifest(
            "features",
            {"encoder": "clip", **settings},
            {"dataset": dataset, folder: read_manifest(store, folder).digest()},
            [FileEntry.of("00000.parquet", data)],
            {"rows": 360, "dim": dim},
        ),
    )
