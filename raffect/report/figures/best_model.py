"""Figures of what the best trial's model gets right and wrong: by part, by outcome, over time."""

from __future__ import annotations

from raffect.affwild2.tasks import SPECS, Task
from raffect.report.data import ChosenVideo, ScorePart
from raffect.report.figures.style import (
    INK,
    Figure,
    Props,
    axis,
    bar_layout,
    bars,
    colour,
    colour_bar,
    heat_map,
    layout,
    safe,
    scatter,
)
from raffect.report.tables import Cell, Table, from_table, ranges
from raffect.report.validation import BIN_MIDDLES

_OUTCOMES = (
    ("true_positives", "active, found", "blue"),
    ("false_negatives", "active, missed", "best"),
    ("false_positives", "not active, but predicted", "fail"),
)
_TRUE_SHARE = 0.3
"""Share of a band's height that the strip of the true labels takes."""
_MOST_SHARE = 0.5
"""Share of a true value's frames that has the strongest colour, as all greater ones have."""
_SHARE_HOVER = "%{customdata:,} frames, %{z:.1%} of the true ones<extra></extra>"


def part_bars(parts: tuple[ScorePart, ...]) -> Figure:
    """Parts of the best trial's score as bars, with those of what it has to beat as marks."""
    rows = list(reversed(parts))
    traces = [
        bars(
            [safe(part.name) for part in rows],
            [part.score for part in rows],
            [],
            colour("blue"),
            name="best trial",
            hovertemplate="%{y}: %{x:.4f}<extra>best trial</extra>",
        )
    ]
    for name, symbol, values in (
        ("trivial baseline", "line-ns-open", [part.baseline for part in rows]),
        ("linear floor", "diamond-open", [part.linear for part in rows]),
    ):
        known = [i for i, value in enumerate(values) if value is not None]
        mark: Props = {
            "type": "scatter",
            "mode": "markers",
            "name": name,
            "x": [values[i] for i in known],
            "y": [safe(rows[i].name) for i in known],
            "marker": {**INK, "symbol": symbol, "size": 16, "line": {**INK, "width": 2.5}},
            "hovertemplate": f"%{{y}}: %{{x:.4f}}<extra>{name}</extra>",
        }
        traces += [mark] if known else []
    # In a column beside the axis, where no mark covers them.
    texts: Props = {
        "type": "scatter",
        "mode": "text",
        "x": [1.02] * len(rows),
        "y": [safe(part.name) for part in rows],
        "text": [f"{part.score:.3f}" for part in rows],
        "textposition": "middle right",
        "textfont": INK,
        "hoverinfo": "skip",
        "showlegend": False,
    }
    low = min([0.0, *(part.score for part in rows)])
    xaxis: Props = {"range": [low * 1.15, 1.14], "tickvals": [0, 0.2, 0.4, 0.6, 0.8, 1]}
    shape = bar_layout(len(rows), "score", xaxis, legend=True, showlegend=len(traces) > 1)
    return {"data": [*traces, texts], "layout": shape}


def confusion(task: Task, table: Table) -> Figure:
    """What was predicted for what, from the table of validation.confusion_of."""
    draw = {Task.EXPR: _expressions, Task.AU: _action_units, Task.VA: _valence_arousal}
    return draw[task](table)


def _expressions(table: Table) -> Figure:
    """A row for each true expression: where its frames went."""
    names = list(SPECS[Task.EXPR].columns)

    def square(column: str) -> list[list[Cell]]:
        cells = table.column(column)
        return [cells[i : i + len(names)] for i in range(0, len(cells), len(names))]

    shares = square("share_of_true")
    trace = heat_map(
        "heat",
        x=names,
        y=names,
        z=shares,
        customdata=square("frames"),
        showscale=True,
        colorbar=colour_bar("share of the true frames", 0, 1, form=".0%"),
        text=[[_percent(cell) for cell in row] for row in shares],
        texttemplate="%{text}",
        textfont={**INK, "size": 11},
        xgap=2,
        ygap=2,
        hovertemplate=f"true %{{y}}, predicted %{{x}}<br>{_SHARE_HOVER}",
    )
    shape = layout(
        390,
        "predicted",
        "true",
        xaxis={"tickfont": INK, "tickangle": -40},
        yaxis={"tickfont": INK, "showgrid": False, "autorange": "reversed"},
    )
    return {"data": [trace], "layout": shape}


def _percent(share: Cell) -> str:
    """Whole percent; nothing where they would be 0."""
    return f"{share:.0%}" if isinstance(share, int | float) and share >= 0.005 else ""


