"""VA data of the demo's size without drawing a face: its people, with features made from states.

The demo's own cast (lengths, missing crops, splits, invalid labels) performs; what a fine-tuned
encoder would say of a frame is a fixed nonlinear map of the person's state, looks and noise.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from raffect import demo
from raffect.affwild2.labels import VideoLabels, labels_file, to_parquet
from raffect.affwild2.tasks import SPECS, Task
from raffect.cli.demo import VIDEOS
from raffect.config import TemporalConfig, recipe
from raffect.settings import override
from raffect.store import DATASET, Store, features_folder
from raffect.store import features as feature_files
from raffect.store.manifest import FileEntry, make_manifest, write_manifest
from raffect.synthetic.cast import Clip, cast
from raffect.synthetic.latents import Performance, deal, perform

FEATURES = "clip"
DIM = 64
"""Width of the demo's features."""
SIZES = ("demo", "bare")
SIZE_VARIABLE = "RAFFECT_BENCHMARK_SIZE"
_LOOKS = 6
_HIDDEN = 128
_NOISE = 1.2
"""Of a feature; the demo's best trials reach a CCC of 0.8 of 0.9, and so do these."""


def size() -> str:
    """The size of the model, as the environment says, so that other processes know it."""
    return os.environ.get(SIZE_VARIABLE, SIZES[0])


def base() -> TemporalConfig:
    """The demo's base configuration for VA: small sizes, 10 epochs."""
    small = {**demo.SMALL_TEMPORAL, "optimiser.epochs": demo.SMALL_EPOCHS[Task.VA]}
    bare = {"model.tcn.depth": 0, "model.transformer.layers": 0} if size() == "bare" else {}
    # The rivals average segments evenly, and all do the same work.
    same = {"run.device": "cpu", "segments.blend": "mean"}
    return override(recipe(Task.VA), {**small, **bare, **same})


def fill(store: Store, videos: int = VIDEOS, frames: int = demo.FRAMES, dim: int = DIM) -> Store:
    """Write VA's labels and features, one file of them.

    Args:
        store: An empty store.
        videos: People in the whole cast, of which 3 in 4 are annotated for VA.
        frames: Median length of a video.
        dim: Width of a feature.
    """
    labels: dict[str, VideoLabels] = {}
    names, numbers, rows = [], [], []
    for clip, performance in _perform(videos, frames):
        labels[clip.video] = _labels(clip, performance)
        own = np.flatnonzero(clip.present)
        names += [clip.video] * len(own)
        numbers.append(own.astype(np.int32) + 1)
        rows.append(_features(clip, performance, dim)[own])
    data = to_parquet(Task.VA, labels)
    dataset = make_manifest(
        "dataset", {}, {}, [_write(store, DATASET, labels_file(Task.VA), data)]
    )
    write_manifest(store, DATASET, dataset)
    folder = features_folder(FEATURES)
    data = feature_files.to_parquet(names, np.concatenate(numbers), np.concatenate(rows))
    manifest = make_manifest(
        "features",
        {"encoder": FEATURES},
        {DATASET: dataset.digest()},
        [_write(store, folder, "00000.parquet", data)],
        {"rows": len(names), "dim": dim},
    )
    write_manifest(store, folder, manifest)
    return store


def _perform(videos: int, frames: int) -> Iterator[tuple[Clip, Performance]]:
    """Those who are annotated for VA."""
    cards = deal(np.random.default_rng([demo.SEED, 1]))
    for clip in cast(videos, frames, demo.SEED):
        if Task.VA in clip.splits:
            rng = np.random.default_rng([demo.SEED, 2, clip.index])
            yield clip, perform(rng, clip.lines, cards)


def _labels(clip: Clip, performance: Performance) -> VideoLabels:
    rng = np.random.default_rng([demo.SEED, 3, clip.index])
    values = clip.corrupt(Task.VA, performance.annotate(Task.VA, rng), rng).astype(np.float32)
    return VideoLabels(clip.video, clip.splits[Task.VA], values, SPECS[Task.VA].valid(values))


def _features(clip: Clip, performance: Performance, dim: int) -> NDArray[np.float32]:
    """Features `(frames, dim)` of all frames, with or without a crop."""
    fixed = np.random.default_rng([demo.SEED, 4])
    seen = np.concatenate([performance.intensities, performance.speech[:, None]], axis=1)
    first = fixed.normal(size=(seen.shape[1] + _LOOKS, _HIDDEN))
    second = fixed.normal(size=(_HIDDEN, dim)) / np.sqrt(_HIDDEN)
    rng = np.random.default_rng([demo.SEED, 5, clip.index])
    looks = np.tile(rng.normal(0, 0.5, _LOOKS), (clip.frames, 1))
    hidden = np.tanh(np.concatenate([seen[: clip.frames], looks], axis=1) @ first)
    noise = rng.standard_normal((clip.frames, dim), np.float32) * _NOISE
    return (2.0 * hidden @ second + noise).astype(np.float32)


def _write(store: Store, folder: str, name: str, data: bytes) -> FileEntry:
    store.write_bytes(f"{folder}/{name}", data)
    return FileEntry.of(name, data)
