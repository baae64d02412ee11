"""Models to export: with random weights of every kind, and trained ones with an encoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from raffect.affwild2.tasks import Task
from raffect.config import TemporalConfig
from raffect.settings import override
from raffect.temporal.model import TemporalModel
from tests.temporal.builders import small_config

KINDS: dict[str, tuple[Task, Sequence[int], dict]] = {
    "whole": (Task.VA, (12,), {}),
    "several sets, zscore": (Task.EXPR, (5, 7), {"model__input": "zscore"}),
    "l2": (Task.AU, (5, 7), {"model__input": "l2"}),
    "no TCN": (Task.VA, (12,), {"model__tcn__depth": 0}),
    "no Transformer": (Task.VA, (12,), {"model__transformer__layers": 0}),
    "neither": (
        Task.EXPR, (12,), {"model__tcn__depth": 0, "model__transformer__layers": 0}
    ),
    "no positions": (Task.AU, (12,), {"model__transformer__positions": "none"}),
    "deep": (
        Task.VA, (12,), {"model__transformer__layers": 3, "model__tcn__depth": 4}
    ),
    "batch norm": (Task.VA, (12,), {"model__head": "batchnorm"}),
}  # fmt: skip


def random_model(config: TemporalConfig, dims: Sequence[int], seed: int = 0) -> TemporalModel:
    """A model in evaluation mode none of whose values are those it starts with."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = TemporalModel(config, dims)
        with torch.no_grad():
            for name, value in (*model.named_parameters(), *model.named_buffers()):
                noise = torch.randn(value.shape, dtype=value.dtype)
                value.add_(
                    0.2 * noise.abs() if name.endswith(("std", "variance")) else 0.2 * noise
                )
    return model.eval()


def of_kind(kind: str) -> tuple[TemporalConfig, TemporalModel]:
    task, dims, changes = KINDS[kind]
    config = small_config(task, **changes)
    return config, random_model(config, dims)


def with_predict_stride(config: TemporalConfig, stride: int) -> TemporalConfig:
    return override(config, {"segments.predict_stride": stride})


def draw_crops(folder: Path, frames: Sequence[int], size: int = 112) -> Path:
    """Crops of which each is another picture."""
    folder.mkdir(parents=True)
    for frame in frames:
        rng = np.random.default_rng(frame)
        small = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
        image = Image.fromarray(small).resize((size, size), Image.Resampling.BICUBIC)
        image.save(folder / f"{frame:05d}.jpg", quality=95)
    return folder
