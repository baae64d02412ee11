"""Augmentation of batches of face crops that keeps the expression recognisable.

Crops keep most of the face, colours shift as under another light, faces are mirrored and never
turned upside down. Random numbers come from the caller's generator on the CPU, so that they are
the same on every device.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from raffect.config import AugmentConfig

_GREY = (0.299, 0.587, 0.114)
"""Luma weights of ITU-R BT.601, as in torchvision's saturation."""
_ERASED_SHARES = (0.02, 0.15)
"""Area of an erased patch: less than random erasing's usual third, so that the eyes or the mouth
remain."""


def augment(images: Tensor, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """Augmented images `(batch, 3, height, width)`, values in [0, 1]."""
    images = _crop_and_flip(images, config, generator)
    images = _shift_colours(images, config.colour, generator)
    return _erase(images, config.erase, generator)


def _draw(count: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    return torch.rand(count, generator=generator) * (high - low) + low


def _crop_and_flip(images: Tensor, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """One resampling for both; the crop is a random window of at least `crop_scale` area."""
    count = len(images)
    side = _draw(count, config.crop_scale, 1.0, generator).sqrt()
    mirror = torch.where(_draw(count, 0.0, 1.0, generator) < config.flip, -1.0, 1.0)
    shift_x = _draw(count, -1.0, 1.0, generator) * (1 - side)
    shift_y = _draw(count, -1.0, 1.0, generator) * (1 - side)
    matrix = torch.zeros(count, 2, 3)
    matrix[:, 0, 0], matrix[:, 0, 2] = side * mirror, shift_x
    matrix[:, 1, 1], matrix[:, 1, 2] = side, shift_y
    grid = functional.affine_grid(
        matrix.to(images.device), list(images.shape), align_corners=False
    )
    return functional.grid_sample(
        images, grid.to(images.dtype), padding_mode="border", align_corners=False
    )


def _shift_colours(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Brightness, contrast and saturation, each by a factor within 1 +- strength."""
    factors = _draw(3 * len(images), 1 - strength, 1 + strength, generator)
    brightness, contrast, saturation = factors.to(images.device).view(3, -1, 1, 1, 1)
    images = images * brightness
    grey = (images * images.new_tensor(_GREY).view(1, 3, 1, 1)).sum(1, keepdim=True)
    images = grey + (images - grey) * saturation
    mean = grey.mean((2, 3), keepdim=True)
    shifted: Tensor = (mean + (images - mean) * contrast).clamp(0, 1)
    return shifted


def _erase(images: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """A rectangle of mid-grey in some images."""
    count, _, height, width = images.shape
    chosen = _draw(count, 0.0, 1.0, generator) < probability
    area = _draw(count, *_ERASED_SHARES, generator)
    aspect = _draw(count, -0.7, 0.7, generator).exp()
    tall, wide = (area * aspect).sqrt().clamp(max=1), (area / aspect).sqrt().clamp(max=1)
    top = _draw(count, 0.0, 1.0, generator) * (1 - tall)
    left = _draw(count, 0.0, 1.0, generator) * (1 - wide)
    rows = (torch.arange(height) + 0.5) / height
    columns = (torch.arange(width) + 0.5) / width
    inside_rows = (rows >= top[:, None]) & (rows < (top + tall)[:, None])
    inside_columns = (columns >= left[:, None]) & (columns < (left + wide)[:, None])
    inside = inside_rows[:, :, None] & inside_columns[:, None, :] & chosen[:, None, None]
    return images.masked_fill(inside[:, None].to(images.device), 0.5)
