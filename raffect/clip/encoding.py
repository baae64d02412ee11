"""Encoding crops in bulk: decoded ahead by threads while the model runs."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from raffect.clip.encoder import FrameEncoder, to_images
from raffect.clip.images import decode_batch
from raffect.clip.training import autocast
from raffect.config import ExtractConfig, RunConfig
from raffect.store.features import DTYPE


def choose_device(run: RunConfig) -> torch.device:
    """The device the settings ask for; `auto` is a GPU where this process has one."""
    if run.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(run.device)


@torch.inference_mode()
def encode_crops(
    encoder: FrameEncoder, jpegs: Sequence[bytes], config: ExtractConfig
) -> NDArray[np.float16]:
    """Features `(crops, dim)` of encoded crops, in their order.

    The encoder must lie on the device of the settings, in evaluation mode.
    """
    device = choose_device(config.run)
    features = np.empty((len(jpegs), encoder.dim), DTYPE)
    starts = range(0, len(jpegs), config.batch_size)
    batches = (jpegs[start : start + config.batch_size] for start in starts)
    decode = partial(decode_batch, preprocessing=encoder.preprocessing)
    with ThreadPoolExecutor(config.decoders) as pool:
        for start, pixels in zip(starts, _ahead(pool, decode, batches, config), strict=True):
            with autocast(config.run, device):
                encoded = encoder.encode(to_images(pixels, device))
            features[start : start + len(pixels)] = encoded.float().cpu().numpy()
    return features


def _ahead(
    pool: ThreadPoolExecutor,
    decode: Any,
    batches: Iterator[Sequence[bytes]],
    config: ExtractConfig,
) -> Iterator[NDArray[np.uint8]]:
    """Decoded batches in order; never more than `decoders` + 1 of them wait in memory."""
    waiting: deque[Future[NDArray[np.uint8]]] = deque()
    for batch in itertools.islice(batches, config.decoders + 1):
        waiting.append(pool.submit(decode, batch))
    while waiting:
        pixels = waiting.popleft().result()
        for batch in itertools.islice(batches, 1):
            waiting.append(pool.submit(decode, batch))
        yield pixels
