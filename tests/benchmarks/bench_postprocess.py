"""What post-processing adds to an epoch: fitting and applying it, beside predicting the frames.

    .venv/bin/python tests/benchmarks/bench_postprocess.py [--videos 105] [--frames 4000]

By default 105 videos of 4,000 frames, as many as AU has for validation. Seconds are those of one
core. The prediction is that of the recipe's model, of which an epoch also trains on four times as
many frames, three times as much work each.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from raffect.affwild2.labels import VideoLabels
from raffect.affwild2.tasks import SPECS, Split, Task
from raffect.config import recipe
from raffect.temporal.inference import measure_latency
from raffect.temporal.model import TemporalModel
from raffect.temporal.postprocess import cross_fit, group_videos, postprocess_videos
from raffect.temporal.timelines import Timelines, build_timelines

LAG = 8
TIMED = 1500
"""Frames that are predicted to tell how long one takes."""


def make(task: Task, videos: int, frames: int) -> tuple[NDArray[np.float32], Timelines]:
    """Noisy predictions of slow labels, which lag behind by some frames."""
    rng = np.random.default_rng(0)
    labels, found = {}, []
    for number in range(videos):
        noise = rng.normal(size=(2, frames + LAG, SPECS[task].outputs))
        slow = 8 * gaussian_filter1d(noise[0], 20, axis=0)
        true, seen = slow[:frames], (slow + noise[1])[LAG:]
        if task is Task.VA:
            values, own = np.tanh(true), np.tanh(seen)
        elif task is Task.EXPR:
            values = true.argmax(axis=1)[:, None]
            own = np.exp(seen) / np.exp(seen).sum(axis=1, keepdims=True)
        else:
            values, own = true > 1.5, 1 / (1 + np.exp(1.5 - seen))
        name = f"{number:03d}"
        valid = np.ones(frames, np.bool_)
        labels[name] = VideoLabels(name, Split.VALIDATION, values.astype(np.float32), valid)
        found.append(own.astype(np.float32))
    return np.concatenate(found), build_timelines(list(labels), {}, {task: labels})


def timed(what: Callable[[], object]) -> float:
    """Seconds of a core, the least of three."""
    times = []
    for _ in range(3):
        began = time.process_time()
        what()
        times.append(time.process_time() - began)
    return min(times)


def main() -> None:
    """Print seconds by task."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=105)
    parser.add_argument("--frames", type=int, default=4000)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    print("task  group    fit  apply  predict     share")
    for task in Task:
        predictions, timelines = make(task, chosen.videos, chosen.frames)
        groups = group_videos(task, timelines)
        fitted = cross_fit(task, predictions, timelines, groups)
        config = recipe(task)
        model = TemporalModel(config, 512).eval()
        # It predicts three times.
        predict = timed(partial(measure_latency, model, config, TIMED)) / 3 / TIMED
        predict *= timelines.frames
        seconds = [
            timed(partial(group_videos, task, timelines)),
            timed(partial(cross_fit, task, predictions, timelines, groups)),
            timed(partial(postprocess_videos, task, fitted, predictions, timelines)),
        ]
        share = sum(seconds[1:]) / predict
        texts = " ".join(f"{value:6.3f}" for value in seconds)
        print(f"{task.value:4} {texts} {predict:8.1f} {share:9.3%}", flush=True)


if __name__ == "__main__":
    main()
