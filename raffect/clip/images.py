"""Decoding of crops, and the description of the pixels that an encoder expects.

Without torch, because Ray Data's decoding tasks import it in processes of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

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


ResizeMode = Literal["squash", "shortest", "longest"]


@dataclass(frozen=True)
class Preprocessing:
    """What an encoder's weights expect of an image; crops of another size are resized.

    `mean` and `std` are per channel (red, green, blue), of values in [0, 1]. The modes are those
    of open_clip's `image_transform`: `squash` ignores the aspect ratio (as encoders without the
    field did), `shortest` cuts off what is beyond the middle, `longest` pads with black.
    """

    height: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bicubic"
    resize_mode: ResizeMode = "squash"


def decode(jpeg: bytes, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Pixels `(height, width, 3)` of an encoded crop, resized as open_clip resizes.

    Raises:
        UnreadableImageError: It can't be used (see `read_image`).
    """
    image = read_image(jpeg)
    if image.size != (preprocessing.width, preprocessing.height):
        image = _resize(image, preprocessing)
    return np.asarray(image)


def _resize(image: Image.Image, wanted: Preprocessing) -> Image.Image:
    width, height = wanted.width, wanted.height
    resampling = _RESAMPLING[wanted.interpolation]
    if wanted.resize_mode == "squash":
        return image.resize((width, height), resampling)
    if wanted.resize_mode == "longest":
        ratio = max(image.width / width, image.height / height)
        size = max(1, round(image.width / ratio)), max(1, round(image.height / ratio))
    elif width == height:
        # Cut off, not rounded: torchvision's Resize.
        shortest = min(image.size)
        size = int(width * image.width / shortest), int(width * image.height / shortest)
    else:
        ratio = min(image.width / width, image.height / height)
        size = round(image.width / ratio), round(image.height / ratio)
        # open_clip's ResizeKeepRatio has it whatever the weights' interpolation is.
        resampling = Image.Resampling.BICUBIC
    image = image.resize(size, resampling)
    # round() takes halves to the even number, as torchvision's center_crop does.
    left, top = round((size[0] - width) / 2), round((size[1] - height) / 2)
    if wanted.resize_mode == "shortest":
        return image.crop((left, top, left + width, top + height))
    padded = Image.new("RGB", (width, height))
    padded.paste(image, ((width - size[0]) // 2, (height - size[1]) // 2))
    return padded


def decode_batch(jpegs: Sequence[bytes], preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Pixels `(images, height, width, 3)` of encoded crops."""
    shape = (len(jpegs), preprocessing.height, preprocessing.width, 3)
    pixels = np.empty(shape, np.uint8)
    for row, jpeg in zip(pixels, jpegs, strict=True):
        row[:] = decode(jpeg, preprocessing)
    return pixels
