"""What all figures share: the palette, the marks of trial states, axes, and common traces.

Blue, orange, vermillion and green are close to those of Okabe and Ito, which stay distinct in the
common kinds of colour blindness; a trial's state is also shown by the shape of its marker, never
by colour alone. Figures name colours as `var(--name)`: the page's style sheet defines them and its
script resolves them, so that one figure serves the light theme, the dark theme and the printer.
The scale of heat maps stays on the background's side of the middle, so that text is legible in
every cell; the scale of lines and markers begins where they can just be seen.
"""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import TypedDict

from raffect.report.tables import Columns, Table, from_table, ranges

_PALETTE = {
    # name: (light, dark)
    "page": ("#f6f7f9", "#0f141b"),
    "card": ("#ffffff", "#171e28"),
    "ink": ("#18202b", "#e7ecf3"),
    "muted": ("#5a6676", "#a0acbc"),
    "faint": ("#8b96a5", "#77849a"),
    "line": ("#e1e5eb", "#2a3441"),
    "wash": ("#f0f3f7", "#1e2733"),
    "blue": ("#1b69ab", "#62aee8"),
    "blue-wash": ("#e3eef8", "#1b3550"),
    "best": ("#bd530b", "#f2a154"),
    "best-wash": ("#fbeadd", "#46301b"),
    "pruned": ("#8a97a8", "#7f8da1"),
    "fail": ("#a8326e", "#ee85b7"),
    "fail-wash": ("#f8e4ee", "#472338"),
    "running": ("#14795b", "#4fc79d"),
    "running-wash": ("#ddf1ea", "#173d31"),
    "heat-0": ("#f2f5f9", "#1e2733"),
    "heat-1": ("#d3e4f3", "#1f3a55"),
    "heat-2": ("#a3cbeb", "#22527f"),
    "heat-3": ("#5fa5dd", "#296aa8"),
    "halo": ("#ffffff", "#171e28"),
    "scale-0": ("#cdd6e1", "#3a4757"),
    "scale-1": ("#9ec3e4", "#35597d"),
    "scale-2": ("#5b9fd6", "#3f83bd"),
    "scale-3": ("#2571b3", "#6db6ee"),
    "scale-4": ("#0c4379", "#c9e5ff"),
    "band-0": ("#f0f3f7", "#1e2733"),
    "band-1": ("#9ec3e4", "#2f5f8f"),
    "band-2": ("#1b5f9e", "#6db6ee"),
}
LIGHT = {name: light for name, (light, _) in _PALETTE.items()}
DARK = {name: dark for name, (_, dark) in _PALETTE.items()}

Props = dict[str, object]
"""A trace, a layout or a part of either, in Plotly's own JSON."""


class Figure(TypedDict):
    """A figure in Plotly's JSON."""

    data: list[Props]
    layout: Props


def colour(name: str) -> str:
    """A colour of the palette, as figures and style sheets refer to it."""
    assert name in LIGHT, name
    return f"var(--{name})"


def colour_scale(name: str) -> list[list[float | str]]:
    """`heat` for cells with text, `band` for those without, `scale` for lines and markers."""
    steps = sorted(key for key in LIGHT if key.startswith(f"{name}-") and key[-1].isdigit())
    return [[index / (len(steps) - 1), colour(step)] for index, step in enumerate(steps)]


def declarations(palette: dict[str, str]) -> str:
    """The palette as CSS custom properties."""
    return " ".join(f"--{name}: {value};" for name, value in palette.items())


INK: Props = {"color": colour("ink")}
STATE_COLOURS = {
    "COMPLETE": colour("blue"),
    "PRUNED": colour("pruned"),
    "FAIL": colour("fail"),
    "RUNNING": colour("running"),
    "WAITING": colour("faint"),
}
_STATE_SYMBOLS = {
    "COMPLETE": "circle",
    "PRUNED": "circle-open",
    "FAIL": "line-ns-open",
    "RUNNING": "triangle-up",
    "WAITING": "square-open",
}
_HALO = {"width": 2, "color": colour("halo")}
BEST_MARKER: Props = {"size": 11, "color": colour("best"), "line": _HALO}
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
LEGEND: Props = {
    "orientation": "h",
    "x": 0,
    "xanchor": "left",
    "y": 1.02,
    "yanchor": "bottom",
    "font": {**INK, "size": 12},
    "bgcolor": "rgba(0,0,0,0)",
    "itemclick": False,
    "itemdoubleclick": False,
    # Plotly would list stacked bars from the last to the first.
    "traceorder": "normal",
}
"""One row above the plot; clicking on it does nothing."""


