"""The content of the roots of crops: `<root>/<video>[_left|_right]/00001.jpg`."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from raffect.affwild2.naming import (
    FIRST_FRAME,
    CropNames,
    Problem,
    ProblemKind,
    is_system,
    read_folder,
    refuse_frame_zero,
)
from raffect.affwild2.tasks import name_fault
from raffect.errors import DataError
from raffect.store.manifest import Manifest
from raffect.store.raw import READERS, Entry, EntryKind, RawFile, RawFolder, ahead
from raffect.text import printable

LAYOUT = "DIR/VIDEO/00001.jpg, frames counted from 1, one folder per video"
SYNTHETIC_MARKER = "synthetic.json"
"""File at the root of a synthetic tree, written last; real data has none."""
_NEXT_STEP = "Give --images the folder that the videos' folders lie in, once for each batch."


@dataclass(frozen=True, eq=False)
class VideoCrops:
    """The crops of a video (or of one subject of it).

    Attributes:
        folders: The folders that hold them; usually one.
        frames: 1-based frames, ascending, `(crops,)`.
        sizes: Size of each file in bytes, `(crops,)`.
        origins: Index of each crop's folder in `folders`, `(crops,)`.
        names: How the files are called, for each folder; the dataset's own names by default.
    """

    video: str
    folders: tuple[RawFolder, ...]
    frames: NDArray[np.int32]
    sizes: NDArray[np.int64]
    origins: NDArray[np.uint8]
    names: tuple[CropNames, ...] = ()

    @property
    def bytes(self) -> int:
        """Size of all crops."""
        return int(self.sizes.sum())

    def file(self, index: int) -> RawFile:
        """The file of a crop by its index (not its frame)."""
        origin = int(self.origins[index])
        names = self.names[origin] if self.names else CropNames()
        return RawFile(self.folders[origin], names.of(int(self.frames[index])))


@dataclass(frozen=True, eq=False)
class Scan:
    """All crops, by video in order of names, and everything that is not a crop.

    Attributes:
        lost: By video, how many files look like crops and are none that can be used.
        first_frame: Number of the first frame in the files' names.
    """

    videos: tuple[VideoCrops, ...]
    problems: tuple[Problem, ...]
    lost: Mapping[str, int]
    first_frame: int = FIRST_FRAME

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


def says_synthetic(dataset: Manifest) -> bool:
    """Whether a prepared dataset's manifest says that it is synthetic."""
    return any(bool(place.get("synthetic")) for place in (dataset.notes, dataset.counts))


def is_synthetic(typed: str | Path, option: str = "--images") -> bool:
    """Whether a root of crops or annotations belongs to a synthetic tree."""
    folder = RawFolder.of(typed, option)
    places = (folder, folder.parent)
    return any(place is not None and place.has_file(SYNTHETIC_MARKER) for place in places)


