"""Encoding crops in bulk: decoded ahead by threads while the model runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raffect.clip.encoder import FrameEncoder, to_images
from raffect.clip.images import decode_batch, resize_batch
from raffect.config import ExtractConfig, FeatureRunConfig
from raffect.store.features import round_features
from raffect.store.raw import ahead
from raffect.training.device import autocast, choose_device, whole_float32


def encode_crops(
    encoder: FrameEncoder,
    jpegs: Sequence[bytes],
    config: ExtractConfig,
    location: Callable[[int], str] = "number {}".format,
) -> NDArray[np.floating]:
    """Features `(crops, dim)` of encoded crops, in their order (see `encode_pixels`)."""
    starts = range(0, len(jpegs), config.batch_size)
    batches = (jpegs[start : start + config.batch_size] for start in starts)
    decode = partial(decode_batch, preprocessing=encoder.preprocessing)
    with ThreadPoolExecutor(config.decoders) as pool:
        pixels = ahead(pool, decode, batches, config.decoders + 1)
        return encode_pixels(encoder, pixels, config, location)


def encode_arrays(
    encoder: FrameEncoder,
    crops: Sequence[NDArray[np.uint8]],
    config: ExtractConfig,
    location: Callable[[int], str] = "number {}".format,
) -> NDArray[np.floating]:
    """Features `(crops, dim)` of one batch of crops' pixels `(height, width, 3)`, of any size.

    See `encode_pixels`.
    """
    return encode_pixels(encoder, [resize_batch(crops, encoder.preprocessing)], config, location)


@torch.inference_mode()
def encode_pixels(
    encoder: FrameEncoder,
    batches: Iterable[NDArray[np.uint8]],
    config: ExtractConfig,
    location: Callable[[int], str],
) -> NDArray[np.floating]:
    """Features `(crops, dim)` of decoded crops, in batches `(batch, height, width, 3)`.

    They have the settings' `dtype`. The encoder must lie on the settings' device, in evaluation
    mode, at their layer; `location` names a crop by its index.

    Raises:
        DataError: Some are not finite, or beyond the range of `dtype` (see `round_features`).
    """
    device = choose_device(config.run.device)
    features = [np.empty((0, encoder.dim), np.float32)]
    for pixels in batches:
        encoded = _encode(encoder, to_images(pixels, device), config.run)
        features.append(encoded.cpu().numpy())
    return round_features(np.concatenate(features), config.dtype, location)


def _encode(encoder: FrameEncoder, images: Tensor, run: FeatureRunConfig) -> Tensor:
    with whole_float32():
        with autocast(run, images.device):
            encoded = encoder.encode(images).float()
        # What passed float16's range on the way comes out as inf or NaN.
        return encoded if bool(encoded.isfinite().all()) else encoder.encode(images).float()
