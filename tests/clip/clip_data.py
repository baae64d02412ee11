"""A small dataset in a store, made by hand: eight expressions that colours tell apart."""

from __future__ import annotations

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from raffect.affwild2.labels import VideoLabels, labels_file, to_parquet
from raffect.affwild2.tasks import Split, Task
from raffect.clip.encoder import FrameEncoder, build_encoder
from raffect.config import FinetuneConfig
from raffect.settings import override
from raffect.store import DATASET, Stage, Store, encoder_folder
from raffect.store.layout import CONFIG, ENCODER_WEIGHTS
from raffect.training.checkpoints import tensor_bytes

TINY = {
    "encoder.model": "raffect-tiny-vit",
    "encoder.pretrained": None,
    "epochs": 2,
    "batch_size": 16,
    "lr": 2e-3,
    "layer_decay": 1.0,
    "ema_decay": 0.8,
    "label_smoothing": 0.0,
}
COLOURS = np.array([[r, g, b] for r in (40, 210) for g in (40, 210) for b in (40, 210)])
FRAMES = 20
GAP = 7
"""This frame of each video has a label but no crop."""


def tiny_config(**changes: object) -> FinetuneConfig:
    return override(FinetuneConfig(), {**TINY, **changes})


def crop(expression: int, rng: np.random.Generator) -> bytes:
    """A 112x112 JPEG of the expression's colour, under noise and light."""
    light = rng.uniform(0.8, 1.2)
    pixels = COLOURS[expression] * light + rng.normal(0, 20, (112, 112, 3))
    buffer = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def make_dataset(store: Store, train: int = 8, validation: int = 3, shards: int = 2) -> None:
    """Videos of 20 labelled frames: frame 7 lacks its crop, frame 3's label is invalid.

    A third kind of video has crops and no labels.
    """
    rng = np.random.default_rng(0)
    names = [f"v{index:02d}" for index in range(train + validation + 1)]
    labels, rows = {}, []
    for index, name in enumerate(names):
        expressions = rng.integers(0, 8, FRAMES + 1)
        expressions[2] = -1
        split = Split.TRAIN if index < train else Split.VALIDATION
        if index < train + validation:
            values = expressions.astype(np.float32)[:, None]
            labels[name] = VideoLabels(name, split, values, values[:, 0] >= 0)
        for frame in range(1, FRAMES + 1):
            if frame != GAP:
                rows.append((name, frame, crop(max(0, int(expressions[frame - 1])), rng)))
    stage = Stage(store, DATASET, "dataset", {"made": "by hand"}, {})
    parts = []
    for shard in range(shards):
        mine = [row for row in rows if names.index(row[0]) % shards == shard]
        parts.append(stage.write_part(f"frames/{shard:05d}.parquet", shard_bytes(mine)))
    for task in Task:
        own = labels if task is Task.EXPR else {}
        parts.append(stage.write_part(labels_file(task), to_parquet(task, own)))
    stage.finish(parts, {"crops": {"readable": len(rows), "unreadable": []}})


def write_encoder(store: Store, encoder: FrameEncoder | None = None) -> FrameEncoder:
    """Write an encoder, by default a tiny one, as `clip`."""
    made = encoder or build_encoder(tiny_config().encoder).eval()
    stage = Stage(store, encoder_folder("clip"), "encoder", {}, {})
    parts = [
        stage.write_part(ENCODER_WEIGHTS, to_bytes(made)),
        stage.write_part(CONFIG, json.dumps(made.describe()).encode()),
    ]
    stage.finish(parts)
    return made


def shard_bytes(rows: list[tuple[str, int, bytes]]) -> bytes:
    videos, frames, jpegs = zip(*rows, strict=True)
    table = pa.table(
        {
            "video": pa.array(videos).dictionary_encode(),
            "source": pa.array(videos).dictionary_encode(),
            "frame": pa.array(frames, pa.int32()),
            "jpeg": pa.array(jpegs, pa.binary()),
        }
    )
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=50, compression="none")
    return sink.getvalue()


def to_bytes(encoder: FrameEncoder) -> bytes:
    """The encoder's weights as the store keeps them."""
    return tensor_bytes(encoder.state_dict())
