"""How crops are named: which file of a video's folder is which frame, and which is none.

Names are read where they are unambiguous: any padding or none, upper or lower case, `.jpg`,
`.jpeg`, `.png`, `.webp` or `.bmp` (the content decides the format), and any prefix that all crops
of a folder share. What could mean two things is left out and said. Pure, on listed entries, so
that a bucket's listing is read like a folder's.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from raffect.affwild2.pixels import MAX_PIXELS
from raffect.affwild2.tasks import crop_name
from raffect.errors import DataError
from raffect.store.raw import Entry, EntryKind
from raffect.text import printable

CROPS = "crops named by their frame, counted from 1: 00001.jpg, frame_00001.png, ..."
FIRST_FRAME = 1
LAST_FRAME = 10_000_000
"""92 hours at 30 frames a second; larger numbers are dates or times."""
MOST_BYTES = 4 * MAX_PIXELS
"""The largest image that is read, without compression and with an alpha channel."""
TENTH = 10
"""What concerns a tenth of a video's crops or more is no stray file."""
_CROP = re.compile(r"((?:.*[^0-9])?)([0-9]+)(\.(?:jpe?g|png|webp|bmp))", re.IGNORECASE | re.DOTALL)
_IMAGE = re.compile(r".*\.(?:jpe?g|png|webp|bmp)", re.IGNORECASE | re.DOTALL)
_NO_PREFIX = re.compile(r"(?:.*[0-9])?[.,]|[-+]", re.DOTALL)
_SYSTEM = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "__macosx"})


class ProblemKind(StrEnum):
    """Why something below a root of crops or of annotations was left out."""

    OUTSIDE = "a file outside a video's folder"
    INSIDE = "a folder inside a video's folder"
    NO_FILE = "neither a file nor a folder"
    BROKEN = "a link that leads nowhere"
    VIDEO_NAME = "a name that no predictions file can hold"
    NAME = "not the name of a crop (00001.jpg)"
    PREFIX = "not the prefix of the folder's crops"
    TOO_FAR = f"a date or time: number above {LAST_FRAME:,}"
    TOO_LARGE = f"a file above {MOST_BYTES >> 20} MiB: no crop"
    FRAME_ZERO = "frame 0, where frames count from 1"
    SAME = "a second file for a frame"
    TWICE = "also in an earlier root, which is used"
    EMPTY = "a video's folder without crops"
    NO_SPLIT = "neither Train_Set nor Validation_Set"
    NO_LABELS = "not the name of a label file (VIDEO.txt)"
    COPY = "a copy of the annotation file beside it"


_NOT_FILES = {
    EntryKind.FOLDER: ProblemKind.INSIDE,
    EntryKind.OTHER: ProblemKind.NO_FILE,
    EntryKind.BROKEN: ProblemKind.BROKEN,
}


@dataclass(frozen=True)
class Problem:
    """What was left out of one folder for one reason.

    Attributes:
        path: The first one, printable; begins with the root's name.
        count: How many there are.
    """

    kind: ProblemKind
    path: str
    count: int = 1


class CropName(NamedTuple):
    """A name in its parts: `frame_`, `00001`, `.jpg`."""

    prefix: str
    digits: str
    ending: str


@dataclass(frozen=True)
class CropNames:
    """The names of a folder's files by frame: a pattern, and those that do not follow it.

    Millions of names would take more memory than all else that is known of the crops.
    """

    prefix: str = ""
    width: int = 5
    ending: str = ".jpg"
    first_frame: int = FIRST_FRAME
    others: Mapping[int, str] = field(default_factory=dict)

    def of(self, frame: int) -> str:
        """The name of the file of a 1-based frame."""
        number = frame - FIRST_FRAME + self.first_frame
        follows = f"{self.prefix}{number:0{self.width}d}{self.ending}"
        return self.others.get(frame, follows)


@dataclass(frozen=True, eq=False)
class FolderCrops:
    """The crops of a folder.

    Attributes:
        frames: 1-based frames, ascending, `(crops,)`.
        sizes: Size of each file in bytes, `(crops,)`.
        names: Their files' names.
        problems: What was left out.
        lost: How many of those are images by their names, without another file for their frame.
    """

    frames: NDArray[np.int32]
    sizes: NDArray[np.int64]
    names: CropNames
    problems: tuple[Problem, ...]
    lost: int


def read_name(name: str) -> CropName | None:
    """The parts of a crop's name; None if it has no frame's number before its ending."""
    match = _CROP.fullmatch(name)
    # "1.04.jpg" is a time, not frame 4, and "-1.jpg" a number below 0.
    if match is None or (match[1] and _NO_PREFIX.fullmatch(match[1])):
        return None
    return CropName(*match.groups())


