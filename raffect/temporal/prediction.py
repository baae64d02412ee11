"""Predictions per frame: every frame of every video, overlapping segments averaged.

Training validates with this module, so that predicting again gives the very same numbers.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raffect.affwild2.tasks import SPECS
from raffect.config import TemporalConfig
from raffect.temporal.batches import DeviceTimelines
from raffect.temporal.model import TemporalModel, activate
from raffect.temporal.segments import index_segments
from raffect.temporal.timelines import Timelines, build_timelines
from raffect.training.device import autocast
from raffect.training.reduce import LOCAL, Reducer

BATCH = 32
"""Segments per step; fixed, as results depend on it in their last bits."""


def predict(
    model: TemporalModel,
    config: TemporalConfig,
    features: NDArray[np.float16] | Tensor,
    timelines: Timelines,
    reducer: Reducer = LOCAL,
) -> list[NDArray[np.float32]]:
    """Predictions of the main task: VA values, EXPR or AU probabilities.

    Args:
        model: On the device that is to compute.
        config: The settings that the model was trained with.
        features: `(rows, features)` that the timelines point into.
        timelines: The videos.
        reducer: Shares the segments with other workers.

    Returns:
        Per video, `(frames, outputs)`.
    """
    device = next(model.parameters()).device
    resident = DeviceTimelines(features, timelines, device)
    return timelines.split(predict_resident(model, config, resident, reducer))


@torch.inference_mode()
def predict_resident(
    model: TemporalModel,
    config: TemporalConfig,
    resident: DeviceTimelines,
    reducer: Reducer = LOCAL,
) -> NDArray[np.float32]:
    """Predictions `(frames, outputs)` of all frames of timelines that lie on the device."""
    was_training = model.training
    model.eval()
    segments = index_segments(resident.timelines, config.segments)
    width = SPECS[config.task].outputs
    # The last column counts segments per frame. In float64 the order of overlapping segments does
    # not change the mean after rounding to float32.
    shape = (resident.timelines.frames, width + 1)
    sums = torch.zeros(shape, dtype=torch.float64, device=resident.device)
    steps = range(0, len(segments), BATCH)
    for first in steps[reducer.rank :: reducer.size]:
        batch = resident.gather(segments.take(slice(first, first + BATCH)))
        with autocast(config.run, resident.device):
            outputs = model(batch.x, batch.present, batch.real)[config.task]
        values = activate(config.task, outputs).double()
        counted = torch.ones_like(values[..., :1])
        if batch.real is not None:
            counted = batch.real[..., None].double()
        rows = torch.cat([values * counted, counted], dim=-1)
        sums.index_add_(0, batch.frames.flatten(), rows.flatten(0, 1))
    model.train(was_training)
    sums = reducer.sum_in_place(sums)
    means: NDArray[np.float32] = (sums[:, :-1] / sums[:, -1:]).float().cpu().numpy()
    return means


def measure_latency(model: TemporalModel, config: TemporalConfig, frames: int = 3000) -> float:
    """Milliseconds per 1,000 frames, the best of three runs over one video with its features."""
    device = next(model.parameters()).device
    features = np.zeros((frames, model.feature_dim), dtype=np.float16)
    rows = np.arange(frames)
    timelines = build_timelines(["latency"], {"latency": (rows + 1, rows)}, {})
    resident = DeviceTimelines(features, timelines, device)
    times = []
    for _ in range(3):
        began = time.perf_counter()
        predict_resident(model, config, resident)
        times.append(time.perf_counter() - began)
    return min(times) * 1e6 / frames