def scan(roots: Sequence[str | Path], first_frame: int | None = None) -> Scan:
    """List the crops below one or more roots without opening them.

    Hidden files are ignored. Anything misplaced becomes a problem in the result, neither fatal nor
    silent. A crop that lies in two roots is taken from the one named first.

    Args:
        roots: Folders, or `s3://bucket/prefix`.
        first_frame: Number of the first frame in the files' names: 1, where a crop of frame 0 is
            left out, or 0 for crops that other tools wrote; frames in the result count from 1 all
            the same. None is 1, and refuses crops of frame 0.

    Raises:
        StoreError: A bucket can't be listed.
        DataError: A root is missing or is no folder, a folder can't be listed, there is no crop at
            all, or there is one of frame 0 and no `first_frame`.
    """
    found: dict[str, VideoCrops] = {}
    problems: list[Problem] = []
    lost: Counter[str] = Counter()
    folders = [RawFolder.of(root, "--images") for root in roots]
    for root in folders:
        check_root(root, "image", LAYOUT, _NEXT_STEP)
    closed: list[str] = []
    for root in dict.fromkeys(folders):
        stray: dict[ProblemKind, list[str]] = defaultdict(list)
        inside: list[RawFolder] = []
        for entry in _list(root, closed):
            if is_system(entry.name):
                continue
            kind = _stray(entry)
            if kind is None:
                inside.append(root / entry.name)
            else:
                stray[kind].append(entry.name)
        for place, entries in zip(inside, _list_all(inside, closed), strict=True):
            crops = read_folder(entries, f"{root.name}/{place.name}", first_frame)
            problems += crops.problems
            lost[place.name] += crops.lost
            if len(crops.frames):
                video = VideoCrops(
                    place.name,
                    (place,),
                    crops.frames,
                    crops.sizes,
                    np.zeros(len(crops.frames), np.uint8),
                    (crops.names,),
                )
                before = found.get(place.name)
                found[place.name] = _merge(before, video, root, problems) if before else video
        problems += [
            Problem(kind, printable(f"{root.name}/{names[0]}"), len(names))
            for kind, names in stray.items()
        ]
    if closed:
        raise DataError(
            "\n".join([f"{len(closed):,} image folders can't be listed:", *closed[:10]]),
            "folders that may be read",
            "Check the folders' permissions and run the command again.",
        )
    if first_frame is None:
        refuse_frame_zero(problems, len(lost))
    if not found:
        names = ", ".join(str(root) for root in roots) or "no folder at all"
        shown = "\n".join(
            f"  {problem.path}: {problem.kind}"
            + (f" ({problem.count:,} files)" if problem.count > 1 else "")
            for problem in problems[:5]
        )
        raise DataError(
            f"There are no crops in {names}; what lies there is misplaced, e.g.\n{shown}"
            if problems
            else f"There are no crops: {names} is empty.",
            LAYOUT,
            _NEXT_STEP,
        )
    videos = tuple(found[name] for name in sorted(found))
    begin = FIRST_FRAME if first_frame is None else first_frame
    return Scan(videos, tuple(problems), +lost, begin)


def check_root(root: RawFolder, what: str, allowed: str, next_step: str) -> None:
    """Raise DataError for a root of crops or annotations that is no folder."""
    trouble = root.trouble()
    if trouble is not None:
        raise DataError(f"The {what} folder {root.typed} {trouble}.", allowed, next_step)


def _list_all(folders: Sequence[RawFolder], closed: list[str]) -> Iterator[list[Entry]]:
    """What lies in each folder, in order, with several of them being listed at a time."""
    with ThreadPoolExecutor(READERS) as pool:
        yield from ahead(pool, lambda folder: _list(folder, closed), folders, READERS)


def _list(folder: RawFolder, closed: list[str]) -> list[Entry]:
    try:
        return folder.entries()
    except OSError as error:
        closed.append(f"  {folder.typed}: {error.strerror or error}")
        return []


def _stray(entry: Entry) -> ProblemKind | None:
    """Why an entry of a root is no video's folder; None if it is one."""
    if entry.kind is EntryKind.FOLDER:
        return ProblemKind.VIDEO_NAME if name_fault(entry.name) else None
    if entry.kind is EntryKind.BROKEN:
        return ProblemKind.BROKEN
    return ProblemKind.OUTSIDE if entry.kind is EntryKind.FILE else ProblemKind.NO_FILE


def _merge(
    one: VideoCrops, other: VideoCrops, root: RawFolder, problems: list[Problem]
) -> VideoCrops:
    """The crops of a video that lies in two roots."""
    twice = np.isin(other.frames, one.frames)
    if twice.any():
        folder, name = other.file(int(np.argmax(twice)))
        first = printable(f"{root.name}/{folder.name}/{name}")
        problems.append(Problem(ProblemKind.TWICE, first, int(twice.sum())))
    origins = other.origins[~twice] + np.uint8(len(one.folders))
    frames = np.concatenate([one.frames, other.frames[~twice]])
    order = np.argsort(frames)
    return VideoCrops(
        video=one.video,
        folders=one.folders + other.folders,
        frames=frames[order],
        sizes=np.concatenate([one.sizes, other.sizes[~twice]])[order],
        origins=np.concatenate([one.origins, origins])[order],
        names=one.names + other.names,
    )
