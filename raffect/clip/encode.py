"""Encoding crops in bulk: decoded ahead by threads while the model runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from raffect.clip.encoder import FrameEncoder, to_images
from raffect.clip.images import decode_batch
from raffect.config import ExtractConfig
from raffect.store.features import DTYPE
from raffect.store.raw import ahead
from raffect.training.device import autocast, choose_device


def encode_crops(
    encoder: FrameEncoder, jpegs: Sequence[bytes], config: ExtractConfig
) -> NDArray[np.float16]:
    """Features `(crops, dim)` of encoded crops, in their order.

    The encoder must lie on the device of the settings, in evaluation mode.
    """
    starts = range(0, len(jpegs), config.batch_size)
    batches = (jpegs[start : start + config.batch_size] for start in starts)
    decode = partial(decode_batch, preprocessing=encoder.preprocessing)
    with ThreadPoolExecutor(config.decoders) as pool:
        pixels = ahead(pool, decode, batches, config.decoders + 1)
        return encode_pixels(encoder, pixels, config)


@torch.inference_mode()
def encode_pixels(
    encoder: FrameEncoder, batches: Iterable[NDArray[np.uint8]], config: ExtractConfig
) -> NDArray[np.float16]:
    """Features `(crops, dim)` of batches of decoded crops `(batch, height, width, 3)`."""
    device = choose_device(config.run.device)
    features = [np.empty((0, encoder.dim), DTYPE)]
    for pixels in batches:
        with autocast(config.run, device):
            encoded = encoder.encode(to_images(pixels, device))
        features.append(encoded.float().cpu().numpy().astype(DTYPE))
    return np.concatenate(features)
