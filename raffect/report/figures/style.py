"""What all figures share: layout, markers, legends. Plotly JSON in the page's colours."""

from __future__ import annotations

import html
from typing import Any

LIGHT = {
    "page": "#f6f7f9",
    "card": "#ffffff",
    "ink": "#18202b",
    "muted": "#5a6676",
    "faint": "#8b96a5",
    "line": "#e1e5eb",
    "wash": "#f0f3f7",
    "blue": "#1b69ab",
    "blue-wash": "#e3eef8",
    "best": "#bd530b",
    "best-wash": "#fbeadd",
    "pruned": "#8a97a8",
    "fail": "#a8326e",
    "fail-wash": "#f8e4ee",
    "running": "#14795b",
    "running-wash": "#ddf1ea",
    "heat-0": "#f2f5f9",
    "heat-1": "#d3e4f3",
    "heat-2": "#a3cbeb",
    "heat-3": "#5fa5dd",
    "halo": "#ffffff",
    "scale-0": "#cdd6e1",
    "scale-1": "#9ec3e4",
    "scale-2": "#5b9fd6",
    "scale-3": "#2571b3",
    "scale-4": "#0c4379",
    "band-0": "#f0f3f7",
    "band-1": "#9ec3e4",
    "band-2": "#1b5f9e",
}

DARK = {
    "page": "#0f141b",
    "card": "#171e28",
    "ink": "#e7ecf3",
    "muted": "#a0acbc",
    "faint": "#77849a",
    "line": "#2a3441",
    "wash": "#1e2733",
    "blue": "#62aee8",
    "blue-wash": "#1b3550",
    "best": "#f2a154",
    "best-wash": "#46301b",
    "pruned": "#7f8da1",
    "fail": "#ee85b7",
    "fail-wash": "#472338",
    "running": "#4fc79d",
    "running-wash": "#173d31",
    "heat-0": "#1e2733",
    "heat-1": "#1f3a55",
    "heat-2": "#22527f",
    "heat-3": "#296aa8",
    "halo": "#171e28",
    "scale-0": "#3a4757",
    "scale-1": "#35597d",
    "scale-2": "#3f83bd",
    "scale-3": "#6db6ee",
    "scale-4": "#c9e5ff",
    "band-0": "#1e2733",
    "band-1": "#2f5f8f",
    "band-2": "#6db6ee",
}


def colour(name: str) -> str:
    """How figures and styles name a colour."""
    assert name in LIGHT, name
    return f"var(--{name})"


def colour_scale(name: str) -> list[list[float | str]]:
    """A scale of Plotly from the palette.

    Args:
        name: `heat` for cells with text, `band` for those without, `scale` for lines and marks.
    """
    steps = sorted(key for key in LIGHT if key.startswith(f"{name}-") and key[-1].isdigit())
    return [[index / (len(steps) - 1), colour(step)] for index, step in enumerate(steps)]


def declarations(palette: dict[str, str]) -> str:
    """The palette as CSS custom properties."""
    return " ".join(f"--{name}: {value};" for name, value in palette.items())


Figure = dict[str, Any]
"""Plotly's own form: `data` (traces) and `layout`. Colours are `var(--name)`, see palette.py."""

STATE_STYLE: dict[str, dict[str, Any]] = {
    "COMPLETE": {"symbol": "circle", "color": colour("blue")},
    "PRUNED": {"symbol": "circle-open", "color": colour("pruned")},
    "FAIL": {"symbol": "x-thin-open", "color": colour("fail")},
    "RUNNING": {"symbol": "triangle-up", "color": colour("running")},
    "WAITING": {"symbol": "square-open", "color": colour("faint")},
}
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


BEST_RING = {
    "size": 11,
    "color": colour("best"),
    "line": {"width": 2, "color": colour("halo")},
}
"""The mark of the best trial."""


def layout_of(height: int, x_title: str, y_title: str, **more: Any) -> dict[str, Any]:
    """The layout that all figures share: no frame, faint grid, titles on both axes."""
    axis: dict[str, Any] = {
        "gridcolor": colour("line"),
        "linecolor": colour("line"),
        "zeroline": False,
        "ticks": "",
        "automargin": True,
        "fixedrange": True,
        "tickangle": 0,
        "exponentformat": "power",
    }
    layout: dict[str, Any] = {
        "height": height,
        "autosize": True,
        "margin": {"l": 8, "r": 12, "t": 8, "b": 8},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": _FONT, "size": 12, "color": colour("muted")},
        "hoverlabel": {
            "bgcolor": colour("card"),
            "bordercolor": colour("line"),
            "font": {"color": colour("ink"), "size": 12},
            "align": "left",
        },
        "xaxis": {**axis, "showgrid": False, **_title(x_title)},
        "yaxis": {**axis, **_title(y_title)},
        "showlegend": False,
        "dragmode": False,
    }
    for name in ("xaxis", "yaxis"):
        layout[name].update(more.pop(name, {}))
    layout.update(more)
    return layout


def _title(text: str) -> dict[str, Any]:
    """An axis title; none at all where it would be empty, as Plotly keeps its room."""
    font = {"color": colour("muted"), "size": 12}
    return {"title": {"text": text, "font": font, "standoff": 8}} if text else {}


def legend_above() -> dict[str, Any]:
    """A legend in one row above the plot, only to be read."""
    return {
        "orientation": "h",
        "x": 0,
        "xanchor": "left",
        "y": 1.02,
        "yanchor": "bottom",
        "font": {"color": colour("ink"), "size": 12},
        "bgcolor": "rgba(0,0,0,0)",
        "itemclick": False,
        "itemdoubleclick": False,
    }


def marker(state: str, size: int) -> dict[str, Any]:
    """The mark of a trial in this state."""
    style = STATE_STYLE.get(state, STATE_STYLE["WAITING"])
    return {
        **style,
        "size": size,
        "opacity": 0.9,
        "line": {"width": 1.75, "color": style["color"]},
    }


def row_height(rows: int) -> int:
    """Height in pixels of a chart with so many horizontal bars."""
    return max(150, 62 + 28 * rows)


def safe(text: str) -> str:
    """Text for Plotly, which reads a subset of HTML in labels."""
    return html.escape(text, quote=False)
