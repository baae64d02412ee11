"""What all figures share: layout, markers, legends. Plotly JSON in the page's colours."""

from __future__ import annotations

import html
from typing import Any

from raffect.report.palette import colour

Figure = dict[str, Any]
"""Plotly's own form: `data` (traces) and `layout`. Colours are `var(--name)`, see palette.py."""

STATE_STYLE: dict[str, dict[str, Any]] = {
    "COMPLETE": {"symbol": "circle", "color": colour("blue")},
    "PRUNED": {"symbol": "circle-open", "color": colour("pruned")},
    "FAIL": {"symbol": "x-thin-open", "color": colour("fail")},
    "RUNNING": {"symbol": "triangle-up", "color": colour("running")},
    "WAITING": {"symbol": "square-open", "color": colour("faint")},
}
STATE_NAMES = {
    "COMPLETE": "complete",
    "PRUNED": "pruned",
    "FAIL": "failed",
    "RUNNING": "running",
    "WAITING": "waiting",
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
