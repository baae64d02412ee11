"""What is found in a frame of a video, as its decoder, detectors and users of crops hand it on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class VideoFrame:
    """A decoded frame, upright.

    Attributes:
        number: 1-based, of all frames that the video shows.
        time: Seconds from the video's start, by its own clock (frame rates may vary).
        pixels: `(height, width, 3)` uint8, red, green and blue.
    """

    number: int
    time: float
    pixels: NDArray[np.uint8]


@dataclass(frozen=True)
class Face:
    """A face in a frame, in pixels from its left upper corner.

    Attributes:
        box: Left, top, right and bottom, `(4,)` float32; may reach beyond the frame.
        confidence: The detector's, in [0, 1].
        landmarks: Eyes, tip of the nose and corners of the mouth, the left in the picture first,
            `(5, 2)` float32; None: the detector finds none.
        sure: Clear enough to begin a person; others only continue one.
    """

    box: NDArray[np.float32]
    confidence: float
    landmarks: NDArray[np.float32] | None = None
    sure: bool = True


@dataclass(frozen=True)
class Crop:
    """A person's face in a frame, aligned as the dataset's crops are.

    Attributes:
        person: 0-based, in the order of their first frames (then from left to right).
        pixels: `(112, 112, 3)` uint8.
    """

    person: int
    face: Face
    pixels: NDArray[np.uint8]
