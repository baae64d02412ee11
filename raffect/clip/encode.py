"""Encoding crops in bulk: decoded ahead by threads while the model runs."""

from __future__ import annotations

import itertools
import re
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from raffect.clip.encoder import FrameEncoder, to_images
from raffect.clip.images import UnreadableImageError, decode, decode_batch
from raffect.config import ExtractConfig
from raffect.errors import DataError, NotThereError
from raffect.store.features import DTYPE
from raffect.training.device import autocast, choose_device


@torch.inference_mode()
def encode_crops(
    encoder: FrameEncoder, jpegs: Sequence[bytes], config: ExtractConfig
) -> NDArray[np.float16]:
    """Features `(crops, dim)` of encoded crops, in their order.

    The encoder must lie on the device of the settings, in evaluation mode.
    """
    device = choose_device(config.run.device)
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
    """Decoded batches in order, at most `decoders` + 1 of them in memory."""
    submitted: Iterator[Future[NDArray[np.uint8]]]
    submitted = (pool.submit(decode, batch) for batch in batches)
    waiting = deque(itertools.islice(submitted, config.decoders + 1))
    while waiting:
        pixels = waiting.popleft().result()
        waiting.extend(itertools.islice(submitted, 1))
        yield pixels


_CROP = re.compile(r"(\d{5,})\.jpe?g", re.IGNORECASE)
_EXPECTED = "crops named 00001.jpg, 00002.jpg, ...: five digits or more, counted from 1"


def encode_folder(
    encoder: FrameEncoder,
    folder: Path,
    skipped: list[str] | None = None,
    config: ExtractConfig | None = None,
) -> tuple[NDArray[np.int32], NDArray[np.float16]]:
    """Frames `(crops,)`, ascending from 1, and features `(crops, dim)` of a folder of crops.

    The encoder is moved to the settings' device; the settings of `extract` give the same numbers.
    `skipped` takes `name: why` for each file that is no crop or does not decode.

    Raises:
        NotThereError: There is no such folder.
        DataError: The folder has no crop that can be read.
    """
    config = config or ExtractConfig()
    skipped = [] if skipped is None else skipped
    crops = find_crops(folder, skipped)
    frames, jpegs = [], []
    for frame in sorted(crops):
        data = crops[frame].read_bytes()
        try:
            decode(data, encoder.preprocessing)
        except UnreadableImageError as error:
            skipped.append(f"{crops[frame].name}: {error}")
            continue
        frames.append(frame)
        jpegs.append(data)
    if not frames:
        raise DataError(
            f"{folder} holds no crop that can be read"
            + (f"; skipped: {', '.join(skipped[:5])}." if skipped else "."),
            _EXPECTED,
            "Give the folder in which one video's crops lie directly.",
        )
    encoder = encoder.to(choose_device(config.run.device)).eval()
    return np.array(frames, np.int32), encode_crops(encoder, jpegs, config)


def find_crops(folder: Path, skipped: list[str]) -> dict[int, Path]:
    """Crops by frame; names of other files go to `skipped`.

    Raises:
        NotThereError: There is no such folder.
    """
    if not folder.is_dir():
        raise NotThereError(
            f"{folder} is no folder.", f"a folder of {_EXPECTED}", "Correct --frames."
        )
    crops: dict[int, Path] = {}
    for path in sorted(folder.iterdir()):
        match = _CROP.fullmatch(path.name)
        frame = int(match[1]) if match else 0
        if frame < 1:
            skipped.append(f"{path.name}: not a crop's name")
        elif frame in crops:
            skipped.append(f"{path.name}: frame {frame} again")
        else:
            crops[frame] = path
    return crops