def _action_units(table: Table) -> Figure:
    """Per unit the frames that its F1 depends on; true negatives do not count."""
    units = [safe(str(name)) for name in table.column("unit")]
    traces: list[Props] = [
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
    shape = bar_layout(
        len(units),
        "frames",
        {"nticks": 6, "exponentformat": "SI"},
        {"autorange": "reversed"},
        barmode="stack",
        legend=True,
    )
    return {"data": traces, "layout": shape}


def _valence_arousal(table: Table) -> Figure:
    """Where the frames of each true value went; on the diagonal they are right."""
    traces: list[Props] = []
    axes: Props = {}
    square: Props = {"range": [-1, 1], "tickvals": [-1, 0, 1], "showgrid": False}
    # The second one shares its y axis with the first, and has no labels of its own.
    unlabelled: Props = {"showticklabels": False, "title": {"text": ""}}
    sides: list[tuple[str, list[float], Props]]
    sides = [("", [0, 0.47], {}), ("2", [0.53, 1], unlabelled)]
    for name, (suffix, domain, more) in zip(SPECS[Task.VA].columns, sides, strict=True):
        own = {"xaxis": f"x{suffix}", "yaxis": f"y{suffix}"}
        # One key for both.
        shown = {"showscale": suffix != ""}
        traces += [{**_density(table, name), **own, **shown}, {**_diagonal(), **own}]
        axes[f"xaxis{suffix}"] = axis(f"true {name}", **square, domain=domain, anchor=f"y{suffix}")
        axes[f"yaxis{suffix}"] = axis("predicted", **square, anchor=f"x{suffix}") | more
    return {"data": traces, "layout": {**layout(330), **axes}}


def _density(table: Table, part: str) -> Props:
    """Shares of each true bin's frames by predicted bin.

    A cell without a frame is left to the background, or the map would be one wash.
    """
    true, predicted = table.column("true"), table.column("predicted")
    frames, shares = table.column("frames"), table.column("share_of_true")
    cells = {
        (predicted[i], true[i]): i
        for i, own in enumerate(table.column("part"))
        if own == part and frames[i]
    }

    def square(values: list[Cell]) -> list[list[Cell]]:
        return [
            [values[cells[y, x]] if (y, x) in cells else None for x in BIN_MIDDLES]
            for y in BIN_MIDDLES
        ]

    return heat_map(
        "scale",
        x=BIN_MIDDLES,
        y=BIN_MIDDLES,
        z=square(shares),
        customdata=square(frames),
        zmax=_MOST_SHARE,
        colorbar=colour_bar("share of the true frames", 0, _MOST_SHARE, ">", ".0%"),
        hovertemplate=f"true %{{x}}, predicted %{{y}}<br>{_SHARE_HOVER}",
    )


def _diagonal() -> Props:
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [-1, 1],
        "y": [-1, 1],
        "line": {"color": colour("muted"), "width": 1, "dash": "dot"},
        "hoverinfo": "skip",
        "showlegend": False,
    }


def over_time(task: Task, curves: Table, shown: ChosenVideo) -> Figure:
    """True and predicted values of one video, from the table `videos-over-time`."""
    rows = [i for i, video in enumerate(curves.column("video")) if video == shown.video]
    return _lines(curves, rows) if task is Task.VA else _bands(task, curves, rows)


def _lines(curves: Table, rows: list[int]) -> Figure:
    """Valence above arousal, each with the true and the predicted line."""
    traces = [
        scatter(
            "lines",
            curves,
            {"x": "frame", "y": column},
            rows,
            name=label,
            showlegend=index == 0,
            line={"color": colour(shade), "width": width},
            hovertemplate=f"frame %{{x:,}}: %{{y:.2f}}<extra>{name}, {label}</extra>",
            **({"yaxis": "y2"} if index == 0 else {}),
        )
        for index, name in enumerate(SPECS[Task.VA].columns)
        for column, label, shade, width in (
            (f"true_{name}", "true", "ink", 1.5),
            (name, "predicted", "best", 2),
        )
    ]
    half = {"range": [-1.05, 1.05], "tickvals": [-1, 0, 1]}
    shape = layout(
        300,
        "frame",
        "arousal",
        xaxis={"anchor": "y", "nticks": 6, "tickformat": ",d"},
        yaxis={**half, "domain": [0, 0.47]},
        yaxis2=axis("valence", **half, domain=[0.53, 1]),
        legend=True,
    )
    return {"data": traces, "layout": shape}


def _bands(task: Task, curves: Table, rows: list[int]) -> Figure:
    """Each output's probability as a band, below a strip where it is true."""
    names = list(SPECS[task].columns)
    stretches = ranges(rows)
    probabilities = heat_map(
        "band",
        **from_table(curves, {"x": "frame", "z": names}, stretches),
        y=list(range(len(names))),
        showscale=True,
        colorbar=colour_bar("probability", 0, 1, form=".1f"),
        hovertemplate="frame %{x:,}, %{y}: %{z:.2f}<extra>probability</extra>",
    )
    # Rows of unequal height: a strip and a gap take turns, so that the bands show in the gaps.
    columns: list[str | None] = []
    edges: list[float] = []
    for index, name in enumerate(names):
        columns += [f"true_{name}", None]
        edges += [index - 0.5, index - 0.5 + _TRUE_SHARE]
    true = heat_map(
        "band",
        **from_table(curves, {"x": "frame", "z": columns}, stretches),
        y=[*edges, len(names) - 0.5],
        colorscale=[[0, "rgba(0,0,0,0)"], [1, colour("best")]],
        hoverinfo="skip",
    )
    # Heat maps have no entry in a legend: a point without a place makes one.
    legend: Props = {
        "type": "scatter",
        "mode": "markers",
        "name": "true",
        "x": [None],
        "y": [None],
        "marker": {"symbol": "square", "size": 8, "color": colour("best")},
        "showlegend": True,
    }
    frames = curves.column("frame")
    shape = layout(
        72 + 20 * len(names),
        "frame",
        xaxis={"nticks": 6, "tickformat": ",d", "range": [frames[rows[0]], frames[rows[-1]]]},
        yaxis={
            "showgrid": False,
            "autorange": "reversed",
            "tickvals": list(range(len(names))),
            "ticktext": names,
            "tickfont": {**INK, "size": 11},
        },
        legend=True,
    )
    return {"data": [probabilities, true, legend], "layout": shape}
