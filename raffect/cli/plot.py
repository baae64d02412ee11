"""Curves in a terminal, drawn in Braille characters of 4 x 2 dots."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.text import Text

COLOURS = ("cyan", "yellow", "magenta", "green", "red", "blue")
"""Of the curves, in their order; a terminal's theme keeps its own colours readable."""
_BLANK = 0x2800
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))


@dataclass(frozen=True)
class Curve:
    """A step function: each value holds from its x to the next, the last one until `end`.

    Points are pairs of x and y by rising x.
    """

    name: str
    points: Sequence[tuple[float, float]]
    end: float


def draw_steps(
    curves: Sequence[Curve],
    width: int,
    height: int,
    x_text: Callable[[float], str],
    y_text: Callable[[float], str],
) -> Text:
    """A chart with the bounds of its axes and a legend; at least one curve has a point.

    `width` is that of everything, in columns; `height` that of the curves alone, in lines.
    """
    values = [y for curve in curves for _, y in curve.points]
    low, high = min(values), max(values)
    right = max(curve.end for curve in curves) or 1.0
    labels = {0: y_text(high), height - 1: y_text(low)}
    margin = max(map(len, labels.values())) + 2
    grid = _Grid(width - margin, height)
    for index, curve in enumerate(curves):
        _trace(grid, index, curve, right, low, high)
    chart = Text()
    for line in range(height):
        chart.append(f"{labels.get(line, ''):>{margin - 2}} │", style="dim")
        chart.append_text(grid.line(line)).append("\n")
    end = x_text(right)
    chart.append(f"{'':{margin - 1}}└{'─' * grid.width}\n", style="dim")
    chart.append(f"{'':{margin}}0{end:>{grid.width - 1}}\n", style="dim")
    for index, curve in enumerate(curves):
        chart.append(f"{'':{margin}}━━ ", style=_colour(index)).append(f"{curve.name}\n")
    chart.rstrip()
    return chart


class _Grid:
    """Characters: the dots of each, and the curve that was drawn through it last."""

    def __init__(self, width: int, height: int) -> None:
        self.width = width
        self.height = height
        self._dots = [[0] * width for _ in range(height)]
        self._owner = [[0] * width for _ in range(height)]

    def dot(self, x: int, y: int, owner: int) -> None:
        """Set a dot; x and y count dots from the top left."""
        column, line = x // 2, y // 4
        self._dots[line][column] |= _DOTS[y % 4][x % 2]
        self._owner[line][column] = owner

    def line(self, number: int) -> Text:
        """One line of the chart."""
        text = Text()
        for dots, owner in zip(self._dots[number], self._owner[number], strict=True):
            text.append(chr(_BLANK + dots) if dots else " ", style=_colour(owner))
        return text


def _trace(grid: _Grid, owner: int, curve: Curve, right: float, low: float, high: float) -> None:
    columns, lines = 2 * grid.width - 1, 4 * grid.height - 1
    ends = [*(x for x, _ in curve.points), curve.end][1:]
    before: int | None = None
    for (x, y), end in zip(curve.points, ends, strict=True):
        level = round(lines * (1 - (y - low) / (high - low))) if high > low else lines // 2
        first, last = round(columns * x / right), round(columns * end / right)
        before = level if before is None else before
        for between in range(min(level, before), max(level, before)):
            grid.dot(first, between, owner)
        for at in range(first, last + 1):
            grid.dot(at, level, owner)
        before = level


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]
