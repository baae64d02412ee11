"""A small prepared dataset with features, in the formats of the store, made without the stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raffect.affwild2.labels import VideoLabels, labels_file, to_parquet
from raffect.affwild2.tasks import SPECS, Split, Task
from raffect.config import TemporalConfig
from raffect.settings import override
from raffect.store import DATASET, FileEntry, Store, features_folder, read_manifest
from raffect.store import features as feature_files
from raffect.store.manifest import make_manifest, write_manifest

DIM = 12


@dataclass(frozen=True)
class Video:
    """A video of the small dataset.

    Attributes:
        frames: 1-based frames with a crop.
        features: One row per crop.
        labels: Per task.
    """

    name: str
    frames: NDArray[np.int32]
    features: NDArray[np.float32]
    labels: dict[Task, VideoLabels]


def make_video(name: str, split: Split, length: int, seed: int) -> Video:
    """Slow latents that features show through noise; gaps, invalid labels, one line more."""
    rng = np.random.default_rng([seed, 7])
    latents = np.cumsum(rng.normal(0, 0.15, (length + 1, 2)), axis=0)
    latents = np.tanh(latents - latents.mean(axis=0)).astype(np.float32)
    mix = np.random.default_rng(3).normal(0, 1, (2, DIM))
    features = latents[:length] @ mix + rng.normal(0, 0.5, (length, DIM))
    frames = np.flatnonzero(rng.random(length) > 0.1).astype(np.int32) + 1
    expression = np.digitize(latents[:, :1], [-0.7, -0.4, -0.1, 0.1, 0.3, 0.5, 0.7])
    units = latents[:, :1] > np.linspace(-0.5, 0.5, 12)
    values = {Task.VA: latents, Task.EXPR: expression, Task.AU: units}
    labels = {}
    for task, own in values.items():
        marked = own.astype(np.float32).copy()
        marked[rng.random(length + 1) < 0.1] = SPECS[task].invalid
        labels[task] = VideoLabels(name, split, marked, SPECS[task].valid(marked))
    return Video(name, frames, features[frames - 1].astype(np.float32), labels)


def small_videos() -> list[Video]:
    lengths = {Split.TRAIN: (90, 61, 30, 7, 75), Split.VALIDATION: (70, 5, 44)}
    return [
        make_video(f"{split.value}-{i}", split, length, 10 * i + len(split.value))
        for split, own in lengths.items()
        for i, length in enumerate(own)
    ]


def fill(
    store: Store,
    videos: list[Video],
    features: str = "clip",
    labels: Mapping[Task, Mapping[str, VideoLabels]] | None = None,
) -> None:
    """Write the dataset's labels and the features of the videos into the store, in two files."""
    chosen = labels or {t: {v.name: v.labels[t] for v in videos if t in v.labels} for t in Task}
    entries = []
    for task in Task:
        data = to_parquet(task, chosen.get(task, {}))
        store.write_bytes(f"{DATASET}/{labels_file(task)}", data)
        entries.append(FileEntry.of(labels_file(task), data))
    dataset = make_manifest("dataset", {}, {}, entries)
    write_manifest(store, DATASET, dataset)
    write_features(store, videos, features, dataset.digest())


def write_features(
    store: Store, videos: list[Video], name: str, dataset: str, dtype: str = "float16"
) -> None:
    folder = features_folder(name)
    ordered = sorted((v for v in videos if len(v.frames)), key=lambda v: v.name)
    entries = []
    for shard, part in enumerate((ordered[::2], ordered[1::2])):
        if not part:
            continue
        names = [v.name for v in part for _ in v.frames]
        frames = np.concatenate([v.frames for v in part])
        values = np.concatenate([v.features for v in part])
        data = feature_files.to_parquet(names, frames, values, dtype)
        file = f"{shard:05d}.parquet"
        store.write_bytes(f"{folder}/{file}", data)
        entries.append(FileEntry.of(file, data))
    counts = {"rows": sum(len(v.frames) for v in videos), "dim": ordered[0].features.shape[1]}
    config = {"encoder": "clip"} | ({} if dtype == "float16" else {"dtype": dtype})
    manifest = make_manifest("features", config, {DATASET: dataset}, entries, counts)
    write_manifest(store, folder, manifest)


def small_config(task: Task, **changes: object) -> TemporalConfig:
    """A model that trains in tenths of a second; `a__b=c` changes the setting a.b."""
    base = {
        "segments.window": 20,
        "segments.stride": 15,
        "model.tcn.depth": 2,
        "model.tcn.channels": (8,),
        "model.tcn.kernel": 3,
        "model.tcn.dropout": 0.1,
        "model.width": 8,
        "model.transformer.layers": 1,
        "model.transformer.heads": 2,
        "model.transformer.feedforward": 16,
        "model.transformer.dropout": 0.1,
        "model.head_hidden": 8,
        "model.head_dropout": 0.1,
        "optimiser.epochs": 4,
        "optimiser.batch_size": 4,
        "optimiser.lr": 0.01,
        "run.device": "cpu",
    }
    dotted = {key.replace("__", "."): value for key, value in changes.items()}
    return override(TemporalConfig(task=task), {**base, **dotted})


NO_DROPOUT = {
    "model__tcn__dropout": 0.0,
    "model__transformer__dropout": 0.0,
    "model__head_dropout": 0.0,
}


def rewrite(store: Store, folder: str, name: str, data: bytes) -> None:
    """Another content of a finished folder's file, as if it had been written so."""
    store.write_bytes(f"{folder}/{name}", data)
    manifest = read_manifest(store, folder)
    files = tuple(FileEntry.of(name, data) if of.name == name else of for of in manifest.files)
    write_manifest(store, folder, manifest.model_copy(update={"files": files}))
