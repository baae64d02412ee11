"""Encoding a folder of crops, for predictions on a video that is in no store."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from raffect.clip.encoder import FrameEncoder
from raffect.clip.encoding import choose_device, encode_crops
from raffect.clip.images import UnreadableImageError, decode
from raffect.config import ExtractConfig
from raffect.errors import DataError, NotThereError

_CROP = re.compile(r"(\d{5,})\.jpe?g", re.IGNORECASE)
_EXPECTED = "crops named 00001.jpg, 00002.jpg, ...: five digits or more, counted from 1"


def encode_folder(
    encoder: FrameEncoder,
    folder: Path,
    skipped: list[str] | None = None,
    config: ExtractConfig | None = None,
) -> tuple[NDArray[np.int32], NDArray[np.float16]]:
    """Frames `(crops,)`, ascending from 1, and features `(crops, dim)` of a folder of crops.

    Args:
        encoder: The encoder, in evaluation mode; it is moved to the settings' device.
        folder: Where the crops are, directly.
        skipped: Takes `name: why` for each file that is no crop or does not decode.
        config: Settings; the same as those of `extract` give the same numbers.

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
    encoder = encoder.to(choose_device(config.run)).eval()
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
