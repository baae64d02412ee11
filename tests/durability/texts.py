"""Files and words that people hand in, mutated: each is refused, or taken for what it says.

What it says is found by readers of their own, which share no code with raffect's.
"""

from __future__ import annotations

import io
import math
import os
import random
import re
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow.parquet as pq

from raffect.affwild2.annotations import read_annotation
from raffect.affwild2.folds import parse_fold
from raffect.affwild2.predictions import VideoPredictions, header_of, read_predictions
from raffect.affwild2.submission import write_submission
from raffect.affwild2.tasks import SPECS, Task
from raffect.config import recipe
from raffect.context import Context
from raffect.settings import flatten
from raffect.store import Store
from raffect.store.features import to_array
from raffect.store.raw import RawFolder
from raffect.sweep.points import derive_points, derive_recipe
from raffect.sweep.space import load_space
from raffect.temporal.import_features import import_features
from tests.clip.clip_data import FRAMES, make_dataset
from tests.durability.mutation import Tally, WrongValueError, mutate

_NUMBER = re.compile(r"[0-9+\-.eE]+")
_LOCATION = re.compile(r"([^/]+)/([0-9]{5,9})\.jpg")
_URI = re.compile("(?s)(?:([a-zA-Z][a-zA-Z0-9+.-]*):(?://)?)?(.*)")
_ROWS = 6
Rows = list[list[str]]
Use = Callable[[bytes, Path], bool]


def run_texts(number: int, seed: int) -> dict[str, Tally]:
    """Use so many mutated texts, as many of each kind."""
    with tempfile.TemporaryDirectory(prefix="rt-") as folder, warnings.catch_warnings():
        # Of Python, about mutated spaces.
        warnings.simplefilter("ignore")
        path = Path(folder) / "given.py"
        found = kinds(Path(folder))
        for sources, use in found.values():
            for source in sources:
                path.write_bytes(source)
                assert use(source, path)
        tallies = {name: Tally() for name in found}
        for index in range(number):
            name = list(found)[index % len(found)]
            sources, use = found[name]
            rng = random.Random(f"{name}-{seed}-{index}")
            data = mutate(rng.choice(sources), rng)
            path.write_bytes(data)
            tallies[name].count(repr(data), partial(use, data, path))
    return tallies


def rows_of(data: bytes, errors: str = "strict") -> Rows | None:
    """The fields of each line but blank last ones; None where they are no text."""
    try:
        text = data.decode("utf-8-sig", errors)
    except UnicodeDecodeError:
        return None
    lines = re.split("\r\r\n|\r\n|\r|\n", text)
    while len(lines) > 1 and not lines[-1].strip(" \t"):
        lines.pop()
    return [[_unquoted(field.strip()) for field in line.split(",")] for line in lines]


def _unquoted(field: str) -> str:
    quoted = len(field) > 1 and field[0] == field[-1] == '"'
    return field[1:-1].strip() if quoted else field


def _numbers(rows: Rows, width: int) -> list[list[float]] | None:
    """All fields as numbers; None if one is none, or a row has others than `width`."""
    if any(len(row) != width for row in rows):
        return None
    if not all(_NUMBER.fullmatch(field) for row in rows for field in row):
        return None
    try:
        values = [[float(field) for field in row] for row in rows]
    except ValueError:
        return None
    return values if all(math.isfinite(value) for row in values for value in row) else None


def _agree(got: Any, wanted: Any, what: str) -> None:
    if wanted is None:
        raise WrongValueError(f"{what}: taken, although it is none")
    if got != wanted:
        raise WrongValueError(f"{what}: {got!r}\n instead of {wanted!r}")


