"""Curves as a page that needs no network, by Plotly: values are read by pointing at them."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from raffect.affwild2.csvfile import written_whole
from raffect.affwild2.tasks import Task
from raffect.predict.curves import ACTION_UNITS, COLOURS, SLOTS, ModelCurves, PersonCurves
from raffect.text import printable

Props = dict[str, object]
"""A trace, an axis or a part of the layout, in Plotly's own JSON."""
_HEIGHTS = {Task.VA: 230, Task.EXPR: 200, Task.AU: 260}
_STRIP, _PERSON, _TOP = 64, 88, 52
"""Pixels of the thumbnails, of a person's title and time axis, and of the page's title."""
_BETWEEN = 16
_RIGHT = 0.78
"""Share of the width that time takes; beside it lie circumplex and names."""
_INK, _MUTED, _LINE = "#18202b", "#5a6676", "#e1e5eb"
_BLUES = [[0, "#f7fbff"], [0.5, "#6baed6"], [1, "#08306b"]]
_DIGITS = 4


class _Drawing:
    """Traces, axes and other parts as they come; places count pixels from the top."""

    def __init__(self, height: int) -> None:
        self.height = height
        self.traces: list[Props] = []
        self.axes: Props = {}
        self.images: list[Props] = []
        self.shapes: list[Props] = []
        self.notes: list[Props] = []
        self._count = 0

    def add_axes(
        self, top: float, height: float, across: tuple[float, float], x: Props, y: Props
    ) -> str:
        """A pair of axes, which `x` and `y` change; returns their number as Plotly writes it."""
        self._count += 1
        number = "" if self._count == 1 else str(self._count)
        low = 1 - (top + height) / self.height
        shared: Props = {"zeroline": False, "showgrid": False, "ticks": "", "fixedrange": True}
        own = {"domain": [low, 1 - top / self.height], "anchor": f"x{number}"}
        self.axes[f"xaxis{number}"] = {
            **shared, "domain": [*across], "anchor": f"y{number}", **x,
        }  # fmt: skip
        self.axes[f"yaxis{number}"] = {**shared, **own, **y}
        return number

    def say(self, text: str, top: float, x: float = 0.0, **more: object) -> None:
        """A line of text."""
        self.notes.append(
            {
                "text": text, "x": x, "y": 1 - top / self.height, "xref": "paper", "yref": "paper",
                "xanchor": "left", "yanchor": "middle", "showarrow": False, **more,
            }
        )  # fmt: skip

    def figure(self) -> Props:
        """All of it."""
        layout: Props = {
            "height": self.height, "margin": {"l": 76, "r": 16, "t": 0, "b": 0},
            "paper_bgcolor": "white", "plot_bgcolor": "white", "showlegend": False,
            "font": {"family": "system-ui, sans-serif", "size": 12, "color": _MUTED},
            "hovermode": "closest", "images": self.images, "shapes": self.shapes,
            "annotations": self.notes, **self.axes,
        }  # fmt: skip
        return {"data": self.traces, "layout": layout}


def write_html(path: Path, title: str, persons: Sequence[PersonCurves], note: str = "") -> None:
    """Draw the curves of a video's persons, one below the other.

    Raises:
        DataError: The file can't be written.
    """
    from plotly.io import to_html

    heights = [
        _PERSON + _STRIP + sum(_HEIGHTS[of.task] + _BETWEEN for of in one.models)
        for one in persons
    ]
    drawing = _Drawing(_TOP + sum(heights))
    shown = html.escape(printable(title))
    drawing.say(f"<b>{shown}</b>", 24, font={"size": 18, "color": _INK})
    drawing.say(note, 24, 1.0, xanchor="right")
    top = float(_TOP)
    for person, height in zip(persons, heights, strict=True):
        _draw_person(drawing, person, top)
        top += height
    body = to_html(
        drawing.figure(), config={"displaylogo": False, "responsive": True}, full_html=False,
        include_plotlyjs=True, div_id="curves", validate=False,
    )  # fmt: skip
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{shown}</title>'
        '<meta name="viewport" content="width=device-width"></head>'
        f'<body style="margin:8px">{body}</body></html>\n'
    )
    with written_whole(path) as file:
        file.write(page)


