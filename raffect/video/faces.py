"""What is found in a frame of a video, as its decoder, detectors and users of crops hand it on."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raffect.errors import SettingsError


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


@dataclass(frozen=True)
class FaceOptions:
    """Which faces of a video a user wants, and how they are found.

    Attributes:
        persons: Their numbers; None: all.
        aligned: The frames are crops of one face as they are.
        detector: Another detector's ONNX file; None: the default one.
        size: Pixels of the longer side to which larger frames are shrunk to look for faces;
            None: the default (detect.py).
    """

    persons: Collection[int] | None = None
    aligned: bool = False
    detector: str | None = None
    size: int | None = None

    def check(self) -> None:
        """Refuse to look for faces in crops.

        Raises:
            SettingsError: `aligned`, and how to find faces.
        """
        given = {"--detector": self.detector, "--detect-at": self.size}
        if self.aligned and (options := [name for name in given if given[name] is not None]):
            raise SettingsError(
                f"--aligned takes the frames as crops, and {options[0]} looks for faces in them.",
                "one of them",
                "Leave one out.",
            )
