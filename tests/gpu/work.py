"""Data, models and crops of the real size, made in memory."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

from raffect.affwild2.labels import VideoLabels
from raffect.affwild2.scores import Score
from raffect.affwild2.tasks import SPECS, Split, Task
from raffect.clip.encoder import FrameEncoder, build_encoder
from raffect.config import EncoderConfig, TemporalConfig, recipe
from raffect.settings import override
from raffect.temporal.data import TaskData
from raffect.temporal.timelines import build_timelines


@dataclass(frozen=True)
class Scale:
    """How large: by default a quarter of VA's training videos, and the paper's models."""

    videos: int = 100
    frames: int = 3_000
    dim: int = 768
    encoder: str = "ViT-B-16"
    crops: int = 2_048
    seconds: float = 8.0
    changes: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def quick(cls) -> Scale:
        """Small enough for a test on a CPU."""
        small = {
            "model.width": 16,
            "model.tcn.channels": (16,),
            "model.transformer.layers": 1,
            "model.transformer.feedforward": 16,
            "model.head_hidden": 16,
            "segments.window": 40,
            "segments.stride": 30,
        }
        return cls(8, 120, 16, "raffect-tiny-vit", 48, 0.3, tuple(small.items()))

    def config(self, task: Task = Task.VA, **changes: Any) -> TemporalConfig:
        """The recipe at this scale; a field as `run__seed`."""
        named = {key.replace("__", "."): value for key, value in changes.items()}
        return override(recipe(task), {**dict(self.changes), **named})


@cache
def task_data(scale: Scale, task: Task = Task.VA) -> TaskData:
    """Features that follow from the labels, with noise; one frame in ten has no crop."""
    rng = np.random.default_rng(0)
    spec = SPECS[task]
    mix = rng.normal(size=(len(spec.label_columns), scale.dim))
    labels: dict[str, VideoLabels] = {}
    crops: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    rows: list[np.ndarray] = []
    used = 0
    for i in range(scale.videos):
        values = _labels(task, scale.frames, rng)
        present = np.flatnonzero(rng.random(scale.frames) < 0.9)
        split = Split.VALIDATION if i % 4 == 0 else Split.TRAIN
        name = f"v{i:03d}"
        labels[name] = VideoLabels(name, split, values, spec.valid(values))
        seen = values[present] @ mix + rng.normal(size=(len(present), scale.dim))
        rows.append(seen.astype(np.float16))
        crops[name] = present + 1, np.arange(used, used + len(present))
        used += len(present)
    of = {split: [n for n, own in labels.items() if own.split is split] for split in Split}
    return TaskData(
        task=task,
        features=np.concatenate(rows),
        dims=(scale.dim,),
        train=build_timelines(of[Split.TRAIN], crops, {task: labels}),
        validation=build_timelines(of[Split.VALIDATION], crops, {task: labels}),
        digest="synthetic",
        lineage={"features": "synthetic", "encoder": None, "sources": {}, "extract": {}},
        trivial=Score(0.0, {}),
    )


def _labels(task: Task, frames: int, rng: np.random.Generator) -> np.ndarray:
    walk = np.cumsum(rng.normal(size=(frames, len(SPECS[task].label_columns))), axis=0)
    smooth = np.tanh(walk / 20)
    if task is Task.VA:
        return smooth.astype(np.float32)
    if task is Task.AU:
        return (smooth > 0.3).astype(np.float32)
    return np.floor((smooth + 1) * 3.99).astype(np.float32)


@cache
def encoder(scale: Scale) -> FrameEncoder:
    """The image tower with random weights, on the CPU."""
    return build_encoder(EncoderConfig(model=scale.encoder, pretrained=None)).eval()


@cache
def jpegs(scale: Scale) -> tuple[bytes, ...]:
    """Crops of 112 pixels, as smooth as faces are."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(scale.crops):
        small = rng.integers(0, 256, (14, 14, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(small).resize((112, 112)).save(buffer, "JPEG", quality=92)
        found.append(buffer.getvalue())
    return tuple(found)
