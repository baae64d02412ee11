"""Figures of what the best trial's model gets right and wrong, by part of the score."""

from __future__ import annotations

from typing import Any

from raffect.affwild2.tasks import SPECS, Task
from raffect.report.data import Part, Shown
from raffect.report.figures.style import (
    Figure,
    colour,
    colour_scale,
    layout_of,
    legend_above,
    row_height,
    safe,
)
from raffect.report.tables import Cell, Ranges, Table, from_table, ranges
from raffect.report.validation import BINS


def part_bars(parts: tuple[Part, ...]) -> Figure:
    """Parts of the best trial's score as bars, with the trivial baseline's as a mark."""
    rows = list(reversed(parts))
    names = [safe(part.name) for part in rows]
    bars = {
        "type": "bar",
        "orientation": "h",
        "name": "best trial",
        "x": [part.score for part in rows],
        "y": names,
        "text": [f"{part.score:.3f}" for part in rows],
        "textposition": "outside",
        "textfont": {"color": colour("ink")},
        "cliponaxis": False,
        "marker": {"color": colour("blue")},
        "hovertemplate": "%{y}: %{x:.4f}<extra>best trial</extra>",
    }
    floors = [part for part in rows if part.baseline is not None]
    marks = {
        "type": "scatter",
        "mode": "markers",
        "name": "trivial baseline",
        "x": [part.baseline for part in floors],
        "y": [safe(part.name) for part in floors],
        "marker": {
            "symbol": "line-ns-open",
            "size": 16,
            "color": colour("ink"),
            "line": {"width": 2.5, "color": colour("ink")},
        },
        "hovertemplate": "%{y}: %{x:.4f}<extra>trivial baseline</extra>",
    }
    low = min([0.0, *(part.score for part in rows)])
    layout = layout_of(
        row_height(len(rows)) + 16,
        "score",
        "",
        bargap=0.42,
        xaxis={"range": [low * 1.15, 1.0], "showgrid": True, "nticks": 6},
        yaxis={"showgrid": False, "tickfont": {"color": colour("ink")}},
        showlegend=bool(floors),
        legend=legend_above(),
    )
    return {"data": [bars, marks] if floors else [bars], "layout": layout}


def confusion(task: Task, table: Table) -> Figure:
    """What was predicted for what, drawn as fits the task."""
    return {Task.EXPR: _expressions, Task.AU: _action_units, Task.VA: _valence_arousal}[task](
        table
    )


def _expressions(table: Table) -> Figure:
    """A row for each true expression: where its frames went."""
    names = list(SPECS[Task.EXPR].columns)
    shares, frames = _square(table, "share_of_true", names), _square(table, "frames", names)
    trace = {
        **_heat(shares),
        "x": names,
        "y": names,
        "customdata": frames,
        "text": [[_percent(cell) for cell in row] for row in shares],
        "texttemplate": "%{text}",
        "textfont": {"size": 11, "color": colour("ink")},
        "xgap": 2,
        "ygap": 2,
        "showscale": False,
        "hovertemplate": (
            "true %{y}, predicted %{x}<br>%{customdata:,} frames, %{z:.1%} of the true ones"
            "<extra></extra>"
        ),
    }
    ink = {"tickfont": {"color": colour("ink")}, "showgrid": False}
    layout = layout_of(
        390,
        "predicted",
        "true",
        xaxis={**ink, "tickangle": -40},
        yaxis={**ink, "autorange": "reversed"},
    )
    return {"data": [trace], "layout": layout}


def _percent(share: float | None) -> str:
    """Whole percent; nothing where they would be 0."""
    return "" if share is None or share < 0.005 else f"{share:.0%}"


def _square(table: Table, value: str, names: list[str]) -> list[list[Any]]:
    cells = table.column(value)
    return [cells[i * len(names) : (i + 1) * len(names)] for i in range(len(names))]