def is_system(name: str) -> bool:
    """Whether a file or folder is an operating system's own (`.DS_Store`, `._00001.jpg`)."""
    return name.startswith(".") or name.lower() in _SYSTEM


def read_folder(
    entries: Iterable[Entry], place: str, first_frame: int | None = None
) -> FolderCrops:
    """The crops among the entries of one video's folder.

    Strays beside at least nine tenths that share a prefix are left out; with fewer it can't be
    known which files are meant, and none is taken. Of several files for a frame the one with the
    dataset's own name (00001.jpg) is taken, or none.

    Args:
        place: The folder in the paths of problems.
        first_frame: Number of the first frame in the files' names, 0 or 1; None is 1.
    """
    begin = FIRST_FRAME if first_frame is None else first_frame
    left: dict[ProblemKind, list[str]] = defaultdict(list)
    lost = 0
    named: list[tuple[str, int, Entry]] = []
    visible = sorted(entry for entry in entries if not is_system(entry.name))
    for entry in visible:
        name = read_name(entry.name)
        kind = _refused(entry, name)
        if kind is None and name is not None:
            named.append((name.prefix.casefold(), int(name.digits), entry))
        elif kind is not None:
            left[kind].append(entry.name)
            lost += _IMAGE.fullmatch(entry.name) is not None
    if not visible:
        left[ProblemKind.EMPTY].append("")
    shared = _shared_prefix([prefix for prefix, _, _ in named])
    files: dict[int, Entry] = {}
    again: dict[int, list[Entry]] = {}
    for prefix, number, entry in named:
        if prefix != shared:
            left[ProblemKind.PREFIX].append(entry.name)
            lost += 1
        elif number < begin:
            left[ProblemKind.FRAME_ZERO].append(entry.name)
        elif number in files:
            again.setdefault(number, [files[number]]).append(entry)
        else:
            files[number] = entry
    for number, same in again.items():
        own = [entry for entry in same if entry.name == crop_name(number)]
        left[ProblemKind.SAME] += [entry.name for entry in same if entry not in own]
        if own:
            files[number] = own[0]
        else:
            del files[number]
            lost += 1
    numbers = sorted(files)
    problems = [
        Problem(kind, printable(f"{place}/{names[0]}".removesuffix("/")), len(names))
        for kind, names in left.items()
    ]
    return FolderCrops(
        np.array(numbers, np.int32) + np.int32(FIRST_FRAME - begin),
        np.array([files[number].size for number in numbers], np.int64),
        _names({number: files[number].name for number in numbers}, begin),
        tuple(problems),
        lost,
    )


def _refused(entry: Entry, name: CropName | None) -> ProblemKind | None:
    """Why an entry is no crop whatever lies beside it."""
    if entry.kind is not EntryKind.FILE:
        return _NOT_FILES[entry.kind]
    if name is None:
        return ProblemKind.NAME
    if int(name.digits) > LAST_FRAME:
        return ProblemKind.TOO_FAR
    return ProblemKind.TOO_LARGE if entry.size > MOST_BYTES else None


def _shared_prefix(prefixes: Sequence[str]) -> str | None:
    """The prefix of nine tenths of the names or more."""
    if not prefixes:
        return None
    [(prefix, count)] = Counter(prefixes).most_common(1)
    return prefix if (len(prefixes) - count) * TENTH <= len(prefixes) else None


def _names(names: Mapping[int, str], first_frame: int) -> CropNames:
    """Names by number, ascending, those that follow a pattern as the pattern."""
    # A pattern's padding shows in its lowest number.
    one = read_name(next(iter(names.values()), ""))
    prefix, digits, ending = one or ("", "", "")
    width = len(digits)
    others = {
        number - first_frame + FIRST_FRAME: name
        for number, name in names.items()
        if name != f"{prefix}{number:0{width}d}{ending}"
    }
    return CropNames(prefix, width, ending, first_frame, others)


def refuse_frame_zero(problems: Iterable[Problem], videos: int) -> None:
    """Raise DataError if there are crops of frame 0, where nothing says what they mean.

    If crops count from 0, every one would otherwise belong to the line of the frame before it.
    """
    zero = [problem for problem in problems if problem.kind is ProblemKind.FRAME_ZERO]
    if zero:
        raise DataError(
            f"{zero[0].path} is a crop of frame 0, and frames count from 1"
            f" ({len(zero):,} of {videos:,} videos have such a crop).",
            CROPS,
            "If crops count from 0, in every video, give --first-frame 0: crop 0 is then the first"
            " frame. If the file is a stray one, --first-frame 1 leaves it out.",
        )
