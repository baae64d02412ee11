"""The crops of one video's folder, on a disk or in a bucket, as features."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from raffect.affwild2.naming import (
    CROPS,
    MOST_BYTES,
    FolderCrops,
    read_folder,
    refuse_frame_zero,
)
from raffect.affwild2.tasks import name_fault
from raffect.clip.encoder import FrameEncoder
from raffect.clip.encoding import encode_pixels
from raffect.clip.images import UnreadableImageError, decode
from raffect.config import ExtractConfig
from raffect.context import Progress, ignore
from raffect.errors import DataError, NotThereError
from raffect.store.raw import READERS, EntryKind, RawFolder, ahead
from raffect.text import listed, printable
from raffect.training.device import choose_device

_NEXT_STEP = "Give --frames the folder in which one video's crops lie directly."
# Each frame up to the last crop becomes a row. Aff-Wild2's longest video has 47,435.
_LONG = 200_000
_SPARSE = 100


def find_crops(folder: RawFolder, first_frame: int | None = None) -> FolderCrops:
    """The crops of one video's folder, of which none is opened; what is left out is in `problems`.

    Raises:
        NotThereError: There is no such folder.
        DataError: It holds no crop or counts from 0, or the video can't be called as it is.
    """
    fault = name_fault(folder.name) if folder.name else "it has none"
    if fault:
        raise DataError(
            f"{printable(folder.name)!r} can't be a video's name in a predictions file: {fault}.",
            "a folder's name in UTF-8, without commas and line ends",
            "Rename the folder: its name becomes the video's.",
        )
    try:
        entries = folder.entries()
    except OSError as error:
        trouble = folder.trouble() or f"can't be listed: {error.strerror or error}"
        raise NotThereError(
            f"{folder.typed} {trouble}.", f"a folder of {CROPS}", _NEXT_STEP
        ) from None
    crops = read_folder(entries, printable(folder.name), first_frame)
    if first_frame is None:
        refuse_frame_zero(crops.problems, 1)
    if not len(crops.frames):
        folders = [entry.name for entry in entries if entry.kind is EntryKind.FOLDER]
        if folders:
            first = (folder / folders[0]).typed
            raise DataError(
                f"{folder.typed} holds folders, and no crop.",
                "the folder of one video",
                f"Give one video's folder, e.g. --frames {shlex.quote(printable(first))}",
            )
        raise _no_crop(folder, _left_out(crops))
    last = int(crops.frames[-1])
    if last > _LONG and last > _SPARSE * len(crops.frames):
        raise DataError(
            f"{folder.typed} has {len(crops.frames):,} crops, and the last is of frame {last:,}.",
            f"{CROPS}; each frame up to the last crop becomes a row",
            f"Rename or remove {crops.names.of(last)}, if its number is no frame.",
        )
    return crops


def encode_folder(
    encoder: FrameEncoder,
    folder: RawFolder,
    crops: FolderCrops | None = None,
    skipped: list[str] | None = None,
    config: ExtractConfig | None = None,
    progress: Progress = ignore,
) -> tuple[NDArray[np.int32], NDArray[np.floating]]:
    """Frames `(crops,)`, ascending from 1, and features `(crops, dim)` of a folder of crops.

    Crops are read, decoded and encoded in batches, so that a long video takes no more memory. The
    encoder is moved to the settings' device; the settings of `extract` give the same numbers.

    Args:
        crops: What `find_crops` found there.
        skipped: Takes `name: why` for each file that is no crop or can't be read.
        progress: Counts crops.

    Raises:
        NotThereError, DataError: As `find_crops` and `encode_pixels`; or no crop can be read.
    """
    crops = find_crops(folder) if crops is None else crops
    config = config or ExtractConfig()
    skipped = [] if skipped is None else skipped
    skipped += _left_out(crops)
    encoder = encoder.to(choose_device(config.run.device)).eval()
    read: list[int] = []

    def load(frame: int) -> NDArray[np.uint8] | str:
        try:
            data = folder.read(crops.names.of(frame), MOST_BYTES)
            return decode(data, encoder.preprocessing)
        except UnreadableImageError as error:
            return str(error)
        except OSError as error:
            return error.strerror or str(error)

    def batches() -> Iterator[NDArray[np.uint8]]:
        batch: list[NDArray[np.uint8]] = []
        frames = crops.frames.tolist()
        with ThreadPoolExecutor(READERS) as pool:
            loaded = ahead(pool, load, frames, config.batch_size + READERS)
            for done, (frame, pixels) in enumerate(zip(frames, loaded, strict=True), 1):
                if isinstance(pixels, str):
                    skipped.append(f"{printable(crops.names.of(frame))}: {pixels}")
                else:
                    read.append(frame)
                    batch.append(pixels)
                if batch and (len(batch) == config.batch_size or done == len(frames)):
                    yield np.stack(batch)
                    batch.clear()
                    progress(done, len(frames))

    def location(row: int) -> str:
        return printable(crops.names.of(read[row]))

    features = encode_pixels(encoder, batches(), config, location)
    if not read:
        raise _no_crop(folder, skipped)
    return np.array(read, np.int32), features


def _left_out(crops: FolderCrops) -> list[str]:
    return [
        f"{problem.path.rpartition('/')[2]}"
        + (f" and {problem.count - 1:,} more" if problem.count > 1 else "")
        + f": {problem.kind}"
        for problem in crops.problems
    ]


def _no_crop(folder: RawFolder, skipped: Sequence[str]) -> DataError:
    told = f"; skipped: {listed(skipped)}" if skipped else ""
    return DataError(f"{folder.typed} holds no crop that can be read{told}.", CROPS, _NEXT_STEP)
