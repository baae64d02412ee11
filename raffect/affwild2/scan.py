"""The content of the roots of crops: `<root>/<video>[_left|_right]/00001.jpg`."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from raffect.affwild2.tasks import crop_name
from raffect.errors import DataError

LAYOUT = "DIR/VIDEO/00001.jpg, frames counted from 1, one folder per video"
SYNTHETIC_MARKER = "synthetic.json"
"""File at the root of a synthetic tree, written last; real data has none."""
_NEXT_STEP = "Give --images the folder that the videos' folders lie in, once for each batch."
_CROP = re.compile(r"([0-9]{5,})\.jpg")


class ProblemKind(StrEnum):
    """Why something below a root of crops was left out."""

    OUTSIDE = "a file outside a video's folder"
    INSIDE = "a folder inside a video's folder"
    NO_FILE = "neither a file nor a folder"
    NAME = "not the name of a crop (00001.jpg)"
    FRAME_ZERO = "frame 0, where frames count from 1"
    TWICE = "a crop that another folder also has"
    EMPTY = "a video's folder without crops"


@dataclass(frozen=True)
class Problem:
    """Something that was left out; its path starts with the root's name."""

    kind: ProblemKind
    path: str


@dataclass(frozen=True, eq=False)
class VideoCrops:
    """The crops of a video (or of one subject of it).

    Attributes:
        folders: The folders that hold them; usually one.
        frames: 1-based frames, ascending, `(crops,)`.
        sizes: Size of each file in bytes, `(crops,)`.
        origins: Index of each crop's folder in `folders`, `(crops,)`.
    """

    video: str
    folders: tuple[Path, ...]
    frames: NDArray[np.int32]
    sizes: NDArray[np.int64]
    origins: NDArray[np.uint8]

    @property
    def bytes(self) -> int:
        """Size of all crops."""
        return int(self.sizes.sum())

    def path(self, index: int) -> Path:
        """The file of a crop by its index (not its frame)."""
        return self.folders[int(self.origins[index])] / crop_name(int(self.frames[index]))


@dataclass(frozen=True, eq=False)
class Scan:
    """All crops, by video in order of names, and everything that is not a crop."""

    videos: tuple[VideoCrops, ...]
    problems: tuple[Problem, ...]

    @property
    def crops(self) -> int:
        """Number of crops."""
        return sum(len(video.frames) for video in self.videos)

    def digest(self) -> str:
        """SHA-256 over names, frames and sizes of all crops, wherever the roots lie."""
        total = hashlib.sha256()
        for video in self.videos:
            total.update(f"{video.video} {len(video.frames)}\n".encode())
            total.update(video.frames.astype("<i4").tobytes())
            total.update(video.sizes.astype("<i8").tobytes())
        return total.hexdigest()


def is_synthetic(folder: Path) -> bool:
    """Whether a root of crops or annotations belongs to a synthetic tree."""
    return any(
        (place / SYNTHETIC_MARKER).is_file() for place in (folder, folder.absolute().parent)
    )


def scan(roots: Sequence[Path]) -> Scan:
    """List the crops below one or more roots without opening them.

    Hidden files are ignored. Anything misplaced becomes a problem in the result, neither fatal nor
    silent. A crop that lies in two roots is taken from the one named first.

    Raises:
        DataError: A root is missing or is no folder, or there is no crop at all.
    """
    found: dict[str, VideoCrops] = {}
    problems: list[Problem] = []
    for root in roots:
        check_root(root, "image", LAYOUT, _NEXT_STEP)
    for root in dict.fromkeys(root.resolve() for root in roots):
        for entry in _list(root):
            place = f"{root.name}/{entry.name}"
            if not entry.is_dir():
                kind = ProblemKind.OUTSIDE if entry.is_file() else ProblemKind.NO_FILE
                problems.append(Problem(kind, place))
                continue
            crops = _scan_video(entry, place, problems)
            if crops is not None and entry.name in found:
                crops = _merge(found[entry.name], crops, place, problems)
            if crops is not None:
                found[entry.name] = crops
    if not found:
        names = ", ".join(str(root) for root in roots) or "no folder at all"
        shown = "\n".join(f"  {problem.path}: {problem.kind}" for problem in problems[:5])
        raise DataError(
            f"There are no crops in {names}; what lies there is misplaced, e.g.\n{shown}"
            if problems
            else f"There are no crops: {names} is empty.",
            LAYOUT,
            _NEXT_STEP,
        )
    return Scan(tuple(found[name] for name in sorted(found)), tuple(problems))


def check_root(root: Path, what: str, allowed: str, next_step: str) -> None:
    """Raise DataError for a root of crops or annotations that is no folder."""
    if not root.is_dir():
        state = "is a file" if root.exists() else "does not exist"
        raise DataError(f"The {what} folder {root} {state}.", allowed, next_step)


def _list(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            visible = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise DataError(
            f"The image folder {folder} can't be listed: {error.strerror}.",
            "folders that may be read",
            "Check the folder's permissions and give the command again.",
        ) from None
    return sorted(visible, key=lambda entry: entry.name)


def _scan_video(
    folder: os.DirEntry[str], place: str, problems: list[Problem]
) -> VideoCrops | None:
    frames, sizes = [], []
    entries = _list(Path(folder.path))
    for entry in entries:
        kind = _misplaced(entry)
        if kind is not None:
            problems.append(Problem(kind, f"{place}/{entry.name}"))
            continue
        frames.append(int(entry.name[:-4]))
        sizes.append(entry.stat().st_size)
    if not entries:
        problems.append(Problem(ProblemKind.EMPTY, place))
    if not frames:
        return None
    # As text, "100000" sorts before "99999".
    order = np.argsort(frames)
    return VideoCrops(
        video=folder.name,
        folders=(Path(folder.path),),
        frames=np.array(frames, dtype=np.int32)[order],
        sizes=np.array(sizes, dtype=np.int64)[order],
        origins=np.zeros(len(frames), dtype=np.uint8),
    )


def _misplaced(entry: os.DirEntry[str]) -> ProblemKind | None:
    """Why an entry of a video's folder is not a crop; None if it is."""
    if not entry.is_file():
        return ProblemKind.INSIDE if entry.is_dir() else ProblemKind.NO_FILE
    match = _CROP.fullmatch(entry.name)
    if match is None or len(match[1]) > 9:
        return ProblemKind.NAME
    frame = int(match[1])
    if frame == 0:
        return ProblemKind.FRAME_ZERO
    # "000001.jpg" would be a second file for the frame of "00001.jpg".
    return None if entry.name == crop_name(frame) else ProblemKind.NAME


def _merge(one: VideoCrops, other: VideoCrops, place: str, problems: list[Problem]) -> VideoCrops:
    """The crops of a video that lies in two roots."""
    twice = np.isin(other.frames, one.frames)
    for frame in other.frames[twice]:
        problems.append(Problem(ProblemKind.TWICE, f"{place}/{crop_name(int(frame))}"))
    origins = other.origins[~twice] + np.uint8(len(one.folders))
    frames = np.concatenate([one.frames, other.frames[~twice]])
    order = np.argsort(frames)
    return VideoCrops(
        video=one.video,
        folders=one.folders + other.folders,
        frames=frames[order],
        sizes=np.concatenate([one.sizes, other.sizes[~twice]])[order],
        origins=np.concatenate([one.origins, origins])[order],
    )
