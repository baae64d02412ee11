"""Decoding of crops, and the description of the pixels that an encoder expects.

Without torch at its import, because Ray Data's decoding tasks are processes of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from raffect.affwild2.pixels import UnreadableImageError, read_image

__all__ = ["Preprocessing", "UnreadableImageError", "decode", "decode_batch", "resize_batch"]
_RESAMPLING = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    # open_clip's name for "either, at random" in training; its evaluation takes this one.
    "random": Image.Resampling.BICUBIC,
}
_CUT, _NEAR = 3, 6
"""Pixels of a doubled image for which the bicubic kernel reaches beyond the border; and pixels of
the image that they follow from, which are as far from the other border of the part."""

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
    return _fit(read_image(jpeg), preprocessing)


def _fit(image: Image.Image, preprocessing: Preprocessing) -> NDArray[np.uint8]:
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
    """Pixels `(images, height, width, 3)` of encoded crops, each as `decode` gives them."""
    return _fit_batch([read_image(jpeg) for jpeg in jpegs], preprocessing)


def resize_batch(
    pixels: Sequence[NDArray[np.uint8]], preprocessing: Preprocessing
) -> NDArray[np.uint8]:
    """Pixels of crops `(height, width, 3)`, resized as `decode_batch` resizes encoded ones."""
    return _fit_batch([Image.fromarray(each) for each in pixels], preprocessing)


def _fit_batch(images: Sequence[Image.Image], preprocessing: Preprocessing) -> NDArray[np.uint8]:
    height, width = preprocessing.height, preprocessing.width
    pixels = np.empty((len(images), height, width, 3), np.uint8)
    is_bicubic = _RESAMPLING[preprocessing.interpolation] == Image.Resampling.BICUBIC
    doubled: dict[int, Image.Image] = {}
    for i, image in enumerate(images):
        is_half = 2 * image.width == 2 * image.height == width == height
        if is_half and is_bicubic and image.width >= 2 * _NEAR:
            doubled[i] = image
        else:
            pixels[i] = _fit(image, preprocessing)
    if len(doubled) == len(images) > 0:
        return _double(list(doubled.values()))
    if doubled:
        pixels[list(doubled)] = _double(list(doubled.values()))
    return pixels


def _double(images: Sequence[Image.Image]) -> NDArray[np.uint8]:
    """Square images of one size at twice that size, to the bit as Pillow makes them.

    Crops of 112 pixels for an encoder of 224 are the usual case, and Pillow takes three times as
    long to double one as to decode it. Torch's kernel for bytes has coefficients of 16 bits, which
    hold those of doubling exactly: multiples of 1/128. Where the border cuts some of them off the
    rest are no such fractions: these pixels are Pillow's.
    """
    import torch

    crops = np.stack([np.asarray(image) for image in images])
    size = 2 * crops.shape[1]
    doubled = torch.nn.functional.interpolate(
        torch.from_numpy(crops).permute(0, 3, 1, 2), (size, size), mode="bicubic", antialias=True
    )
    pixels: NDArray[np.uint8] = doubled.permute(0, 2, 3, 1).numpy()
    near = [*range(_NEAR), *range(size // 2 - _NEAR, size // 2)]
    for axis, shape in ((1, (2 * len(near), size)), (2, (size, 2 * len(near)))):
        ends = np.moveaxis(_stretch(crops.take(near, axis), *shape), axis, 0)
        into = np.moveaxis(pixels, axis, 0)
        into[:_CUT], into[-_CUT:] = ends[:_CUT], ends[-_CUT:]
    return pixels


def _stretch(parts: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Images `(images, height, width, 3)` resized, across and then down, as Pillow does it with
    a square one: others it may begin the other way, and round otherwise.

    Across, the rows of all are one image, and down the columns.
    """
    count, rows, columns, _ = parts.shape
    bicubic = Image.Resampling.BICUBIC
    tall = Image.fromarray(parts.reshape(count * rows, columns, 3))
    across = np.asarray(tall.resize((width, count * rows), bicubic)).reshape(count, rows, width, 3)
    wide = Image.fromarray(across.swapaxes(0, 1).reshape(rows, count * width, 3))
    down = np.asarray(wide.resize((count * width, height), bicubic))
    return down.reshape(height, count, width, 3).swapaxes(0, 1)
