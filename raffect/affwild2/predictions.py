"""Predictions files: raffect's own CSV, and those that the challenge takes.

image_location,valence,arousal        a row per frame, "video/00001.jpg,0.5,-0.5"
image_location,Neutral,...,Other      the 8 probabilities, or (the challenge) one class 0..7
image_location,AU1,...,AU26           the 12 probabilities, or (the challenge) 0 and 1
"""

from __future__ import annotations

import heapq
import math
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raffect.affwild2.csvfile import (
    FIRST_DATA_LINE,
    CsvFile,
    quote,
    read_csv,
    refuse_lines,
    written_whole,
)
from raffect.affwild2.labels import codes_of, runs
from raffect.affwild2.tasks import SPECS, Task, image_location
from raffect.errors import DataError

LOCATION = "image_location"
_LOCATION = r"^(?P<video>[^/]+)/(?P<frame>[0-9]{5,9})\.jpg$"
_ALLOWED = {
    Task.VA: "video/00001.jpg,valence,arousal: two numbers",
    Task.EXPR: "video/00001.jpg and the 8 classes' probabilities, or one class from 0 to 7",
    Task.AU: "video/00001.jpg and 12 numbers from 0 to 1",
}
_NEXT_STEP = "Correct the file, or write it again with `raffect predict`."


