"""Submission files: exactly the rows of the organisers' example, with our values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raffect.affwild2.csvfile import read_csv, written_whole
from raffect.affwild2.naming import LAST_FRAME
from raffect.affwild2.predictions import (
    Locations,
    VideoPredictions,
    header_of,
    read_locations,
)
from raffect.affwild2.tasks import ACTION_UNIT_THRESHOLD, SPECS, Task, image_location
from raffect.context import ignore
from raffect.errors import DataError

DECIMALS = 6
"""Decimals of valence and arousal in a submission."""
_NEXT_STEP = "Give --example the organisers' example file of this task."


def write_submission(
    task: Task,
    predictions: Mapping[str, VideoPredictions],
    example: Path,
    out: Path,
    on_note: Callable[[str], None] = ignore,
) -> int:
    """Write what the challenge takes, whole or not at all.

    Header, row names and order are those of the example, frames without a face included. VA
    values are clipped to [-1, 1] and rounded to DECIMALS, EXPR rows hold the most probable class,
    and AU rows hold 1 where the probability is at least ACTION_UNIT_THRESHOLD. Returns the number
    of rows.

    Raises:
        DataError: The example is damaged or of another task, a row has no prediction, or `out`
            can't be written.
    """
    header, names, locations = _read_example(task, example)
    values = _values_of(task, predictions, locations, example)
    if clipped := count_clipped(task, values):
        on_note(f"{clipped:,} of {values.size:,} values lie outside [-1, 1] and are clipped.")
    values = as_submitted(task, values)
    with written_whole(out) as file:
        file.write(header + "\n")
        rows = zip(names, _format(task, values), strict=True)
        file.writelines(f"{name},{text}\n" for name, text in rows)
    return len(names)


def example_lengths(task: Task, example: Path) -> dict[str, int]:
    """The videos that an example file names, with the last frame that it lists of each."""
    _, _, rows = _read_example(task, example)
    last = np.zeros(len(rows.videos), dtype=np.int64)
    np.maximum.at(last, rows.codes, rows.frames)
    if last.max() > LAST_FRAME:
        name = image_location(rows.videos[int(last.argmax())], int(last.max()))
        raise DataError(
            f"{example} asks for {name}.", f"frames up to {LAST_FRAME:,}", "Correct the example."
        )
    return dict(zip(rows.videos, last.tolist(), strict=True))


def _read_example(task: Task, path: Path) -> tuple[str, list[str], Locations]:
    """The header verbatim, the rows' names verbatim, and the frames they name."""
    allowed = f"{header_of(task)}, then a row for each frame, e.g. video/00001.jpg"
    file = read_csv(path, f"the organisers' example file of {task.value}", _NEXT_STEP)
    others = {
        header_of(other): (
            f"the example of {other.value}",
            f"Say {other.value} in place of {task.value}, or give the example of {task.value}.",
        )
        for other in Task
    }
    file.check(header_of(task), "rows", allowed, _NEXT_STEP, allowed, others)
    names = [line.partition(",")[0].strip() for _, line in file.lines()]
    column = pa.chunked_array([pa.array(names, pa.string())])
    return file.header_line, names, read_locations(path, column, [], allowed, _NEXT_STEP)


def _values_of(
    task: Task, predictions: Mapping[str, VideoPredictions], rows: Locations, example: Path
) -> NDArray[np.float64]:
    """The prediction of each row, `(rows, outputs)`."""
    values = np.full((len(rows.frames), SPECS[task].outputs), np.nan)
    for code, video in enumerate(rows.videos):
        if video in predictions:
            of_video = rows.codes == code
            values[of_video], _ = predictions[video].at(rows.frames[of_video])
    missing = np.flatnonzero(np.isnan(values).any(axis=1))
    if len(missing):
        first = [
            f"  {image_location(rows.videos[rows.codes[row]], int(rows.frames[row]))}"
            for row in missing[:5]
        ]
        raise DataError(
            f"{len(missing):,} of {len(values):,} rows of {example} have no prediction, e.g.\n"
            + "\n".join(first),
            "a prediction for every row, those without a face included",
            "Predict these videos, too, and give the whole file.",
        )
    return values


def as_submitted(task: Task, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Predictions `(frames, outputs)` as a submission holds them.

    VA values clipped and rounded, 1 for the most probable expression, 1 for active units, else 0.
    """
    if task is Task.VA:
        # + 0.0 turns -0.0 into 0.0.
        return np.asarray(np.clip(values, -1, 1).round(DECIMALS) + 0.0)
    if task is Task.EXPR:
        return np.asarray(np.eye(SPECS[task].outputs)[values.argmax(axis=1)])
    return np.asarray(values >= ACTION_UNIT_THRESHOLD, dtype=np.float64)


def count_clipped(task: Task, values: NDArray[np.float64]) -> int:
    """How many values of predictions lie outside of what a submission may hold."""
    return int((np.abs(values) > 1).sum()) if task is Task.VA else 0


def _format(task: Task, values: NDArray[np.float64]) -> Iterator[str]:
    """The text of each row's values."""
    if task is Task.VA:
        return (f"{_compact(v)},{_compact(a)}" for v, a in values.tolist())
    if task is Task.EXPR:
        return map(str, values.argmax(axis=1).tolist())
    return (",".join(map(str, row)) for row in values.astype(int).tolist())


def _compact(value: float) -> str:
    return f"{value:.{DECIMALS}f}".rstrip("0").rstrip(".")