def _heat(z: list[list[Any]]) -> dict[str, Any]:
    return {
        "type": "heatmap",
        "z": z,
        "zmin": 0,
        "zmax": 1,
        "colorscale": colour_scale("heat"),
        "hoverongaps": False,
    }


_OUTCOMES = (
    ("true_positives", "active, found", "blue"),
    ("false_negatives", "active, missed", "best"),
    ("false_positives", "not active, but predicted", "fail"),
)


def _action_units(table: Table) -> Figure:
    """Per unit the frames that decide about its F1: true negatives do not."""
    units = [safe(str(name)) for name in table.column("unit")]
    traces = [
        {
            "type": "bar",
            "orientation": "h",
            "name": name,
            "y": units,
            "x": table.column(column),
            "marker": {"color": colour(shade)},
            "hovertemplate": f"%{{y}}: %{{x:,}} frames<extra>{name}</extra>",
        }
        for column, name, shade in _OUTCOMES
    ]
    layout = layout_of(
        row_height(len(units)) + 16,
        "frames",
        "",
        barmode="stack",
        bargap=0.42,
        xaxis={"showgrid": True, "nticks": 6, "exponentformat": "SI"},
        yaxis={
            "showgrid": False,
            "tickfont": {"color": colour("ink")},
            "autorange": "reversed",
        },
        showlegend=True,
        legend={**legend_above(), "traceorder": "normal"},
    )
    return {"data": traces, "layout": layout}


def _valence_arousal(table: Table) -> Figure:
    """Where the frames of each true value went; on the diagonal they are right."""
    parts = table.column("part")
    traces: list[dict[str, Any]] = []
    domains = ([0, 0.47], [0.53, 1])
    layout = layout_of(330, "", "predicted")
    for index, name in enumerate(SPECS[Task.VA].columns):
        own = [i for i, part in enumerate(parts) if part == name]
        suffix = "2" if index else ""
        axes = {"xaxis": f"x{suffix}", "yaxis": f"y{suffix}"}
        traces += [{**_density(table, own), **axes}, {**_diagonal(), **axes}]
        title = {**layout["yaxis"]["title"], "text": f"true {name}"}
        square = {"range": [-1, 1], "tickvals": [-1, -0.5, 0, 0.5, 1], "showgrid": False}
        layout[f"xaxis{suffix}"] = {
            **layout["xaxis"],
            **square,
            "title": title,
            "domain": domains[index],
            "anchor": f"y{suffix}",
        }
        layout[f"yaxis{suffix}"] = {
            **layout["yaxis"],
            **square,
            "anchor": f"x{suffix}",
        }
    layout["yaxis2"] = {**layout["yaxis2"], "showticklabels": False, "title": {"text": ""}}
    return {"data": traces, "layout": layout}


def _density(table: Table, rows: list[int]) -> dict[str, Any]:
    true, predicted = table.column("true"), table.column("predicted")
    middles = [round((2 * i + 1) / BINS - 1, 3) for i in range(BINS)]
    z: list[list[Cell]] = [[None] * BINS for _ in range(BINS)]
    frames: list[list[Cell]] = [[None] * BINS for _ in range(BINS)]
    for i in rows:
        y, x = middles.index(float(str(predicted[i]))), middles.index(float(str(true[i])))
        # A cell without a frame is left to the background, or the map would be one wash.
        if table.column("frames")[i]:
            z[y][x] = table.column("share_of_true")[i]
            frames[y][x] = table.column("frames")[i]
    return {
        **_heat(z),
        "x": middles,
        "y": middles,
        "customdata": frames,
        "zmax": 0.5,
        "colorscale": colour_scale("scale"),
        "showscale": False,
        "hovertemplate": (
            "true %{x}, predicted %{y}<br>%{customdata:,} frames, %{z:.1%} of the true ones"
            "<extra></extra>"
        ),
    }


def _diagonal() -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [-1, 1],
        "y": [-1, 1],
        "line": {"color": colour("muted"), "width": 1, "dash": "dot"},
        "hoverinfo": "skip",
        "showlegend": False,
    }


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
