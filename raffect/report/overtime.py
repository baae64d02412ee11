"""Figures of true and predicted values over time, of single videos."""

from __future__ import annotations

from typing import Any

from raffect.affwild2.tasks import SPECS, Task
from raffect.report.judged import Shown
from raffect.report.palette import colour, colour_scale
from raffect.report.style import Figure, layout_of, legend_above
from raffect.report.tables import Ranges, Table, from_table, ranges

_TRUE_SHARE = 0.3
"""Share of a row's height that the strip of the true labels takes."""


def over_time(task: Task, curves: Table, shown: Shown) -> Figure:
    """True and predicted values of one video, frame by frame."""
    videos = curves.column("video")
    rows = ranges(i for i, video in enumerate(videos) if video == shown.video)
    return _lines(curves, rows) if task is Task.VA else _with_truth(task, curves, rows)


def _lines(curves: Table, rows: Ranges) -> Figure:
    """Valence above arousal, each with the true and the predicted line."""
    traces = []
    for index, name in enumerate(SPECS[Task.VA].columns):
        axis = {"yaxis": "y2"} if index == 0 else {}
        for column, label, shade, width in (
            (f"true_{name}", "true", "ink", 1.5),
            (name, "predicted", "best", 2),
        ):
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines",
                    "name": label,
                    "showlegend": index == 0,
                    **from_table(curves, {"x": "frame", "y": column}, rows),
                    **axis,
                    "line": {"color": colour(shade), "width": width},
                    "hovertemplate": f"frame %{{x:,}}: %{{y:.2f}}<extra>{name}, {label}</extra>",
                }
            )
    layout = layout_of(300, "frame", "arousal", showlegend=True, legend=legend_above())
    half = {"range": [-1.05, 1.05], "tickvals": [-1, 0, 1]}
    upper = {**layout["yaxis"], **half, "domain": [0.53, 1]}
    upper["title"] = {**upper["title"], "text": "valence"}
    layout["yaxis2"] = upper
    layout["yaxis"] = {**layout["yaxis"], **half, "domain": [0, 0.47]}
    layout["xaxis"] |= {"anchor": "y", "nticks": 6, "tickformat": ",d"}
    return {"data": traces, "layout": layout}


def _with_truth(task: Task, curves: Table, rows: Ranges) -> Figure:
    """Each output's probability as a band, below a strip where it is true."""
    names = list(SPECS[task].columns)
    probabilities = {
        **_bands(curves, rows, list(names), list(range(len(names)))),
        "colorscale": colour_scale("band"),
        "hovertemplate": "frame %{x:,}, %{y}: %{z:.2f}<extra>probability</extra>",
    }
    # A strip and a gap take turns, so that the gaps leave the bands to be seen.
    columns: list[str | None] = []
    edges: list[float] = []
    for index, name in enumerate(names):
        columns += [f"true_{name}", None]
        edges += [index - 0.5, index - 0.5 + _TRUE_SHARE]
    true = {
        **_bands(curves, rows, columns, [*edges, len(names) - 0.5]),
        "colorscale": [[0, "rgba(0,0,0,0)"], [1, colour("best")]],
        "hoverinfo": "skip",
    }
    key = {
        "type": "scatter",
        "mode": "markers",
        "name": "true",
        "x": [None],
        "y": [None],
        "marker": {"symbol": "square", "size": 8, "color": colour("best")},
        "showlegend": True,
    }
    return {"data": [probabilities, true, key], "layout": _band_layout(names, curves, rows)}


def _bands(curves: Table, rows: Ranges, columns: list[str | None], y: list[Any]) -> dict[str, Any]:
    return {
        "type": "heatmap",
        **from_table(curves, {"x": "frame", "z": columns}, rows),
        "y": y,
        "zmin": 0,
        "zmax": 1,
        "showscale": False,
        "hoverongaps": False,
    }


def _band_layout(names: list[str], curves: Table, rows: Ranges) -> dict[str, Any]:
    frames = curves.column("frame")
    ends = [frames[rows[0][0]], frames[rows[-1][1] - 1]]
    return layout_of(
        72 + 20 * len(names),
        "frame",
        "",
        showlegend=True,
        legend=legend_above(),
        xaxis={"nticks": 6, "tickformat": ",d", "range": ends},
        yaxis={
            "showgrid": False,
            "autorange": "reversed",
            "tickvals": list(range(len(names))),
            "ticktext": names,
            "tickfont": {"color": colour("ink"), "size": 11},
        },
    )
