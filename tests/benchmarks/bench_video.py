"""Frames per second from a video to crops, stage by stage, and the memory of a long one.

    taskset -c 0 .venv/bin/python tests/benchmarks/bench_video.py [--frames 150] [--long 5000]

Videos are H.264 with one face that moves; the stages one after the other, then all together as
`raffect predict --video` has them, by the processor's time: rates of one core, whatever else runs.
`--long` adds the peak of resident memory over a video of so
many frames of 1280x720, beside that after its first 100 frames.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from raffect.video.align import align
from raffect.video.crops import find_crops
from raffect.video.decode import open_video
from raffect.video.detect import DEFAULT_SIZE, Detector, load_detector
from raffect.video.people import People
from tests.benchmarks.measuring import resident_mb
from tests.video.videos import crossing, make_video, pictures, write_video

SIZES = ((640, 360), (1280, 720))


def rate(work: Callable[[], object], frames: int) -> str:
    began = time.process_time()
    work()
    return f"{frames / (time.process_time() - began):,.0f}"


def measure(path: Path, frames: int, detector: Detector) -> list[str]:
    """Frames per second: decoding, finding, aligning, all of it."""
    with open_video(path) as video:
        decoding = rate(lambda: [None for _ in video.frames()], frames)
    with open_video(path) as video:
        some = list(islice(video.frames(), 40))
    finding = rate(lambda: [detector.find(frame.pixels) for frame in some], len(some))
    faces = [detector.find(frame.pixels)[0] for frame in some]
    pairs = list(zip(some, faces, strict=True))
    aligning = rate(lambda: [align(frame.pixels, face) for frame, face in pairs], len(some))
    with open_video(path) as video:
        whole = rate(lambda: list_lengths(find_crops(video.frames(), detector, People())), frames)
    return [decoding, finding, aligning, whole]


def list_lengths(crops: Iterator[object]) -> int:
    return sum(1 for _ in crops)


def memory(folder: Path, frames: int, detector: Detector) -> str:
    images = list(pictures([crossing((0, 100, 300), (900, 200, 400), 50)], 50, SIZES[1]))
    path = write_video(folder / "long.mp4", (images[n % len(images)] for n in range(frames)))
    images.clear()
    first = peak = 0.0
    began = time.perf_counter()
    with open_video(path) as video:
        for frame, _ in find_crops(video.frames(), detector, People()):
            if frame.number % 20 == 0:
                peak = max(peak, resident_mb())
            if frame.number == 100:
                first = peak
    took = time.perf_counter() - began
    return (
        f"{frames:,} frames of 1280x720: {first:,.0f} MB after 100 of them, at most "
        f"{peak:,.0f} MB; {frames / took:.1f} frames per second of time"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--long", type=int, default=0)
    parser.add_argument("--detector")
    parser.add_argument("--size", type=int, default=DEFAULT_SIZE)
    given = parser.parse_args()
    detector = load_detector(given.detector, given.size)
    print("| video | decode | find | align | all |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for width, height in SIZES:
            actor = crossing((0, 20, height / 2), (width / 2, 60, height / 1.5), given.frames)
            path = Path(folder) / f"{width}.mp4"
            make_video(path, [actor], given.frames, size=(width, height), rate=30)
            found = measure(path, given.frames, detector)
            print(f"| {width}x{height} | {' | '.join(found)} |", flush=True)
        if given.long:
            print(memory(Path(folder), given.long, detector))


if __name__ == "__main__":
    main()
