"""Annotation files as the organisers ship them: their places and their content.

Line 1 is a header, data line i belongs to image i (usually one line more than there are images).
"""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raffect.affwild2.csvfile import CsvFile, quote, read_csv, wrong_lines
from raffect.affwild2.labels import VideoLabels
from raffect.affwild2.scan import check_root
from raffect.affwild2.tasks import SPECS, SPLIT_FOLDERS, Split, Task
from raffect.errors import DataError
from raffect.store.raw import RawFolder

_CORRECT = "Correct the file, or take it from the organisers' archive again."
_FLOAT = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_INTEGER = re.compile(r"[+-]?[0-9]+")
_ALLOWED = {
    Task.VA: "valence,arousal: two numbers from -1 to 1, or -5 where a frame is invalid",
    Task.EXPR: "one integer: "
    + ", ".join(f"{i} {name}" for i, name in enumerate(SPECS[Task.EXPR].columns))
    + ", or -1 where a frame is invalid",
    Task.AU: "twelve integers, each 0 or 1, or -1 where it is invalid",
}


@dataclass(frozen=True)
class AnnotationFile:
    """One annotation file, and what its place in the tree says about it."""

    task: Task
    split: Split
    video: str
    path: Path


def read_annotation(path: Path, task: Task) -> NDArray[np.float32]:
    """The labels `(lines, label_width)` of a file, invalid ones included; row i is frame i + 1.

    Raises:
        DataError: The header or a line is not what the task demands; at most ten are listed.
    """
    what = f"an annotation file of {task.value}"
    file = read_csv(path, what, "Check --annotations and the file's permissions.")
    file.check(SPECS[task].header, "frames", _ALLOWED[task], _CORRECT)
    values = _read_fast(file, task)
    return (_read_slow(file, task) if values is None else values).astype(np.float32)


def _read_fast(file: CsvFile, task: Task) -> NDArray[np.float64] | None:
    """The values; None if any line needs a closer look."""
    if not file.has_only_numbers():
        return None
    spec = SPECS[task]
    kind = pa.float64() if task is Task.VA else pa.int8()
    table = file.parse(dict.fromkeys(spec.label_columns, kind))
    if table is None:
        return None
    values = np.stack([column.to_numpy() for column in table.columns], axis=1)
    return values.astype(np.float64) if np.all(_allowed(values, task)) else None


def _allowed(values: NDArray[np.generic], task: Task) -> NDArray[np.bool_]:
    """Which values the task allows; NaN is not allowed."""
    spec = SPECS[task]
    low, high = {Task.VA: (-1, 1), Task.EXPR: (0, len(spec.columns) - 1), Task.AU: (0, 1)}[task]
    inside: NDArray[np.bool_] = (values >= low) & (values <= high) | (values == spec.invalid)  # type: ignore[operator]
    return inside


def _read_slow(file: CsvFile, task: Task) -> NDArray[np.float64]:
    rows: list[list[float]] = []
    problems: list[str] = []
    for number, line in file.lines():
        row = _read_line(line, task)
        if isinstance(row, str):
            problems.append(f"line {number}: {row}")
        else:
            rows.append(row)
    if problems:
        raise wrong_lines(file.path, problems, _ALLOWED[task], _CORRECT)
    return np.array(rows, dtype=np.float64)


def _read_line(line: str, task: Task) -> list[float] | str:
    """The values of a line, or what is wrong with it."""
    width = SPECS[task].label_width
    fields = [field.strip() for field in line.split(",")]
    if not line.strip():
        return "it is blank, and frames follow"
    if len(fields) != width:
        return f"{len(fields)} values, not {width}: {quote(line)}"
    for field in fields:
        if not (_FLOAT if task is Task.VA else _INTEGER).fullmatch(field):
            kind = "a number" if task is Task.VA else "an integer"
            return f"{quote(field)} is not {kind}"
        if not math.isfinite(float(field)) or not _allowed(np.array(float(field)), task):
            return f"{quote(field)} is out of range"
    return [float(field) for field in fields]


def find_annotations(root: Path, task: Task | None = None) -> list[AnnotationFile]:
    """The annotation files below a root, of one task or of all; sorted by task and video.

    Hidden files and files other than `.txt` are ignored.

    Raises:
        DataError: There are none, or a video is annotated twice in one task.
    """
    tasks = list(Task) if task is None else [task]
    check_root(RawFolder.of(root, "--annotations"), "annotation", layout(tasks), _CHECK_ROOT)
    found: list[AnnotationFile] = []
    for each in tasks:
        of_task = [
            file
            for folder in SPECS[each].folders
            for split in Split
            for file in _list_files(root / folder / SPLIT_FOLDERS[split], each, split)
        ]
        _refuse_twice(of_task)
        found += sorted(of_task, key=lambda file: file.video)
    if not found:
        inside = sorted(path.name for path in root.iterdir() if not path.name.startswith("."))
        holds = f"it holds {', '.join(inside[:5])}" if inside else "it is empty"
        raise DataError(
            f"The folder {root} holds no annotation file ({holds}).", layout(tasks), _CHECK_ROOT
        )
    return found


_CHECK_ROOT = "Give --annotations the folder that the challenges' folders lie in."


def layout(tasks: Sequence[Task]) -> str:
    """Where annotation files of these tasks are expected, for messages."""
    folders = [folder for task in tasks for folder in SPECS[task].folders]
    return f"{{{','.join(folders)}}}/{{{','.join(SPLIT_FOLDERS.values())}}}/VIDEO.txt"


def _list_files(folder: Path, task: Task, split: Split) -> list[AnnotationFile]:
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.is_file()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise DataError(f"{folder} can't be listed: {error.strerror}.", layout([task])) from None
    wanted = (name for name in names if name.endswith(".txt") and not name.startswith("."))
    return [AnnotationFile(task, split, name[:-4], folder / name) for name in wanted]


def _refuse_twice(files: list[AnnotationFile]) -> None:
    first: dict[str, Path] = {}
    twice = []
    for file in files:
        if file.video in first:
            twice.append(f"  {first[file.video]}\n  {file.path}")
        first.setdefault(file.video, file.path)
    if twice:
        raise DataError(
            f"{len(twice)} videos are annotated twice for {files[0].task.value}:\n"
            + "\n".join(twice[:5]),
            "each video in one split of a task (in different splits of different tasks)",
            "Remove one of the two files.",
        )


def load_annotations(root: Path, task: Task, split: Split) -> dict[str, VideoLabels]:
    """The labels of one split of one task, by video; DataError if a file is wrong or none."""
    files = [file for file in find_annotations(root, task) if file.split is split]
    if not files:
        raise DataError(
            f"The folder {root} holds no {split.value} annotations of {task.value}.",
            f"{SPECS[task].folders[0]}/{SPLIT_FOLDERS[split]}/VIDEO.txt",
            "Give another --split or --annotations.",
        )
    return {file.video: read_labels(file) for file in files}


def read_labels(file: AnnotationFile) -> VideoLabels:
    """The labels of one annotation file; a DataError says what is wrong with it."""
    values = read_annotation(file.path, file.task)
    return VideoLabels(file.video, file.split, values, SPECS[file.task].valid(values))


def digest_annotations(files: Sequence[AnnotationFile]) -> str:
    """SHA-256 over task, split, video and content of the files, wherever the tree lies."""
    total = hashlib.sha256()
    for file in files:
        content = hashlib.sha256(file.path.read_bytes()).hexdigest()
        total.update(f"{file.task} {file.split} {file.video} {content}\n".encode())
    return total.hexdigest()
