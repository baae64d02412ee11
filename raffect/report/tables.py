"""Tables: the numbers behind the figures, as CSV files and as the page's only copy of them.

Figures of many points hold no numbers of their own. Their traces name columns of a table, and
the page's script (report.js) fills them in, so that what is drawn is what the CSV file says.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from raffect.affwild2.csvfile import written_whole

Cell = str | int | float | bool | None
Ranges = list[list[int]]
"""Runs of rows, `[start, stop]` each."""
Columns = Mapping[str, str | Sequence[str | None]]
"""By property of a trace the column that fills it; for `customdata` and `z` several columns, where
None is a row of gaps."""


@dataclass(frozen=True)
class Table:
    """Columns with different names, and their rows; a cell that is None is an empty field."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    @property
    def file(self) -> str:
        """Name of the CSV file."""
        return f"{self.name}.csv"

    def column(self, name: str) -> list[Cell]:
        """The cells of one column."""
        index = self.columns.index(name)
        return [row[index] for row in self.rows]

    def by_column(self) -> dict[str, list[Cell]]:
        """All columns by name, as the page holds them."""
        return {name: self.column(name) for name in self.columns}

    def csv(self) -> str:
        """The table as CSV with a header; numbers keep all of their digits."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(
            [str(cell).lower() if isinstance(cell, bool) else cell for cell in row]
            for row in self.rows
        )
        return out.getvalue()


def table(name: str, columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> Table:
    """A table of plain cells: numbers that are not finite become empty fields."""
    plain = tuple(
        tuple(None if isinstance(c, float) and not math.isfinite(c) else c for c in row)
        for row in rows
    )
    assert all(len(row) == len(columns) for row in plain), name
    return Table(name, tuple(columns), plain)


def rounded(value: float | None, digits: int) -> float | None:
    """A number in few characters: a page holds many thousands. None if it is not finite."""
    return None if value is None or not math.isfinite(value) else round(float(value), digits)


def ranges(indices: Iterable[int]) -> Ranges:
    """Row numbers as runs of consecutive ones, in the same order."""
    found: Ranges = []
    for index in indices:
        if found and found[-1][1] == index:
            found[-1][1] += 1
        else:
            found.append([index, index + 1])
    return found


def from_table(
    source: Table, columns: Columns, rows: Ranges, gaps: bool = False
) -> dict[str, object]:
    """What a trace holds in place of its numbers.

    With `gaps` the line has a gap between one run of rows and the next.
    """
    for of in columns.values():
        assert (
            {of} <= {*source.columns} if isinstance(of, str) else {*of} <= {*source.columns, None}
        )
    reference: dict[str, object] = {"table": source.name, "columns": columns, "rows": rows}
    return reference | ({"gaps": True} if gaps else {})


def write_whole(out: Path, text: str) -> Path:
    """Write a local file whole or not at all; a DataError where it can't be written."""
    with written_whole(out) as file:
        file.write(text)
    return out
