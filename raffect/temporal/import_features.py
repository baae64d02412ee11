"""Features that others computed: one .npy per video, checked against the dataset, into the store.

    DIR/VIDEO.npy          (rows, features) float16, float32 or float64
    DIR/VIDEO.frames.npy   (rows,) integers: each row's frame, from 1; without it row i is frame i

Files are read twice, to be checked and to be written: none of the folder is in memory as a whole.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, groupby
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from raffect.affwild2.labels import codes_of, load_labels
from raffect.affwild2.shards import frames_files, read_shard
from raffect.affwild2.tasks import Task
from raffect.code import code_digest
from raffect.context import Context
from raffect.errors import DataError, NotThereError
from raffect.settings import hash_json
from raffect.store import DATASET, Manifest, Stage, Store, features_folder, files_of, read_manifest
from raffect.store.features import FLOAT16, to_parquet
from raffect.store.raw import RawFolder, ahead
from raffect.store.stage import StagePart
from raffect.text import printable, size_text

FILES = "a VIDEO.npy per video: (frames, features) float16, float32 or float64"
SHARD_BYTES = 64 * 2**20
MOST_BYTES = 2**31
"""Of one file; the longest video has 47,435 frames."""
_READ_AHEAD = 2
"""Files that are in memory at a time."""
_VALUES, _FRAMES = ".npy", ".frames.npy"
_DTYPES = ("float16", "float32", "float64")


class Length(NamedTuple):
    """How many rows a video may have: `least` where row i is frame i, and the last frame."""

    least: int
    most: int


@dataclass(frozen=True)
class Found:
    """A video's files as they were checked, by their digests."""

    video: str
    rows: int
    dim: int
    dtype: str
    digests: tuple[str, ...]


class Fault(NamedTuple):
    """What is wrong with a video: of all that have it, one is described in full."""

    kind: str
    detail: str


class _Refused(Exception):  # noqa: N818
    """A video that can't be imported; the arguments are a Fault's."""


def import_features(
    store: Store, folder: RawFolder, name: str, context: Context = Context()
) -> Manifest:
    """Bring a folder of .npy files into `features/NAME`, as `extract` makes them.

    They are float16 where all files are, else float32. Interrupted and given again, it keeps the
    files that verify; given again when finished, it does nothing, unless the input has changed.

    The context's `progress` counts videos, checked and written.

    Raises:
        NotThereError: The store has no dataset, or there is no such folder.
        DataError: Files do not fit the dataset; all kinds of faults are told at once.
        ConflictError: Features of that name were begun or made from something else.
    """
    dataset = read_manifest(store, DATASET)
    target = features_folder(name)
    names = _find_videos(folder)
    lengths = read_lengths(store)
    found: list[Found] = []
    faults: dict[str, Fault] = {}
    with ThreadPoolExecutor(_READ_AHEAD) as pool:
        check = _Checker(folder, lengths, names)
        results = ahead(pool, check, sorted(names), _READ_AHEAD)
        for done, (video, result) in enumerate(zip(sorted(names), results, strict=True), 1):
            if isinstance(result, Fault):
                faults[video] = result
            else:
                found.append(result)
            context.progress(done, 2 * len(names))
    faults |= _odd_dims(found)
    if faults:
        raise _describe(folder, faults, len(names))
    dtype = FLOAT16 if all(of.dtype == FLOAT16 for of in found) else "float32"
    digest = hash_json([[of.video, *of.digests] for of in found])
    plan = {"imported": digest, "dtype": dtype}
    stage = Stage(store, target, "features", plan, {DATASET: dataset.digest()}, context.overwrite)
    if stage.finished is not None:
        return stage.finished
    if without := sorted(set(lengths) - set(names)):
        context.on_note(
            f"{len(without):,} of the dataset's {len(lengths):,} videos have no features here,"
            f" {without[0]} the first: they count as missing."
        )
    parts = []
    for part, videos in _parts(stage, folder, names, found, dtype):
        parts.append(part)
        context.progress(len(names) + videos, 2 * len(names))
    counts = {"rows": sum(of.rows for of in found), "dim": found[0].dim, "videos": len(found)}
    return stage.finish(parts, counts, notes={"without": without} if without else None)


