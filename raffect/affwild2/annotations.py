"""Annotation files as the organisers ship them: their places and their content.

Line 1 is a header, data line i belongs to image i (usually one line more than there are images).
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raffect.affwild2.csvfile import MOST_PROBLEMS, CsvFile, quote, read_csv, refuse_lines
from raffect.affwild2.folds import choose_fold
from raffect.affwild2.labels import VideoLabels
from raffect.affwild2.naming import LAST_FRAME, Problem, ProblemKind, is_system
from raffect.affwild2.predictions import header_of
from raffect.affwild2.scan import check_root
from raffect.affwild2.tasks import SPECS, SPLIT_FOLDERS, Split, Task, name_fault, parse_fold
from raffect.errors import DataError
from raffect.store.raw import READERS, Entry, EntryKind, RawFile, RawFolder, ahead
from raffect.text import listed, printable

_CORRECT = "Correct the file, or take it from the organisers' archive again."
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_RANGES = {Task.VA: (-1, 1), Task.EXPR: (0, len(SPECS[Task.EXPR].columns) - 1), Task.AU: (0, 1)}
_MOST_BYTES = 64 * LAST_FRAME
"""A line has at most 24 bytes as the organisers write it, and 60 as other programs do."""
_FIRST_LINES = 3
"""How many problems of each file are told where several files have some."""
_ALLOWED = {
    Task.VA: "valence,arousal: two numbers from -1 to 1, or -5 where a frame is invalid",
    Task.EXPR: "one integer: "
    + ", ".join(f"{i} {name}" for i, name in enumerate(SPECS[Task.EXPR].columns))
    + ", or -1 where a frame is invalid",
    Task.AU: "twelve integers, each 0 or 1, or -1 where it is invalid",
}
_ELSEWHERE = {
    header_of(task): (
        f"a predictions file of {task.value}",
        "Give --annotations the organisers' files, and the predictions before it.",
    )
    for task in Task
} | {
    SPECS[task].header: (
        f"a {task.value.upper()} file",
        f"Files of {task.value} belong in {SPECS[task].folders[0]}; `raffect evaluate {task.value}"
        " ...` scores them.",
    )
    for task in Task
}


@dataclass(frozen=True)
class AnnotationFile:
    """One annotation file, and what its place in the tree says about it."""

    task: Task
    split: Split
    video: str
    path: RawFile


def read_annotation(path: Path | RawFile, task: Task) -> NDArray[np.float64]:
    """The labels `(lines, label_width)` of a file, invalid ones included; row i is frame i + 1.

    Each value is the float64 nearest to the decimals of the file.

    Raises:
        DataError: The header or a line is not what the task demands; at most ten are listed.
    """
    what = f"an annotation file of {task.value}"
    file = read_csv(path, what, "Check --annotations and the file's permissions.", _MOST_BYTES)
    file.check(SPECS[task].header, "frames", _ALLOWED[task], _CORRECT, others=_ELSEWHERE)
    values = _read_fast(file, task)
    return _read_slow(file, task) if values is None else values


def _read_fast(file: CsvFile, task: Task) -> NDArray[np.float64] | None:
    """The values; None if any line needs a closer look."""
    if not file.has_only_numbers():
        return None
    table = file.parse(dict.fromkeys(SPECS[task].label_columns, pa.float64()))
    if table is None:
        return None
    values = np.stack([column.to_numpy() for column in table.columns], axis=1)
    low, high = _RANGES[task]
    allowed = (values >= low) & (values <= high) | (values == SPECS[task].invalid)
    if task is not Task.VA:
        allowed &= values == np.rint(values)
    return values if allowed.all() else None


def _read_slow(file: CsvFile, task: Task) -> NDArray[np.float64]:
    rows: list[list[float]] = []

    def problems() -> Iterator[str]:
        for number, line in file.lines():
            row = _read_line(line, task)
            if isinstance(row, str):
                yield f"line {number}: {row}"
            else:
                rows.append(row)

    refuse_lines(file.path, problems(), _ALLOWED[task], _CORRECT)
    return np.array(rows, dtype=np.float64)


def _read_line(line: str, task: Task) -> list[float] | str:
    """The values of a line, or what is wrong with it."""
    spec = SPECS[task]
    low, high = _RANGES[task]
    fields = [field.strip() for field in line.split(",")]
    if not line.strip():
        return "it is blank, and frames follow"
    if len(fields) != spec.label_width:
        return f"{len(fields)} values, not {spec.label_width}: {quote(line)}"
    kind = "a number" if task is Task.VA else "an integer"
    values = []
    for field in fields:
        value = float(field) if _NUMBER.fullmatch(field) else math.nan
        if math.isnan(value) or (task is not Task.VA and value % 1):
            return f"{quote(field)} is not {kind}"
        if not low <= value <= high and value != spec.invalid:
            return f"{quote(field)} is out of range"
        values.append(value)
    return values


def find_annotations(
    typed: str | Path, task: Task | None = None, left_out: list[Problem] | None = None
) -> list[AnnotationFile]:
    """The annotation files below a root, of one task or of all; sorted by task and video.

    The root is a folder, or `s3://bucket/prefix`. Hidden files are ignored; `left_out` takes what
    else is no annotation file. Nothing is opened: what has the name of one may be a link to
    nowhere, or a video be annotated twice.

    Raises:
        DataError: There are none, or a folder can't be listed.
        StoreError: The bucket can't be listed.
    """
    root = RawFolder.of(typed, "--annotations")
    tasks = list(Task) if task is None else [task]
    check_root(root, "annotation", layout(tasks), _CHECK_ROOT)
    found: list[AnnotationFile] = []
    problems = [] if left_out is None else left_out
    inside = {entry.name: entry for entry in _list(root)}
    for each in tasks:
        of_task: list[AnnotationFile] = []
        for name in SPECS[each].folders:
            folder = root / name
            if _is_folder(inside.get(name), root, problems):
                for entry in _list(folder):
                    place = f"{root.name}/{name}/{entry.name}"
                    if entry.name not in _SPLITS:
                        problems.append(Problem(ProblemKind.NO_SPLIT, printable(place)))
                    elif _is_folder(entry, folder, problems):
                        of_task += _list_split(folder / entry.name, place, each, problems)
        found += sorted(of_task, key=lambda file: file.video)
    if not found:
        holds = f"it holds {printable(listed(list(inside)))}" if inside else "it is empty"
        of = f" of {task.value}" if task else ""
        raise DataError(
            f"The folder {root.typed} holds no annotation file{of} ({holds}).",
            layout(tasks),
            " ".join(
                [
                    _CHECK_ROOT,
                    *(
                        _SCORE.format(t.value)
                        for t in Task
                        if inside.keys() & set(SPECS[t].folders)
                    ),
                ]
            ),
        )
    return found


def _list(folder: RawFolder) -> list[Entry]:
    try:
        entries = folder.entries()
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [entry for entry in entries if not is_system(entry.name)]


def _is_folder(entry: Entry | None, parent: RawFolder, problems: list[Problem]) -> bool:
    """Whether a folder is there that has to be one; a link to nowhere is a problem."""
    if entry is not None and entry.kind is not EntryKind.FOLDER:
        kind = ProblemKind.BROKEN if entry.kind is EntryKind.BROKEN else ProblemKind.NO_SPLIT
        problems.append(Problem(kind, printable(f"{parent.name}/{entry.name}")))
    return entry is not None and entry.kind is EntryKind.FOLDER


def _list_split(
    folder: RawFolder, place: str, task: Task, problems: list[Problem]
) -> list[AnnotationFile]:
    entries = _list(folder)
    names = {entry.name for entry in entries}
    files = []
    left_out: dict[ProblemKind, list[str]] = defaultdict(list)
    for entry in entries:
        stem, ending = entry.name[:-4], entry.name[-4:].lower()
        copy = _COPY.fullmatch(stem)
        if ending != ".txt" or entry.kind is EntryKind.FOLDER:
            left_out[ProblemKind.NO_LABELS].append(entry.name)
        elif copy and f"{copy[1]}.txt" in names:
            left_out[ProblemKind.COPY].append(entry.name)
        else:
            files.append(
                AnnotationFile(task, _SPLITS[folder.name], stem, RawFile(folder, entry.name))
            )
    problems += [
        Problem(kind, printable(f"{place}/{names[0]}"), len(names))
        for kind, names in left_out.items()
    ]
    return files


_CHECK_ROOT = "Give --annotations the folder that the challenges' folders lie in."
_SCORE = "To score {0}: `raffect evaluate {0} ...`."
_SPLITS = {name: split for split, name in SPLIT_FOLDERS.items()}
_COPY = re.compile(r"(.+?)( \((\d+|copy)\)| - copy( \(\d+\))?| copy( \d+)?)", re.IGNORECASE)
"""What file managers and browsers call a second copy."""


def layout(tasks: Sequence[Task]) -> str:
    """Where annotation files of these tasks are expected, for messages."""
    folders = [folder for task in tasks for folder in SPECS[task].folders]
    return f"{{{','.join(folders)}}}/{{{','.join(SPLIT_FOLDERS.values())}}}/VIDEO.txt"


def load_annotations(
    root: str | Path, task: Task, split: Split, fold: str | None = None
) -> dict[str, VideoLabels]:
    """The labels of one split of one task, by video; DataError if a file is wrong or none.

    With a fold `i/k` the validation split is its videos, and the training split all others, of
    both folders; the folds are those of the store that was made from all three tasks' files.
    """
    if fold is not None:
        chosen = choose_fold(read_all(find_annotations(root)), task, parse_fold(fold))
        return {name: of for name, of in chosen.items() if of.split is split}
    files = find_annotations(root, task)
    if not any(file.split is split for file in files):
        raise DataError(
            f"The folder {root} holds no {split.value} annotations of {task.value}.",
            f"{SPECS[task].folders[0]}/{SPLIT_FOLDERS[split]}/VIDEO.txt",
            "Give another --split or --annotations.",
        )
    return read_all(files, split)[task]


def read_all(
    files: Sequence[AnnotationFile], split: Split | None = None
) -> dict[Task, dict[str, VideoLabels]]:
    """The labels of all files, or of those of one split, by task and video.

    Raises:
        DataError: Files are wrong, or annotate a video twice: all are counted, the first ten told.
    """
    wrong = _find_twice(files)
    labels: dict[Task, dict[str, VideoLabels]] = {task: {} for task in Task}
    wanted = [file for file in files if split in (None, file.split)]
    with ThreadPoolExecutor(READERS) as pool:
        for file, read in zip(wanted, ahead(pool, _try_labels, wanted, READERS), strict=True):
            if isinstance(read, DataError):
                wrong.append((file, read))
            else:
                labels[file.task][file.video] = read
    if len(wrong) > 1:
        raise _together(wrong)
    if wrong:
        raise wrong[0][1]
    return labels


def _try_labels(file: AnnotationFile) -> VideoLabels | DataError:
    try:
        return read_labels(file)
    except DataError as error:
        return error


def _find_twice(files: Sequence[AnnotationFile]) -> list[tuple[AnnotationFile, DataError]]:
    first: dict[tuple[Task, str], RawFile] = {}
    twice = []
    for file in files:
        before = first.setdefault((file.task, file.video), file.path)
        if before != file.path:
            found = DataError(
                f"{printable(str(file.path))} annotates a video for {file.task.value} again:\n"
                f"  {printable(str(before))}",
                "each video in one split of a task (in different splits of different tasks)",
                "Remove one of the two files.",
            )
            twice.append((file, found))
    return twice


def _together(wrong: Sequence[tuple[AnnotationFile, DataError]]) -> DataError:
    """One error that tells the first lines of the first errors."""
    lines = [f"{len(wrong):,} annotation files are wrong:"]
    for _, error in wrong[:MOST_PROBLEMS]:
        own = error.got.split("\n")
        lines += [f"  {line}" for line in own[: 1 + _FIRST_LINES]]
        if len(own) > 1 + _FIRST_LINES:
            lines.append("    ...")
    rest = Counter(f"{file.task}/{file.split}" for file, _ in wrong[MOST_PROBLEMS:])
    if rest:
        counts = ", ".join(f"{count:,} of {place}" for place, count in rest.items())
        lines.append(f"  and {rest.total():,} more: {counts}")
    return DataError(
        "\n".join(lines),
        "\n  ".join(dict.fromkeys(error.allowed for _, error in wrong)),
        "\n  ".join(dict.fromkeys(error.next_step for _, error in wrong)),
    )


def read_labels(file: AnnotationFile) -> VideoLabels:
    """The labels of one annotation file; a DataError says what is wrong with it."""
    fault = name_fault(file.video)
    if fault:
        raise DataError(
            f"{printable(str(file.path))}: no video can be called so: {fault}.",
            "names in UTF-8 without commas, line ends and outer spaces",
            "Rename the file and the video's folder of crops alike, or remove it.",
        )
    values = read_annotation(file.path, file.task)
    return VideoLabels(file.video, file.split, values, SPECS[file.task].valid(values))


def digest_annotations(files: Sequence[AnnotationFile]) -> str:
    """SHA-256 over task, split, video and content of the files, wherever the tree lies."""
    total = hashlib.sha256()
    with ThreadPoolExecutor(READERS) as pool:
        for file, content in zip(files, ahead(pool, _hash, files, READERS), strict=True):
            total.update(f"{file.task} {file.split} {file.video} {content}\n".encode())
    return total.hexdigest()


def _hash(file: AnnotationFile) -> str:
    return hashlib.sha256(file.path.read_input(_MOST_BYTES)).hexdigest()