def _annotation(task: Task) -> tuple[list[bytes], Use]:
    rng = np.random.default_rng(0)
    invalid = int(SPECS[task].invalid)
    values = {
        Task.VA: [f"{a:.3g},{b:.4g}" for a, b in rng.uniform(-1, 1, (_ROWS, 2))],
        Task.EXPR: [str(one) for one in rng.integers(0, 8, _ROWS)],
        Task.AU: [",".join(map(str, row)) for row in rng.integers(0, 2, (_ROWS, 12))],
    }[task]
    marked = ",".join([str(invalid)] * SPECS[task].label_width)
    text = "\n".join([SPECS[task].header, *values, marked]) + "\n"

    def use(data: bytes, path: Path) -> bool:
        got = read_annotation(path, task).tolist()
        rows = rows_of(data)
        _agree(got, rows and _numbers(rows[1:], SPECS[task].label_width), "labels")
        return True

    return [text.encode()], use


def _predicted(data: bytes, task: Task) -> dict[tuple[str, int], list[float]] | None:
    """What a predictions file says of each frame."""
    rows = (rows_of(data) or [])[1:]
    width = 1 if task is Task.EXPR and rows and len(rows[0]) == 2 else SPECS[task].outputs
    values = _numbers([row[1:] for row in rows], width)
    named = [_LOCATION.fullmatch(row[0]) for row in rows]
    if not values or not all(named):
        return None
    if width == 1 and SPECS[task].outputs > 1:
        values = [np.eye(SPECS[task].outputs)[int(one)].tolist() for (one,) in values]
    found = {(of[1], int(of[2])): row for of, row in zip(named, values, strict=True) if of}
    return found if len(found) == len(rows) else None


def _predictions(task: Task) -> tuple[list[bytes], Use]:
    rng = np.random.default_rng(1)
    names = [f"{video}/{frame:05d}.jpg" for video in ("a b", "ü-1") for frame in (1, 2, 40)]
    table = rng.uniform(0, 1, (len(names), SPECS[task].outputs)).round(4)
    rows = [",".join([name, *map(str, row)]) for name, row in zip(names, table, strict=True)]
    texts = ["\n".join([header_of(task), *rows]) + "\n"]
    if task is Task.EXPR:
        texts.append("\n".join([header_of(task), *(f"{n},{i}" for i, n in enumerate(names))]))

    def use(data: bytes, path: Path) -> bool:
        got = {
            (name, frame): row
            for name, of in read_predictions(path, task).items()
            for frame, row in zip(of.frames.tolist(), of.values.tolist(), strict=True)
        }
        _agree(got, _predicted(data, task), "predictions")
        return True

    return [text.encode() for text in texts], use


def _submission() -> tuple[list[bytes], Use]:
    frames = np.arange(1, _ROWS + 1, dtype=np.int32)
    values = {video: np.linspace(start, 1, 2 * _ROWS).reshape(-1, 2).round(4)
              for video, start in (("a", -1), ("b_left", 0))}  # fmt: skip
    predictions = {v: VideoPredictions(v, frames, of) for v, of in values.items()}
    names = [f"{video}/{frame:05d}.jpg" for video in values for frame in frames]
    text = "\n".join([header_of(Task.VA), *(f"{name},0,0" for name in names)]) + "\n"

    def use(data: bytes, path: Path) -> bool:
        out = path.with_name("submission.txt")
        write_submission(Task.VA, predictions, path, out)
        wanted = [
            (row[0], values[found[1]][int(found[2]) - 1].tolist())
            for row in (rows_of(data, "replace") or [])[1:]
            if (found := _LOCATION.fullmatch(row[0]))
        ]
        written = [line.split(",") for line in out.read_text().splitlines()[1:]]
        _agree([(name, [float(v), float(a)]) for name, v, a in written], wanted, "rows")
        return True

    return [text.encode()], use


def _use_fold(data: bytes, path: Path) -> bool:
    text = data.decode("utf-8", "surrogateescape")
    got = parse_fold(text)
    found = re.fullmatch("([0-9]+)/([0-9]+)", text.strip())
    _agree(tuple(got), found and (int(found[1]), int(found[2])), "fold")
    return True


