"""Frames per second and delay of `raffect predict --camera`, by stage: one person and three.

    .venv/bin/python tests/benchmarks/bench_live.py [--frames 60] [--store STORE --models va expr]

A video of 640x360 with 30 frames per second. Of each stage and of all of them the milliseconds of
a frame, median and 95 % within, by the processor's time: with `taskset -c 0` those of one core,
whatever else runs. Then the video at its own speed, as a user watches it on an idle machine:
frames per second, the delay from a frame's time to its values, and the share of frames dropped.
Without a store it is the recipe's model with CLIP ViT-B/16, of random weights.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from raffect.affwild2.tasks import Task
from raffect.clip.encoder import build_encoder
from raffect.config import EncoderConfig, ExtractConfig, recipe
from raffect.predict.chosen import Chosen, choose
from raffect.predict.encoders import Encoders
from raffect.predict.live import Delay, LivePredictor, Pace
from raffect.predict.video import VideoPredictor
from raffect.store import Store
from raffect.temporal.data import Lineage, sets_of
from raffect.temporal.ensemble import Ensemble, MemberWeights
from raffect.temporal.inference import ModelBundle
from raffect.temporal.model import TemporalModel
from raffect.training.device import choose_device
from raffect.video.camera import open_camera
from raffect.video.decode import open_video
from raffect.video.detect import load_detector
from tests.video.videos import Actor, crossing, make_video

T = TypeVar("T")
SIZE, RATE = (640, 360), 30
STAGES = ("find faces", "encode", "temporal", "all")


def of_paper() -> tuple[Chosen, Encoders]:
    """The recipe's model of valence and arousal, on CLIP ViT-B/16."""
    device = choose_device("auto")
    encoder = build_encoder(EncoderConfig(pretrained=None)).to(device).eval()
    config = recipe(Task.VA)
    model = TemporalModel(config, encoder.dim).to(device).eval()
    lineage = Lineage(features="clip", encoder="clip", sources={})
    metrics = {"task": "va", "metric": "", "selection": "", "score": 0.0, "parts": {}}
    metrics |= {"best_epoch": 0, "epochs": 0, "parameters": 0, "data": "", "history": []}
    bundle = ModelBundle(config, model, metrics, None, encoder.dim, lineage)  # type: ignore[arg-type]
    weights = MemberWeights(groups=((), ()), applied=((1,), (1,)), final=(1,))
    chosen = Chosen(("va",), (Ensemble((bundle,), weights),), (("valence", "arousal"),))
    (features,) = sets_of(lineage)
    return chosen, Encoders({features.key: (encoder, ExtractConfig())})


def actors(persons: int, frames: int) -> list[Actor]:
    places = [(240, 60, 150), (20, 120, 130), (440, 100, 150)][:persons]
    return [
        crossing(place, (place[0] + 30, place[1] + 30, place[2] + 10), frames) for place in places
    ]


def timed(seconds: list[float], work: Callable[[], T]) -> T:
    began = time.process_time()
    found = work()
    seconds.append(time.process_time() - began)
    return found


def stages(predictor: LivePredictor, path: Path) -> list[str]:
    """Milliseconds by stage."""
    found: dict[str, list[float]] = {stage: [] for stage in STAGES}
    with open_video(path) as video:
        for frame in video.frames():
            began = time.process_time()
            crops = timed(found["find faces"], lambda: predictor.find(frame))  # noqa: B023
            encoded = timed(found["encode"], lambda: predictor.encode(crops))  # noqa: B023
            timed(found["temporal"], lambda: predictor.tell(frame, crops, encoded))  # noqa: B023
            found["all"].append(time.process_time() - began)
    delays = [Delay.of(np.asarray(of)) for of in found.values()]
    return [f"{each.median:.0f} ({each.p95:.0f})" for each in delays]


def watched(predictor: LivePredictor, path: Path) -> list[str]:
    """Frames per second, delay and dropped frames, at the video's own speed."""
    with open_camera(str(path)) as camera:
        pace = Pace()
        camera.start()
        while not camera.ended:
            arrival = camera.poll()
            if arrival is not None:
                predictor.predict(arrival.frame, arrival.skipped)
                pace.shown(arrival)
        delay, rate = pace.delay(), pace.frames / pace.seconds
        dropped = camera.dropped / (camera.dropped + pace.frames)
    return [f"{rate:.1f}", f"{delay.median:.0f} ({delay.p95:.0f})", f"{dropped:.0%}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--store")
    parser.add_argument("--models", nargs="+", default=["va", "expr", "au"])
    given = parser.parse_args()
    if given.store:
        store = Store.open(given.store)
        chosen = choose(store, given.models)
        encoders = Encoders.of(store, chosen.ensembles)
    else:
        chosen, encoders = of_paper()
    made = VideoPredictor(chosen, encoders, load_detector())
    print(f"{choose_device('auto')}, {torch.get_num_threads()} threads; ms: median (95 % within)")
    print(f"| persons | {' | '.join(STAGES)} | frames/s shown | delay | dropped |")
    print(f"|{'---|' * (len(STAGES) + 4)}")
    with tempfile.TemporaryDirectory() as folder:
        for persons in (1, 3):
            path = Path(folder) / f"{persons}.mp4"
            make_video(path, actors(persons, given.frames), given.frames, size=SIZE, rate=RATE)
            cells = []
            for measure in (stages, watched):
                predictor = LivePredictor(made)
                predictor.warm_up()
                cells += measure(predictor, path)
            print(f"| {persons} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