@dataclass(frozen=True, eq=False)
class VideoPredictions:
    """Predictions for frames of one video.

    Attributes:
        frames: 1-based, ascending, `(frames,)`.
        values: One row per frame, `(frames, outputs)`: valence and arousal, or probabilities.
    """

    video: str
    frames: NDArray[np.int32]
    values: NDArray[np.float64]

    def at(self, frames: NDArray[np.integer]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Predictions of these frames, `(frames, outputs)`, NaN where the second is false."""
        found = np.isin(frames, self.frames)
        values = np.full((len(frames), self.values.shape[1]), np.nan)
        order = np.argsort(self.frames, kind="stable")
        values[found] = self.values[
            order[np.searchsorted(self.frames, frames[found], sorter=order)]
        ]
        return values, found


@dataclass(frozen=True, eq=False)
class Locations:
    """The frames that a file's rows name: row i is frame `frames[i]` of `videos[codes[i]]`."""

    videos: list[str]
    codes: NDArray[np.int32]
    frames: NDArray[np.int32]


def header_of(task: Task) -> str:
    """The header of a predictions file."""
    return ",".join((LOCATION, *SPECS[task].columns))


def write_predictions(path: Path, task: Task, predictions: Iterable[VideoPredictions]) -> None:
    """Write a predictions file, whole or not at all.

    A model's float32 values are written with 9 digits: they survive the round trip, the largest of
    a row and the threshold's side stay what they were, and a score of the decimals differs by less
    than 1e-8. Other float64 values are written with the 17 digits that they need.
    """
    outputs = SPECS[task].outputs
    with written_whole(path) as file:
        file.write(header_of(task) + "\n")
        for video in predictions:
            assert video.values.shape == (len(video.frames), outputs)
            assert np.isfinite(video.values).all()
            is_single = np.array_equal(video.values.astype(np.float32), video.values)
            row = "%s" + (",%.9g" if is_single else ",%.17g") * outputs + "\n"
            names = (image_location(video.video, frame) for frame in video.frames.tolist())
            rows = zip(names, video.values.tolist(), strict=True)
            file.writelines(row % (name, *values) for name, values in rows)


def read_predictions(path: Path, task: Task) -> dict[str, VideoPredictions]:
    """The predictions of a file, raffect's own or the challenge's, by video in order of names.

    A class of the challenge's EXPR files becomes a one-hot row.

    Raises:
        DataError: The file is missing, has another header, or has wrong or repeated lines.
    """
    file = read_csv(path, "a file of predictions", "Write one with `raffect predict`.")
    file.check(
        header_of(task), "rows", _ALLOWED[task], _NEXT_STEP, others=_other_headers(task, path)
    )
    # One class per row in the challenge's EXPR files, else as many values as outputs.
    first = file.body.partition(b"\n")[0]
    width = 1 if task is Task.EXPR and first.count(b",") == 1 else SPECS[task].outputs
    names = [LOCATION, *(f"value{i}" for i in range(width))]
    table = file.parse({name: pa.float64() if name != LOCATION else pa.string() for name in names})
    if table is None:
        refuse_lines(path, _explain(file, width), _ALLOWED[task], _NEXT_STEP)
        raise DataError(f"{path} can't be read as text and numbers.", _ALLOWED[task], _NEXT_STEP)
    values = np.stack([table[name].to_numpy() for name in names[1:]], axis=1)
    refused = _refuse_values(values, task, width)
    locations = read_locations(path, table[LOCATION], refused, _ALLOWED[task], _NEXT_STEP)
    if task is Task.EXPR and width == 1:
        values = np.eye(SPECS[task].outputs)[values[:, 0].astype(np.intp)]
    return _by_video(path, locations, values)


def _other_headers(task: Task, path: Path) -> dict[str, tuple[str, str]]:
    """What a file with another header is, and what to do with it (CsvFile.check)."""
    given = shlex.quote(str(path))
    others = {}
    for other in Task:
        others[SPECS[other].header] = (
            f"an annotation file of {other.value}",
            "Give a predictions file, and the root of the annotations with --annotations.",
        )
        others[header_of(other)] = (
            f"a {other.value.upper()} file",
            f"Say {other.value}, e.g. `raffect evaluate {other.value} {given} ...`, or give a file"
            f" of {task.value}.",
        )
    return others


def _explain(file: CsvFile, width: int) -> Iterator[str]:
    """What is wrong with the lines that do not parse."""
    for number, line in file.lines():
        fields = line.split(",")
        if not line.strip():
            yield f"line {number}: it is blank, and rows follow"
        elif len(fields) != width + 1:
            yield f"line {number}: {len(fields)} fields, not {width + 1}: {quote(line)}"
        elif "\ufffd" in fields[0]:
            yield f"line {number}: {quote(fields[0])} is not UTF-8"
        else:
            wrong = (field.strip() for field in fields[1:] if not _is_number(field))
            if (field := next(wrong, None)) is not None:
                yield f"line {number}: {quote(field)} is not a number"


def _is_number(field: str) -> bool:
    try:
        return math.isfinite(float(field)) and "_" not in field
    except ValueError:
        return False


def _refuse_values(
    values: NDArray[np.float64], task: Task, width: int
) -> Iterator[tuple[int, str]]:
    """Rows with values that the task does not allow, and why."""
    bad = ~np.isfinite(values)
    if task is Task.AU:
        bad |= (values < 0) | (values > 1)
    elif task is Task.EXPR and width == 1:
        bad |= ~np.isin(values, np.arange(SPECS[task].outputs))
    for row in np.flatnonzero(bad.any(axis=1)):
        yield int(row), f"{values[row][bad[row]][0]:g} is out of range"


def read_locations(
    path: Path,
    column: pa.ChunkedArray,
    refused: Iterable[tuple[int, str]],
    allowed: str,
    next_step: str,
) -> Locations:
    """The frames that a column of strings like "video/00001.jpg" names.

    Raises:
        DataError: A location is malformed or is frame 0, or there are `refused` rows: those that
            are wrong for other reasons.
    """
    parts = pc.extract_regex(pc.utf8_trim_whitespace(column), _LOCATION)
    matched = parts.is_valid().to_numpy()
    digits = pc.fill_null(pc.struct_field(parts, "frame"), "0")
    frames = pc.cast(digits, pa.int32()).to_numpy()
    wrong = (
        (int(row), f"{quote(str(column[row]))} names no frame")
        for row in np.flatnonzero(~matched | (frames == 0))
    )
    lines = heapq.merge(refused, wrong)
    problems = (f"line {row + FIRST_DATA_LINE}: {why}" for row, why in lines)
    refuse_lines(path, problems, allowed, next_step)
    videos, codes = codes_of(pc.dictionary_encode(pc.struct_field(parts, "video")))
    return Locations(videos, codes, frames)


def _by_video(
    path: Path, locations: Locations, values: NDArray[np.float64]
) -> dict[str, VideoPredictions]:
    order = np.lexsort((locations.frames, locations.codes))
    codes, frames = locations.codes[order], locations.frames[order]
    again = np.flatnonzero((np.diff(codes) == 0) & (np.diff(frames) == 0)) + 1
    again = again[np.argsort(order[again])]
    problems = (
        f"line {order[i] + FIRST_DATA_LINE}: a second row for "
        + image_location(locations.videos[codes[i]], int(frames[i]))
        for i in again
    )
    refuse_lines(path, problems, "one row for each frame", _NEXT_STEP)
    values = values[order]
    found = {}
    for start, stop in runs(codes):
        name = locations.videos[codes[start]]
        found[name] = VideoPredictions(name, frames[start:stop], values[start:stop])
    return dict(sorted(found.items()))