def _use_uri(data: bytes, path: Path) -> bool:
    """A store's place: nothing of it is dropped, and it stays what it is when given again."""
    text = os.fsdecode(data)
    store = Store(text)
    _agree(Store(store.uri).path("k"), store.path("k"), "given again")
    # Of a folder's name blanks are a part.
    parts = _URI.fullmatch(text.strip())
    scheme, rest = (parts[1].lower(), parts[2]) if parts and parts[1] else ("", text)
    place = store.path("k").removesuffix("/k")
    if not store.is_local:
        wanted = re.sub("/+", "/", rest).rstrip("/")
        _agree((scheme, re.sub("/+", "/", place)), ("s3", wanted), "bucket and prefix")
        return True
    if scheme:
        rest = unquote(rest.removeprefix("localhost"), errors="surrogateescape")
    _agree(_real(place), _real(rest), "folder")
    return True


def _real(folder: str) -> str:
    return os.path.realpath(os.path.expanduser(folder))  # noqa: PTH111


_SPACE = b'''"""Words."""
from tune_spaces.common import SHALLOW

TRIALS = 7
POINTS = [{"optimiser.lr": 1e-4}, {"losses.mse_share": 0.25}]


def space(trial):
    lr = trial.suggest_float("optimiser.lr", 1e-5, 1e-2, log=True)
    share = trial.suggest_float("losses.mse_share", 0.0, 0.5)
    depth = trial.suggest_int("model.tcn.depth", 1, 4)
    loss = trial.suggest_categorical("model.transformer.layers", [0, 2, 8])
    return {"optimiser.lr": lr, "losses.mse_share": share, "model.tcn.depth": depth,
            "model.transformer.layers": loss}
'''


class _Fixed:
    """An Optuna trial whose parameters are known."""

    def __init__(self, params: dict[str, Any]) -> None:
        self._params = params

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda key, *others, **options: self._params[key]


def _use_space(data: bytes, path: Path) -> bool:
    """The recipe and the points, as a sweep begins; then the file is run without raffect."""
    base = recipe(Task.VA)
    space = load_space(str(path))
    found = derive_recipe(space, base)
    points = derive_points(space, base)
    told: dict[str, Any] = {}
    exec(compile(data, str(path), "exec"), told)
    _agree(space.trials, told.get("TRIALS", 50), "TRIALS")
    own = flatten(base.canonical())
    for params, wanted in [(found.params, own)] + [
        (point.params, {**own, **changes})
        for point, changes in zip(points, told.get("POINTS", ()), strict=True)
    ]:
        for key, value in told["space"](_Fixed(params)).items():
            _agree(value, wanted.get(key), key)
    return True


def _arrays(folder: Path) -> tuple[list[bytes], Use]:
    """The features of one video, imported beside the others' whole ones."""
    store = Store(str(folder / "store"))
    make_dataset(store, shards=1)
    place = folder / "arrays"
    place.mkdir()
    rng = np.random.default_rng(2)
    for video in ("v00", "v01", "v02"):
        np.save(place / f"{video}.npy", rng.normal(size=(FRAMES, 4)).astype(np.float32))
    given = place / "v00.npy"

    def use(data: bytes, path: Path) -> bool:
        given.write_bytes(data)
        import_features(store, RawFolder.of(place, "DIR"), "new", Context(overwrite=True))
        table = pq.read_table(store.path("features/new/00000.parquet"))
        own = np.array(table["video"].to_pylist()) == given.stem
        wanted = np.load(io.BytesIO(data), allow_pickle=False).astype(np.float32)
        _agree(to_array(table)[own].tolist(), wanted.tolist(), "features")
        return True

    return [given.read_bytes()], use


def kinds(folder: Path) -> dict[str, tuple[list[bytes], Use]]:
    """By name texts as they should be, and what takes a mutated one; `folder` is theirs."""
    uris = [b"/tmp/a/store", b"store", b"~/store", b"s3://bucket-1/a/prefix", b"s3://bucket",
            b"file:///tmp/a", b"file:a b"]  # fmt: skip
    return {
        **{f"annotations of {task.value}": _annotation(task) for task in Task},
        **{f"predictions of {task.value}": _predictions(task) for task in Task},
        "submission's example": _submission(),
        "array of features": _arrays(folder),
        "fold": ([b"1/5", b"12/100"], _use_fold),
        "store's URI": (uris, _use_uri),
        "space": ([_SPACE], _use_space),
    }
