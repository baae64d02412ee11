"""Curves as a picture, by Matplotlib."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from raffect.affwild2.csvfile import whole_file
from raffect.affwild2.tasks import Task
from raffect.predict.curves import ACTION_UNITS, COLOURS, SLOTS, ModelCurves, PersonCurves
from raffect.requirements import require
from raffect.text import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

_WIDTH = 12.0
_LEFT = 0.95
"""Inches of the column at the left: the model's name, and ticks."""
_SIDE = 2.7
"""Inches of the column at the right: circumplex, names of bands."""
_HEIGHTS = {Task.VA: 2.5, Task.EXPR: 2.1, Task.AU: 2.7}
_STRIP = 0.66
_PERSON = 0.75
"""Inches of a person's title and time axis."""
_INK, _MUTED, _LINE, _GAP = "#18202b", "#5a6676", "#e1e5eb", "#8b96a5"


def write_png(path: Path, title: str, persons: Sequence[PersonCurves], note: str = "") -> None:
    """Draw the curves of a video's persons, one below the other.

    Raises:
        DataError: The file can't be written.
        NotThereError: The extra `video` is not installed.
    """
    require("video", "matplotlib", "Drawing a plot")
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    heights = [_PERSON + _STRIP + sum(_HEIGHTS[of.task] for of in one.models) for one in persons]
    with rc_context(
        {
            "font.size": 9, "axes.edgecolor": _LINE, "axes.labelcolor": _MUTED,
            "xtick.color": _MUTED, "ytick.color": _MUTED, "text.color": _INK,
            "font.family": ["DejaVu Sans"], "text.parse_math": False,
        }
    ):  # fmt: skip
        figure = Figure(figsize=(_WIDTH, sum(heights) + 0.5), facecolor="white")
        figure.suptitle(printable(title), x=0.012, ha="left", fontsize=12, fontweight="bold",
                        y=1 - 0.1 / figure.get_figheight())  # fmt: skip
        if note:
            figure.text(0.988, 1 - 0.25 / figure.get_figheight(), note, ha="right", color=_MUTED)
        total = figure.get_figheight()
        below = total - 0.4
        for person, height in zip(persons, heights, strict=True):
            below -= height
            _draw_person(figure, person, below, total)
        with whole_file(path) as file, warnings.catch_warnings():
            # It warns of letters that its font lacks; they become boxes.
            warnings.simplefilter("ignore")
            # Without Matplotlib's name and version: the same numbers give the same bytes.
            figure.savefig(file, format="png", dpi=110, metadata={"Software": None})


def _draw_person(figure: Figure, person: PersonCurves, below: float, total: float) -> None:
    left, width = _LEFT / _WIDTH, (_WIDTH - _LEFT - _SIDE - 0.1) / _WIDTH
    bottom = below + 0.42
    for number, of in enumerate(reversed(person.models)):
        height = _HEIGHTS[of.task]
        place = (left, (bottom + 0.07) / total, width, (height - 0.14) / total)
        axes = figure.add_axes(place)
        side = (left + width, bottom / total, _SIDE / _WIDTH, height / total)
        _DRAW[of.task](figure, axes, side, person, of)
        _over_time(axes, person, named=number == 0)
        axes.set_ylabel(printable(of.name)[-24:], fontweight="bold", color=_INK)
        axes.yaxis.set_label_coords((0.22 - _LEFT) / (width * _WIDTH), 0.5)
        bottom += height
    strip = figure.add_axes((left, bottom / total, width, _STRIP / total))
    strip.set_xlim(0, SLOTS)
    strip.set_ylim(0, 1)
    strip.axis("off")
    slot = width * _WIDTH / SLOTS
    half = 0.97 * min(1.0, _STRIP / slot) / 2
    for place_, pixels in person.thumbnails.items():
        middle = place_ + 0.5
        high = 2 * half * slot / _STRIP
        strip.imshow(pixels, extent=(middle - half, middle + half, 0, high), aspect="auto")
    strip.set_xlim(0, SLOTS)
    strip.set_ylim(0, 1)
    figure.text(0.012, (bottom + _STRIP + 0.1) / total, person.title, fontweight="bold")