def read_lengths(store: Store) -> dict[str, Length]:
    """The lengths of the dataset's videos, by annotation lines and last crops.

    An annotation usually has a line more than the video has frames, and may lack some.
    """
    lines: dict[str, list[int]] = {}
    for task in Task:
        for name, of in load_labels(store, task).items():
            lines.setdefault(name, []).append(len(of.valid))
    last: dict[str, int] = {}
    files = files_of(store, DATASET)
    for file in frames_files(files.entries):
        table = files.parse_table(file, partial(read_shard, columns=["video", "frame"]))
        if table.num_rows:
            videos, codes = codes_of(table["video"])
            frames = np.zeros(len(videos), dtype=np.int64)
            np.maximum.at(frames, codes, table["frame"].to_numpy())
            for name, frame in zip(videos, frames.tolist(), strict=True):
                last[name] = max(last.get(name, 0), frame)
    return {
        name: Length(
            least=last.get(name) or min(lines[name]) - 1,
            most=max([last.get(name, 0), *lines.get(name, [])]) + 1,
        )
        for name in {*lines, *last}
    }


def _find_videos(folder: RawFolder) -> dict[str, tuple[str, ...]]:
    """The files of each video: of its features, and of its frames if there is such a file."""
    if trouble := folder.trouble():
        raise NotThereError(
            f"{folder.typed} {trouble}.", f"a folder with {FILES}", "Correct the folder's name."
        )
    names = [e.name for e in folder.entries() if not e.name.startswith(".")]
    files = {name for name in names if name.endswith(_VALUES)}
    frames = {name.removesuffix(_FRAMES) for name in files if name.endswith(_FRAMES)}
    videos = {name.removesuffix(_VALUES) for name in files if not name.endswith(_FRAMES)}
    if not videos:
        raise DataError(
            f"{folder.typed} holds no VIDEO.npy; it holds {len(names):,} other files and folders.",
            FILES,
            "Give the folder in which the files lie directly.",
        )
    if alone := sorted(frames - videos):
        raise DataError(
            f"{len(alone):,} files of frames have no features beside them,"
            f" {printable(alone[0])}{_FRAMES} the first.",
            FILES,
            "Add the features, or take the files away.",
        )
    return {
        name: (f"{name}{_VALUES}", *([f"{name}{_FRAMES}"] if name in frames else []))
        for name in videos
    }


@dataclass(frozen=True)
class _Checker:
    """Checks one video at a time, in threads."""

    folder: RawFolder
    lengths: dict[str, Length]
    names: dict[str, tuple[str, ...]]

    def __call__(self, video: str) -> Found | Fault:
        try:
            if video not in self.lengths:
                raise _Refused("are not in the dataset", "no annotation and no crop has this name")
            contents = [_read(self.folder, name) for name in self.names[video]]
            values, frames = _arrays(contents)
            self._check(values, frames, len(contents) > 1, self.lengths[video])
        except _Refused as refused:
            return Fault(*refused.args)
        rows, dim = values.shape
        return Found(video, rows, dim, values.dtype.name, _digests(contents))

    @staticmethod
    def _check(
        values: NDArray[Any], frames: NDArray[np.int64], numbered: bool, length: Length
    ) -> None:
        rows, last = len(values), int(frames[-1])
        if last > length.most:
            raise _Refused(
                "have rows beyond the last frame",
                f"frame {last:,}; its last line or crop is of frame {length.most - 1:,}",
            )
        if not numbered and rows < length.least:
            raise _Refused(
                "have fewer rows than frames", f"frame {rows + 1:,} has none of {length.least:,}"
            )
        finite = np.isfinite(_as_float32(values)).all(axis=1)
        if not finite.all():
            frame = int(frames[finite.argmin()])
            raise _Refused(
                "have values that are not finite (inf, NaN, or beyond float32)",
                f"at frame {frame:,}",
            )


def _digests(contents: list[bytes]) -> tuple[str, ...]:
    return tuple(hashlib.sha256(data).hexdigest() for data in contents)


def _read(folder: RawFolder, name: str) -> bytes:
    try:
        return folder.read(name, MOST_BYTES)
    except OSError as error:
        why = error.strerror or str(error)
        raise _Refused("can't be read", f"{printable(name)}: {why}") from None


