"""Segments per second into batches (32, 300, 768) float32: raffect's gather and its alternatives.

    .venv/bin/python tests/benchmarks/bench_segments.py [--videos 200] [--frames 1000]

By default 200 videos of 1,000 frames.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from raffect.config import SegmentConfig
from raffect.temporal.batches import DeviceTimelines
from raffect.temporal.segments import Segments, index_segments
from raffect.temporal.timelines import Timelines, build_timelines

BATCH = 32
DIM = 768


class MemoryMapped(Dataset[torch.Tensor]):
    """What one would write without raffect: one segment per item, from a file."""

    def __init__(self, path: Path, shape: tuple[int, int], segments: Segments) -> None:
        self.array = np.memmap(path, np.float16, "r", shape=shape)
        self.segments = segments

    def __len__(self) -> int:
        return len(self.segments)

    def __getitem__(self, index: int) -> torch.Tensor:
        start = self.segments.start[index]
        rows = self.array[start : start + self.segments.window]
        return torch.from_numpy(rows.astype(np.float32))


def make_timelines(videos: int, frames: int) -> Timelines:
    """Videos of equal length; every tenth crop is missing, so that rows are no plain ranges."""
    own = np.flatnonzero(np.arange(frames) % 10 != 9) + 1
    crops = {f"{i:05d}": (own, np.arange(len(own)) + i * len(own)) for i in range(videos)}
    return build_timelines(list(crops), crops, {}, min_length=frames)


def gathered(resident: DeviceTimelines, segments: Segments) -> Iterator[torch.Tensor]:
    """raffect's own way."""
    order = np.random.default_rng(0).permutation(len(segments))
    for first in range(0, len(order), BATCH):
        yield resident.gather(segments.take(order[first : first + BATCH])).x


def taken(
    features: NDArray[np.float16], timelines: Timelines, segments: Segments
) -> Iterator[torch.Tensor]:
    """The same with NumPy."""
    order = np.random.default_rng(0).permutation(len(segments))
    for first in range(0, len(order), BATCH):
        part = segments.take(order[first : first + BATCH])
        rows = timelines.row[part.start[:, None] + np.arange(segments.window)]
        x = np.take(features, rows.ravel(), axis=0).astype(np.float32)
        yield torch.from_numpy(x).view(*rows.shape, -1)


def rate(name: str, epoch: Callable[[], Iterator[torch.Tensor]]) -> None:
    """Print the segments per second of three epochs."""
    rates = []
    for _ in range(3):
        began = time.perf_counter()
        count = sum(len(batch) for batch in epoch())
        rates.append(count / (time.perf_counter() - began))
    print(f"{name:42s}" + "".join(f"{each:10,.0f}" for each in rates))


def main() -> None:
    """Print one line per way, segments per second of epochs 1 to 3."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=200)
    parser.add_argument("--frames", type=int, default=1000)
    chosen = parser.parse_args()
    timelines = make_timelines(chosen.videos, chosen.frames)
    rows = int(timelines.present.sum())
    features = np.random.default_rng(0).random((rows, DIM), np.float32).astype(np.float16)
    segments = index_segments(timelines, SegmentConfig())
    print(f"{len(segments):,} segments of {segments.window} x {DIM}; segments/s of epochs 1 to 3")
    for device in ("cpu", *(("cuda",) if torch.cuda.is_available() else ())):
        resident = DeviceTimelines(features, timelines, torch.device(device))
        rate(f"raffect, {device}", lambda resident=resident: gathered(resident, segments))
    rate("numpy take", lambda: taken(features, timelines, segments))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "features"
        features.tofile(path)
        clipped = Segments(
            np.minimum(segments.start, rows - segments.window), segments.real, segments.window
        )
        data = MemoryMapped(path, features.shape, clipped)
        for workers in (0, 2):
            loader = DataLoader(data, BATCH, shuffle=True, num_workers=workers)
            rate(
                f"DataLoader on a memory map, {workers} workers",
                lambda loader=loader: iter(loader),
            )


if __name__ == "__main__":
    main()
