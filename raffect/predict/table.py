"""Tables of emotions over time: a row per person and frame, as CSV or Parquet.

    [video,] frame, time, person, face, confidence, VALUES ..., left, top, right, bottom

A person's rows go from the first to the last frame in which its face was found, one after the
other; persons follow in their order. `face` says whether it was found in the frame itself: where
it is false, the values are what the model predicts for a frame without a crop, as in training, and
confidence and box are empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from raffect.affwild2.csvfile import whole_file, written_whole
from raffect.errors import SettingsError
from raffect.predict.chosen import Chosen
from raffect.predict.encoders import join_sets
from raffect.predict.persons import Person, Persons
from raffect.temporal.inference import predict_features
from raffect.text import printable

BOX = ("left", "top", "right", "bottom")
SUFFIXES = (".csv", ".parquet")
_BEFORE = {
    "frame": pa.int32(),
    "time": pa.float64(),
    "person": pa.int32(),
    "face": pa.bool_(),
    "confidence": pa.float32(),
}
VALUES_AT = len(_BEFORE)
"""The column of the first value, where no column `video` is before it."""
_FORMATS = {"frame": "%d", "time": "%.6f", "person": "%d", "confidence": "%.4f"}
_FORMATS |= dict.fromkeys(BOX, "%.2f")
_VALUE = "%.9g"
"""Restores a float32."""
_ROWS = 10_000


def check_suffix(path: Path, option: str, allowed: Sequence[str]) -> None:
    """Raise SettingsError if the name of an output does not say one of these formats."""
    if path.suffix.lower() not in allowed:
        raise SettingsError(
            f"{option} {path}: {f'the ending {path.suffix}' if path.suffix else 'no ending'}.",
            f"a file that ends in {' or '.join(allowed)}",
            "The ending says the format: give one of these.",
        )


def predict_persons(chosen: Chosen, persons: Persons) -> pa.Table:
    """The table of a video's persons; their features are given up as they are used."""
    parts = [_predict(chosen, persons, one) for _, one in sorted(persons.found.items())]
    return pa.concat_tables([schema_of(chosen).empty_table(), *parts])


def schema_of(chosen: Chosen) -> pa.Schema:
    """The table's columns."""
    values = [(column, pa.float32()) for columns in chosen.columns for column in columns]
    return pa.schema([*_BEFORE.items(), *values, *((name, pa.float32()) for name in BOX)])


def _predict(chosen: Chosen, persons: Persons, person: Person) -> pa.Table:
    frames = np.asarray(person.frames, np.int32)
    place, length = frames - frames[0], int(frames[-1] - frames[0]) + 1
    features = person.joined()
    columns: list[NDArray[np.float32]] = []
    for ensemble in chosen.ensembles:
        predictions = [
            predict_features(member, join_sets(member, features), place + 1, length)
            for member in ensemble.members
        ]
        columns += list(ensemble.average(predictions).T)
    seen = np.zeros(length, bool)
    seen[place] = True
    where = np.full((length, 5), np.nan, np.float32)
    where[place, 0] = person.confidences
    where[place, 1:] = np.asarray(person.boxes, np.float32).reshape(-1, 4)
    own = range(person.first, person.last + 1)
    missing = np.isnan(where)
    confidence, *box = (
        pa.array(where[:, at], pa.float32(), mask=missing[:, at]) for at in range(5)
    )
    cells = [
        pa.array(own, pa.int32()),
        pa.array(persons.times[person.first - 1 : person.last], pa.float64()),
        pa.array(np.full(length, person.number), pa.int32()),
        pa.array(seen),
        confidence,
        *(pa.array(values, pa.float32()) for values in columns),
        *box,
    ]
    return pa.table(cells, schema=schema_of(chosen))


def with_video(table: pa.Table, video: str) -> pa.Table:
    """The table with the video's name as its first column."""
    names = pa.array([printable(video)] * len(table), pa.string())
    return table.add_column(0, "video", names)


def write_tables(out: Path, schema: pa.Schema, tables: Iterable[pa.Table]) -> int:
    """Write tables one after the other as one file, whole or not at all; returns the rows.

    Raises:
        DataError: It can't be written.
    """
    rows = 0
    if out.suffix.lower() == ".parquet":
        with whole_file(out) as path, pq.ParquetWriter(path, schema) as writer:
            for table in tables:
                writer.write_table(table)
                rows += len(table)
        return rows
    with written_whole(out) as file:
        file.write(csv_header(schema))
        for table in tables:
            rows += len(table)
            for batch in table.to_batches(_ROWS):
                file.writelines(csv_lines(batch))
    return rows


def csv_header(schema: pa.Schema) -> str:
    """The first line of such a table."""
    return ",".join(map(_quoted, schema.names)) + "\n"


def csv_lines(batch: pa.RecordBatch) -> Iterator[str]:
    """Its rows as lines."""
    columns = map(_texts, batch.schema, batch.columns)
    return (f"{','.join(row)}\n" for row in zip(*columns, strict=True))


def _texts(field: pa.Field, column: pa.Array) -> list[str]:
    values = column.to_pylist()
    if pa.types.is_string(field.type):
        return [_quoted(value) for value in values]
    if pa.types.is_boolean(field.type):
        return ["true" if value else "false" for value in values]
    form = _FORMATS.get(field.name, _VALUE)
    return ["" if value is None else form % value for value in values]


def _quoted(text: str) -> str:
    if any(character in text for character in ',"\n\r'):
        return '"' + text.replace('"', '""') + '"'
    return text
