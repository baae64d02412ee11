"""How predictions of overlapping segments become one per frame.

What a video's later frames bring may change an earlier prediction only gradually, or the same
video would be predicted otherwise with one frame more:

- Segments begin at multiples of the stride, wherever the video ends; the last ones are cut off
  there. A segment's weight rises over its first frames and falls over its last ones, so that its
  cold start (a causal TCN that has seen nothing) and its end (a Transformer that sees nothing
  behind it) are no steps. Both depend on the place in the segment alone.
- A Transformer looks ahead, so that each new frame moves the predictions before it. Near the end,
  the prediction is therefore mixed with one that looks back only, which no later frame changes;
  the share of the former grows from 0 at the last frame to 1 a window before it. On the demo's
  models a frame then moves others by less than 0.01 in 97 % of all cases, and by 0.018 at most:
  in their window of 64 frames a prediction that the frames behind it turn round has 64 steps
  for that. With segments that slide with the end and count evenly it is mostly 0.04, and 0.37.

Frames behind the last crop show nothing: they keep the prediction of the last crop's frame. So
predictions depend on the crops alone, and not on how many lines the annotation has.

With `blend = mean`, as models were validated before raffect 0.3, all segments of segments.py count
evenly, and the annotation's last line is the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raffect.config import SegmentConfig
from raffect.temporal.segments import Segments, index_segments
from raffect.temporal.timelines import Timelines

_SMALLEST_OVERLAP = 1 / 4
"""Of the window; models with a larger stride are predicted at a smaller one."""
SETTLING = 1.25
"""Power of the share of looking ahead: 1.2 to 1.4 gave the demo's models the smallest changes."""


@dataclass(frozen=True)
class Blend:
    """The segments of some timelines, and what each counts for the frames that it covers.

    Attributes:
        first: Which segments are the first of their video, `(segments,)` bool.
        inner: Weights over the window of the segments that are not, `(window,)` float64.
        outer: Those of the ones that are.
        settled: Share of the prediction that looks ahead, `(frames,)` float64.
        backward: The segments for which the prediction that looks back only counts.
        hold: The frame whose prediction a frame has, `(frames,)` int64; mostly its own.
    """

    segments: Segments
    first: NDArray[np.bool_]
    inner: NDArray[np.float64]
    outer: NDArray[np.float64]
    settled: NDArray[np.float64]
    backward: NDArray[np.int64]
    hold: NDArray[np.int64]

    def batches(
        self, size: int, own: NDArray[np.bool_] | None = None
    ) -> Iterator[tuple[NDArray[np.int64], bool]]:
        """Segments by number, and whether they are to look back only; all, or the `own` ones."""
        every = np.arange(len(self.segments))
        for chosen, back_only in ((every, False), (self.backward, True)):
            numbers = chosen if own is None else chosen[own[chosen]]
            for start in range(0, len(numbers), size):
                yield numbers[start : start + size], back_only

    def weights(self, numbers: NDArray[np.int64]) -> NDArray[np.float64]:
        """Weights of segments by their number, `(segments, window)`."""
        return np.where(self.first[numbers][:, None], self.outer, self.inner)


def make_blend(timelines: Timelines, config: SegmentConfig, looks_ahead: bool) -> Blend:
    """The blend of the timelines for a model that looks ahead, as a Transformer does, or not."""
    window = config.window
    if config.blend == "mean":
        own = config.predict_stride or config.stride
        segments = index_segments(timelines, config.model_copy(update={"stride": own}))
        every, even = np.arange(timelines.frames), np.ones(window)
        first = np.zeros(len(segments), dtype=bool)
        none = np.empty(0, dtype=np.int64)
        return Blend(segments, first, even, even, np.ones(timelines.frames), none, every)
    stride = config.predict_stride or blend_stride(window, config.stride)
    outer, inner = fade(window, stride)
    ends = timelines.offsets[:-1] + timelines.seen
    owner = np.repeat(np.arange(len(timelines.videos)), timelines.lengths)
    hold = np.minimum(np.arange(timelines.frames), ends[owner] - 1)
    # Frames that have come since, over the window.
    age = (ends[owner] - 1 - hold) / window
    settled = np.minimum(1.0, age) ** SETTLING if looks_ahead else np.ones(timelines.frames)
    counts = -(-timelines.seen // stride)
    video = np.repeat(np.arange(len(counts)), counts)
    number = np.arange(len(video)) - np.repeat(np.cumsum(counts) - counts, counts)
    start = timelines.offsets[video] + number * stride
    segments = Segments(start, np.minimum(ends[video] - start, window), window)
    open_end = start + window > ends[video] - window
    backward = np.flatnonzero(open_end) if looks_ahead else np.empty(0, dtype=np.int64)
    return Blend(segments, number == 0, inner, outer, settled, backward, hold)


def fade(window: int, stride: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights `(window,)` of a video's first segment, and of all others."""
    rise = np.minimum(1.0, np.arange(1, window + 1) / (1 + min(stride, window - stride)))
    fall = rise[::-1]
    return fall, np.minimum(rise, fall)


def blend_stride(window: int, stride: int) -> int:
    """The stride of prediction: that of training, if segments then overlap by a quarter."""
    return min(stride, window - max(1, int(window * _SMALLEST_OVERLAP)))
