"""Decoding of crops, and the description of the pixels that an encoder expects.

Without torch, because Ray Data's decoding tasks import it in processes of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from raffect.affwild2.pixels import UnreadableImageError, read_image

__all__ = ["Preprocessing", "UnreadableImageError", "decode", "decode_batch"]
_RESAMPLING = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    # open_clip's name for "either, at random" in training; its evaluation takes this one.
    "random": Image.Resampling.BICUBIC,
}


@dataclass(frozen=True)
class Preprocessing:
    """What an encoder's weights expect of an image; crops of another size are resized.

    `mean` and `std` are per channel (red, green, blue), of values in [0, 1].
    """

    height: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bicubic"


def decode(jpeg: bytes, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Pixels `(height, width, 3)` of an encoded crop, resized as open_clip resizes.

    Raises:
        UnreadableImageError: It can't be used (see `read_image`).
    """
    size = (preprocessing.width, preprocessing.height)
    image = read_image(jpeg)
    if image.size != size:
        image = image.resize(size, _RESAMPLING[preprocessing.interpolation])
    return np.asarray(image)


def decode_batch(jpegs: Sequence[bytes], preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Pixels `(images, height, width, 3)` of encoded crops."""
    shape = (len(jpegs), preprocessing.height, preprocessing.width, 3)
    pixels = np.empty(shape, np.uint8)
    for row, jpeg in zip(pixels, jpegs, strict=True):
        row[:] = decode(jpeg, preprocessing)
    return pixels