def _draw_person(drawing: _Drawing, person: PersonCurves, top: float) -> None:
    drawing.say(f"<b>{person.title}</b>", top + 14, font={"size": 13, "color": _INK})
    top += 30
    number = drawing.add_axes(
        top, _STRIP, (0, _RIGHT),
        x={"visible": False, "range": [0, SLOTS]}, y={"visible": False, "range": [0, 1]},
    )  # fmt: skip
    # Axes without a trace are not drawn, and neither are their images.
    drawing.traces.append(
        {"type": "scatter", "x": [0], "y": [0], "opacity": 0, "hoverinfo": "skip", **_on(number)}
    )
    for slot, pixels in sorted(person.thumbnails.items()):
        drawing.images.append(
            {
                "source": _data_uri(pixels), "xref": f"x{number}", "yref": f"y{number}",
                "x": slot + 0.5, "y": 0, "sizex": 0.97, "sizey": 1, "xanchor": "center",
                "yanchor": "bottom", "sizing": "contain",
            }
        )  # fmt: skip
    top += _STRIP + 4
    for at, of in enumerate(person.models):
        last = at == len(person.models) - 1
        means = f" (means of {person.step} frames)" if person.step > 1 else ""
        why = "; grey: no face found" if person.gaps else ""
        words: Props = {"title": {"text": f"seconds{means}{why}", "standoff": 4}} if last else {}
        x: Props = {
            "range": [person.start, person.end], "showticklabels": last, **words,
        }  # fmt: skip
        number = _DRAW[of.task](drawing, person, of, top, x)
        drawing.say(
            f"<b>{html.escape(printable(of.name)[-24:])}</b>", top + _HEIGHTS[of.task] / 2, 0,
            xshift=-70, xanchor="center", textangle=-90, font={"color": _INK},
        )  # fmt: skip
        drawing.shapes += [
            {
                "type": "rect", "xref": f"x{number}", "yref": f"y{number} domain", "x0": start,
                "x1": end, "y0": 0, "y1": 1, "fillcolor": "#8b96a5", "opacity": 0.35,
                "line": {"width": 0},
            }
            for start, end in person.gaps
        ]  # fmt: skip
        top += _HEIGHTS[of.task] + _BETWEEN


def _draw_va(
    drawing: _Drawing, person: PersonCurves, of: ModelCurves, top: float, x: Props
) -> str:
    height = _HEIGHTS[Task.VA]
    number = drawing.add_axes(
        top, height, (0, _RIGHT), x=x,
        y={"range": [-1.05, 1.05], "showgrid": True, "gridcolor": _LINE, "dtick": 0.5},
    )  # fmt: skip
    times = _rounded(person.times)
    for at, name in enumerate(of.columns):
        drawing.traces.append(
            {
                "type": "scatter", "mode": "lines", "x": times, "y": _rounded(of.values[:, at]),
                "line": {"color": COLOURS[name], "width": 1.6}, **_on(number),
                "hovertemplate": f"%{{x:.2f}} s: {name} %{{y:.3f}}<extra></extra>",
            }
        )  # fmt: skip
        drawing.say(
            name, top + 10, 0.008 + 0.08 * at, font={"color": COLOURS[name]},
            bgcolor="rgba(255,255,255,0.8)",
        )  # fmt: skip
    bare: Props = {"range": [-1.1, 1.1], "showticklabels": False}
    circle = drawing.add_axes(
        top + 14, height - 30, (_RIGHT + 0.04, 1),
        x={**bare, "title": {"text": "valence", "standoff": 2}, "constrain": "domain"},
        y={**bare, "title": {"text": "arousal", "standoff": 2}, "constrain": "domain"},
    )  # fmt: skip
    drawing.axes[f"yaxis{circle}"]["scaleanchor"] = f"x{circle}"  # type: ignore[index]
    line: Props = {"color": _LINE, "width": 1}
    for ends in ((-1, 0, 1, 0), (0, -1, 0, 1)):
        drawing.shapes.append({"type": "line", "line": line, **_between(circle, ends)})
    drawing.shapes.append(
        {
            "type": "circle",
            "line": {"color": "#8b96a5", "width": 1},
            **_between(circle, (-1, -1, 1, 1)),
        }
    )
    valence, arousal = _rounded(of.values[:, 0]), _rounded(of.values[:, 1])
    drawing.traces.append(
        {
            "type": "scatter", "mode": "lines+markers", "x": valence, "y": arousal,
            "line": line, "customdata": times, **_on(circle),
            "marker": {"size": 4, "color": times, "colorscale": "Viridis"},
            "hovertemplate": "%{customdata:.2f} s: valence %{x:.3f}, arousal %{y:.3f}"
            "<extra></extra>",
        }
    )  # fmt: skip
    drawing.traces.append(
        {
            "type": "scatter", "mode": "markers", "x": [valence[0], valence[-1]],
            "y": [arousal[0], arousal[-1]], **_on(circle), "hoverinfo": "skip",
            "marker": {
                "symbol": ["circle", "square"], "size": 9, "color": "white",
                "line": {"color": _INK, "width": 1.5},
            },
        }
    )  # fmt: skip
    drawing.say("○ start, □ end; dark to light: time", top + 4, _RIGHT + 0.04, font={"size": 11})
    return number


