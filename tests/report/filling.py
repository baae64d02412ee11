"""What the page's script does with traces that name columns of a table, for tests in Python."""

from __future__ import annotations

import copy
import html
from typing import Any

Tables = dict[str, dict[str, list[Any]]]


def filled(figure: dict[str, Any], tables: Tables) -> dict[str, Any]:
    """A figure with its numbers in it."""
    return {**figure, "data": [_filled(trace, tables) for trace in figure["data"]]}


def _filled(trace: dict[str, Any], tables: Tables) -> dict[str, Any]:
    if "table" not in trace:
        return trace
    apart = ("table", "columns", "rows", "gaps")
    whole = copy.deepcopy({key: value for key, value in trace.items() if key not in apart})
    source = tables[trace["table"]]
    length = len(next(iter(source.values())))
    rows: list[int | None] = []
    for index, (start, stop) in enumerate(trace.get("rows", [[0, length]])):
        rows += [None] if trace.get("gaps") and index else []
        rows += range(start, stop)
    for path, names in trace["columns"].items():
        values: list[Any]
        if isinstance(names, list):
            values = [_column(source, name, rows) for name in names]
        else:
            values = _column(source, names, rows)
        if path == "customdata":
            values = [list(of) for of in zip(*values, strict=True)]
        *keys, last = path.split(".")
        place = whole
        for key in keys:
            place = place[key]
        place[last] = values
    return whole


def _column(source: dict[str, list[Any]], name: str | None, rows: list[int | None]) -> list[Any]:
    return [None if row is None or name is None else _safe(source[name][row]) for row in rows]


def _safe(cell: Any) -> Any:
    return html.escape(cell, quote=False) if isinstance(cell, str) else cell
