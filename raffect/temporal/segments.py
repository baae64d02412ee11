"""Segments: windows over timelines, as indices, never as copies.

Every frame up to a video's last crop lies in at least one segment. The last segment of a video is
shifted back to end there; a video shorter than the window is one segment, padded at its end. (The
authors' code drops both: 1.9 % of the frames.) These segments are trained on; prediction has its
own (blending.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raffect.config import SegmentConfig
from raffect.temporal.timelines import Timelines


def segment_starts(length: int, window: int, stride: int) -> NDArray[np.int64]:
    """First frames (0-based) of the segments of a video, as few as cover it at this stride."""
    assert length >= 1
    assert 1 <= stride <= window
    last = max(0, length - window)
    return np.append(np.arange(0, last, stride, dtype=np.int64), np.int64(last))


@dataclass(frozen=True)
class Segments:
    """Segments of some timelines.

    Attributes:
        start: Timeline entry of each segment's first frame, `(segments,)`.
        real: Frames that are not padding, `(segments,)`, from 1 to `window`.
        window: Frames per segment, padding included.
    """

    start: NDArray[np.int64]
    real: NDArray[np.int64]
    window: int

    def __len__(self) -> int:
        return len(self.start)

    def take(self, index: NDArray[np.integer] | slice) -> Segments:
        """Some of the segments."""
        return Segments(self.start[index], self.real[index], self.window)

    def fill(self, count: int) -> Segments:
        """So many, of which those that it has not are the first frame alone."""
        more = count - len(self)
        real = np.pad(self.real, (0, more), constant_values=1)
        return Segments(np.pad(self.start, (0, more)), real, self.window)


def index_segments(timelines: Timelines, config: SegmentConfig) -> Segments:
    """All segments of the timelines, video by video.

    With `blend = mean` they reach to the annotation's last line, as they did before raffect 0.3.
    """
    starts, real = [], []
    lengths = timelines.lengths if config.blend == "mean" else timelines.seen
    for offset, length in zip(timelines.offsets, lengths, strict=False):
        if length:
            own = segment_starts(int(length), config.window, config.stride)
            starts.append(offset + own)
            real.append(np.full(len(own), min(length, config.window), dtype=np.int64))
    none = np.empty(0, dtype=np.int64)
    return Segments(np.concatenate([none, *starts]), np.concatenate([none, *real]), config.window)