def _over_time(axes: Axes, person: PersonCurves, named: bool) -> None:
    axes.set_xlim(person.start, person.end)
    for start, end in person.gaps:
        axes.axvspan(start, end, color=_GAP, alpha=0.35, linewidth=0)
    axes.tick_params(length=0, labelbottom=named)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if named:
        means = f" (means of {person.step} frames)" if person.step > 1 else ""
        axes.set_xlabel(
            f"seconds{means}; grey: no face found" if person.gaps else f"seconds{means}"
        )


Place = tuple[float, float, float, float]


def _draw_va(
    figure: Figure | SubFigure, axes: Axes, side: Place, person: PersonCurves, of: ModelCurves
) -> None:
    axes.grid(axis="y", color=_LINE, linewidth=0.6)
    for at, name in enumerate(of.columns):
        axes.plot(person.times, of.values[:, at], color=COLOURS[name], linewidth=1.4, label=name)
    axes.set_ylim(-1.05, 1.05)
    axes.set_yticks([-1, -0.5, 0, 0.5, 1])
    axes.legend(loc="upper left", ncols=2, fontsize=8, borderaxespad=0.1, edgecolor="none")
    left, bottom, width, height = side
    circle = figure.add_axes(
        (left + 0.1 * width, bottom + 0.09 * height, 0.9 * width, 0.82 * height)
    )
    angles = np.linspace(0, 2 * np.pi, 200)
    circle.plot(np.cos(angles), np.sin(angles), color=_GAP, linewidth=0.8)
    for line in (circle.axhline, circle.axvline):
        line(0, color=_LINE, linewidth=0.8)
    valence, arousal = of.values.T
    circle.plot(valence, arousal, color=_LINE, linewidth=0.6)
    circle.scatter(valence, arousal, c=person.times, cmap="viridis", s=5, linewidths=0)
    for at, shape in ((0, "o"), (-1, "s")):
        circle.plot(valence[at], arousal[at], shape, ms=6, mfc="white", mec=_INK)
    circle.set_xlim(-1.08, 1.08)
    circle.set_ylim(-1.08, 1.08)
    circle.set_aspect("equal")
    circle.set_xticks([])
    circle.set_yticks([])
    circle.set_xlabel("valence", fontsize=8, labelpad=1)
    circle.set_ylabel("arousal", fontsize=8, labelpad=1)
    circle.set_title("○ start, □ end; dark to light: time", fontsize=7, color=_MUTED, pad=2)
    for spine in circle.spines.values():
        spine.set_visible(False)


def _draw_expr(
    figure: Figure | SubFigure, axes: Axes, side: Place, person: PersonCurves, of: ModelCurves
) -> None:
    shades = [COLOURS[name] for name in of.columns]
    bands = axes.stackplot(person.times, of.values.T, colors=shades, labels=of.columns, lw=0)
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 0.5, 1])
    # From the top down, as the bands lie.
    axes.legend(bands[::-1], of.columns[::-1], loc="center left", bbox_to_anchor=(1.01, 0.5),
                frameon=False, fontsize=8, handlelength=1, labelspacing=0.35)  # fmt: skip


def _draw_au(
    figure: Figure | SubFigure, axes: Axes, side: Place, person: PersonCurves, of: ModelCurves
) -> None:
    rows = len(of.columns)
    steps = np.append(person.times, person.end)
    image = axes.pcolormesh(
        steps, np.arange(rows + 1), of.values.T, cmap="Blues", vmin=0, vmax=1, rasterized=True
    )
    axes.set_ylim(rows, 0)
    axes.set_yticks(np.arange(rows) + 0.5, of.columns)
    for at, name in enumerate(of.columns):
        axes.text(1.008, 1 - (at + 0.5) / rows, ACTION_UNITS[name], transform=axes.transAxes,
                  va="center", fontsize=8, color=_MUTED)  # fmt: skip
    left, bottom, width, height = side
    bar = figure.add_axes(
        (left + 0.72 * width, bottom + 0.12 * height, 0.04 * width, 0.76 * height)
    )
    figure.colorbar(image, cax=bar, ticks=[0, 0.5, 1]).outline.set_visible(False)
    bar.tick_params(length=0, labelsize=7)
    bar.set_title("probability", fontsize=7, color=_MUTED, pad=8)


_DRAW = {Task.VA: _draw_va, Task.EXPR: _draw_expr, Task.AU: _draw_au}