def _arrays(contents: list[bytes]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Features `(rows, dim)` and the 1-based frame of each row."""
    values = parse_npy(contents[0])
    if values.ndim != 2 or values.dtype.name not in _DTYPES:
        raise _Refused("hold other arrays", f"{values.dtype.name} {values.shape}")
    if not values.size:
        raise _Refused("are empty", f"{values.shape}")
    if len(contents) == 1:
        return values, np.arange(1, len(values) + 1)
    frames = parse_npy(contents[1])
    if frames.shape != (len(values),) or frames.dtype.kind not in "iu":
        raise _Refused(
            "have other frames than an integer per row",
            f"{frames.dtype.name} {frames.shape} for {len(values):,} rows",
        )
    if frames[0] < 1 or not (frames[1:] > frames[:-1]).all():
        wrong = 0 if frames[0] < 1 else int(np.argmin(frames[1:] > frames[:-1])) + 1
        raise _Refused(
            "have frames that do not ascend from 1", f"frame {frames[wrong]} in row {wrong + 1}"
        )
    return values, np.minimum(frames, np.int64(2**31 - 1)).astype(np.int64)


def parse_npy(data: bytes) -> NDArray[Any]:
    """The array of a .npy file, a view of its bytes; nothing in it is unpickled."""
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0
        if version != (1, 0):
            read = np.lib.format.read_array_header_2_0
        shape, by_columns, dtype = read(stream)
    except Exception as error:
        # NumPy reads a header by Python's tokenizer, whose errors are of many classes.
        raise _Refused("are no .npy", f"{type(error).__name__}: {error}") from None
    rest, count = len(data) - stream.tell(), math.prod(shape)
    if dtype.kind not in "fiu" or min(shape, default=0) < 0 or rest != count * dtype.itemsize:
        held = f"{size_text(rest)} for {dtype.name} {shape}"
        raise _Refused("hold no whole array of numbers", held)
    if not count:
        return np.empty(shape, dtype)
    flat = np.frombuffer(data, dtype, offset=stream.tell())
    return flat.reshape(shape, order="F" if by_columns else "C")


def _as_float32(values: NDArray[Any]) -> NDArray[Any]:
    with np.errstate(over="ignore"):
        return values if values.dtype.name == FLOAT16 else values.astype(np.float32)


def _odd_dims(found: list[Found]) -> dict[str, Fault]:
    """The videos that have another number of features than most."""
    if not found:
        return {}
    usual, count = Counter(of.dim for of in found).most_common(1)[0]
    return {
        of.video: Fault("have another number of features", f"{of.dim:,}; {count:,} have {usual:,}")
        for of in found
        if of.dim != usual
    }


def _describe(folder: RawFolder, faults: dict[str, Fault], total: int) -> DataError:
    kinds = Counter(fault.kind for fault in faults.values())
    first = {faults[video].kind: video for video in sorted(faults, reverse=True)}
    lines = [
        f"  {count:,} {kind}: {printable(first[kind])} the first, {faults[first[kind]].detail}"
        for kind, count in kinds.most_common()
    ]
    return DataError(
        f"{len(faults):,} of {total:,} videos in {folder.typed} can't be imported:\n"
        + "\n".join(lines),
        f"{FILES}, as many in each; a row for each frame up to the video's last crop, and at most"
        f" one beyond the last annotation line; or VIDEO{_FRAMES} with ascending 1-based frames",
        "Correct or take away these files, then run the command again. Nothing was written.",
    )


def _parts(
    stage: Stage,
    folder: RawFolder,
    names: dict[str, tuple[str, ...]],
    found: list[Found],
    dtype: str,
) -> Iterator[tuple[StagePart, int]]:
    """Each shard, kept or written, and the number of videos that are then done."""
    width = found[0].dim * np.dtype(dtype).itemsize
    ends = list(accumulate(of.rows * width for of in found))
    kept = stage.parts()
    done = 0
    shards = groupby(zip(found, ends, strict=True), lambda pair: (pair[1] - 1) // SHARD_BYTES)
    for number, (_, pairs) in enumerate(shards):
        videos = [of for of, _ in pairs]
        name = f"{number:05d}.parquet"
        facts = {
            "rows": sum(of.rows for of in videos),
            "videos": [of.video for of in videos],
            "code": code_digest("features"),
        }
        part = kept.get(name)
        if part is None or part.facts != facts:
            part = stage.write_part(name, _shard(folder, names, videos, dtype), facts)
        done += len(videos)
        yield part, done


def _shard(
    folder: RawFolder, names: dict[str, tuple[str, ...]], videos: list[Found], dtype: str
) -> bytes:
    values = np.empty((sum(of.rows for of in videos), videos[0].dim), dtype)
    frames = np.empty(len(values), np.int32)
    start = 0
    for of in videos:
        try:
            contents = [_read(folder, name) for name in names[of.video]]
        except _Refused:
            contents = []
        if _digests(contents) != of.digests:
            raise DataError(
                f"{printable(of.video)}{_VALUES} was changed while it was imported.",
                "files that nobody writes to",
                "Run the command again when they are finished.",
            )
        rows = slice(start, start + of.rows)
        values[rows], frames[rows] = _arrays(contents)
        start += of.rows
    owners = [of.video for of in videos for _ in range(of.rows)]
    return to_parquet(owners, frames, values, dtype)