def _draw_expr(
    drawing: _Drawing, person: PersonCurves, of: ModelCurves, top: float, x: Props
) -> str:
    height = _HEIGHTS[Task.EXPR]
    number = drawing.add_axes(top, height, (0, _RIGHT), x=x, y={"range": [0, 1], "dtick": 0.5})
    times = _rounded(person.times)
    for at, name in enumerate(of.columns):
        drawing.traces.append(
            {
                "type": "scatter", "mode": "none", "x": times, "y": _rounded(of.values[:, at]),
                "stackgroup": f"of{number}", "fillcolor": COLOURS[name], **_on(number),
                "hovertemplate": f"%{{x:.2f}} s: {name} %{{y:.3f}}<extra></extra>",
            }
        )  # fmt: skip
        # From the top down, as the bands lie.
        row = len(of.columns) - at - 0.5
        mark = f'<span style="color:{COLOURS[name]}">■</span> {name}'
        drawing.say(mark, top + row * height / len(of.columns), _RIGHT + 0.008)
    return number


def _draw_au(
    drawing: _Drawing, person: PersonCurves, of: ModelCurves, top: float, x: Props
) -> str:
    height, rows = _HEIGHTS[Task.AU], len(of.columns)
    number = drawing.add_axes(
        top, height, (0, _RIGHT), x=x,
        y={"autorange": "reversed", "tickvals": [*range(rows)], "ticktext": [*of.columns]},
    )  # fmt: skip
    drawing.traces.append(
        {
            "type": "heatmap", "x": _rounded(person.times), "y": [*range(rows)],
            "z": [_rounded(values) for values in of.values.T], "zmin": 0, "zmax": 1,
            "colorscale": _BLUES, **_on(number),
            "customdata": [[name] * len(person.times) for name in of.columns],
            "hovertemplate": "%{x:.2f} s: %{customdata} %{z:.3f}<extra></extra>",
            "colorbar": {
                "x": 0.97, "y": 1 - (top + height / 2) / drawing.height, "len": height - 24,
                "lenmode": "pixels", "thickness": 10, "outlinewidth": 0, "dtick": 0.5,
                "title": {"text": "probability", "font": {"size": 11}},
            },
        }
    )  # fmt: skip
    for at, name in enumerate(of.columns):
        drawing.say(ACTION_UNITS[name], top + (at + 0.5) * height / rows, _RIGHT + 0.008)
    return number


_DRAW = {Task.VA: _draw_va, Task.EXPR: _draw_expr, Task.AU: _draw_au}


def _on(number: str) -> Props:
    return {"xaxis": f"x{number}", "yaxis": f"y{number}", "showlegend": False}


def _between(number: str, ends: tuple[float, float, float, float]) -> Props:
    x0, y0, x1, y1 = ends
    axes: Props = {"xref": f"x{number}", "yref": f"y{number}", "layer": "below"}
    return {"x0": x0, "y0": y0, "x1": x1, "y1": y1, **axes}


def _rounded(values: NDArray[np.float64]) -> list[float | None]:
    """In few characters: a page holds many thousands."""
    return [round(value, _DIGITS) if math.isfinite(value) else None for value in values.tolist()]


def _data_uri(pixels: NDArray[np.uint8]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