def marker(state: str, size: int, **more: object) -> Props:
    """The marker of a trial in this state."""
    shade = STATE_COLOURS[state]
    return {
        "symbol": _STATE_SYMBOLS[state],
        "color": shade,
        "size": size,
        "opacity": 0.9,
        "line": {"width": 1.75, "color": shade},
        **more,
    }


def axis(title: str = "", **more: object) -> Props:
    """An axis without frame or ticks; without a title where that is empty.

    Plotly reserves room for an empty title, so that the key must be absent.
    """
    font = {"color": colour("muted"), "size": 12}
    named: Props = {"title": {"text": title, "font": font, "standoff": 8}} if title else {}
    return {
        "gridcolor": colour("line"),
        "linecolor": colour("line"),
        "zeroline": False,
        "ticks": "",
        "automargin": True,
        "fixedrange": True,
        "tickangle": 0,
        "exponentformat": "power",
        **named,
        **more,
    }


def layout(
    height: int,
    x_title: str = "",
    y_title: str = "",
    *,
    xaxis: Props | None = None,
    yaxis: Props | None = None,
    legend: bool = False,
    **more: object,
) -> Props:
    """The layout that all figures share: no frame, horizontal grid lines only.

    The axes are changed by `xaxis` and `yaxis`, and all else that is set here by `more`.
    """
    return {
        "height": height,
        "autosize": True,
        "margin": {"l": 8, "r": 12, "t": 8, "b": 8},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": _FONT, "size": 12, "color": colour("muted")},
        "hoverlabel": {
            "bgcolor": colour("card"),
            "bordercolor": colour("line"),
            "font": {**INK, "size": 12},
            "align": "left",
        },
        "xaxis": axis(x_title, **{"showgrid": False, **(xaxis or {})}),
        "yaxis": axis(y_title, **(yaxis or {})),
        "showlegend": legend,
        "dragmode": False,
        **({"legend": LEGEND} if legend else {}),
        **more,
    }


def scatter(
    mode: str, source: Table, columns: Columns, rows: Iterable[int], **more: object
) -> Props:
    """Lines or markers whose numbers are those of a table's rows."""
    return {"type": "scatter", "mode": mode, **from_table(source, columns, ranges(rows)), **more}


def bars(
    names: list[str], values: list[float | None], texts: list[str], color: object, **more: object
) -> Props:
    """Horizontal bars from the bottom up, with their values as text at their ends."""
    return {
        "type": "bar",
        "orientation": "h",
        "x": values,
        "y": names,
        "text": texts,
        "textposition": "outside",
        "textfont": INK,
        "cliponaxis": False,
        "marker": {"color": color},
        **more,
    }


def bar_layout(
    rows: int, x_title: str, xaxis: Props, yaxis: Props | None = None, **more: object
) -> Props:
    """The layout of horizontal bars: grid lines across them, names beside them."""
    return layout(
        max(150, 62 + 28 * rows) + (16 if more.get("legend") else 0),
        x_title,
        bargap=0.42,
        xaxis={"showgrid": True, **xaxis},
        yaxis={"showgrid": False, "tickfont": INK, **(yaxis or {})},
        **more,  # type: ignore[arg-type]
    )


def heat_map(scale: str, **more: object) -> Props:
    """Cells with values from 0 to 1, unless `zmin` and `zmax` say otherwise."""
    return {
        "type": "heatmap",
        "zmin": 0,
        "zmax": 1,
        "colorscale": colour_scale(scale),
        "showscale": False,
        "hoverongaps": False,
        **more,
    }


def colour_bar(
    title: str, low: float, high: float, clips: str = "", form: str = "", **more: object
) -> Props:
    """What the colours from `low` to `high` stand for, at the right of the plot.

    `clips` has a `<` where lower values have the colour of `low`, and a `>` where higher ones have
    that of `high`: the numbers at these ends say so. `form` is of the numbers.
    """
    ticks = [low + (high - low) * i / 4 for i in range(5)] if high > low else [low]
    form = form or (".3f" if high - low < 0.05 else ".2f")
    texts = [f"{tick:{form}}" for tick in ticks]
    texts[0] = f"≤ {texts[0]}" if "<" in clips else texts[0]
    texts[-1] = f"≥ {texts[-1]}" if ">" in clips else texts[-1]
    return {
        "tickmode": "array",
        "tickvals": ticks,
        "ticktext": texts,
        "thickness": 10,
        "outlinewidth": 0,
        "title": {"text": title, "side": "right", "font": {"size": 12}},
        **more,
    }


def safe(text: str) -> str:
    """Text for Plotly, which reads a subset of HTML in labels."""
    return html.escape(text, quote=False)
