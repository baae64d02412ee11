"""Figures of an ablation: scores by variant, and the paired differences to the full model."""

from __future__ import annotations

from raffect.report.figures.style import (
    INK,
    Figure,
    Props,
    bar_layout,
    colour,
    safe,
    scatter,
)
from raffect.report.tables import Table
from raffect.sweep.ablation import short_name

SEED = "score."
"""Prefix of the columns of the table `ablation` with the scores of one seed each."""
_LONG = 22
"""Characters of a name that takes two lines: on a telephone there is no room for more."""
_MEAN: Props = {
    "symbol": "line-ns-open",
    "size": 15,
    "line": {"width": 3, "color": colour("best")},
    "color": colour("best"),
}


def scores(source: Table) -> Figure:
    """The table `ablation`: each variant's seeds as dots, their mean as a stroke."""
    rows = range(len(source.rows))
    traces: list[Props] = []
    for column in source.columns:
        if column.startswith(SEED):
            seed = column.removeprefix(SEED)
            look = {"size": 7, "color": colour("blue"), "opacity": 0.75}
            told = f"%{{y}}<br>seed {seed}: %{{x:.4f}}<extra></extra>"
            columns = {"x": column, "y": "name"}
            more = {"marker": look, "hovertemplate": told, "name": "each seed"}
            traces.append(scatter("markers", source, columns, rows, showlegend=not traces, **more))
    told = "%{y}<br>mean %{x:.4f}<extra></extra>"
    look = {"marker": _MEAN, "hovertemplate": told, "name": "mean"}
    traces.append(scatter("markers", source, {"x": "mean", "y": "name"}, rows, **look))
    return {"data": traces, "layout": _layout(source, "score")}


def differences(source: Table) -> Figure:
    """The table `ablation`: each paired difference to the full model, with its interval."""
    names = [safe(str(name)) for name in source.column("name")]
    ends = zip(names, source.column("low"), source.column("high"), strict=True)
    known = [(name, low, high) for name, low, high in ends if low is not None]
    # One line with gaps: from low to high, and on to the next variant.
    line: Props = {
        "type": "scatter",
        "mode": "lines",
        "x": [x for _, low, high in known for x in (low, high, None)],
        "y": [y for name, *_ in known for y in (name, name, None)],
        "line": {"color": colour("blue"), "width": 2},
        "hoverinfo": "skip",
        "name": "95 % interval",
    }
    rows = [i for i, gap in enumerate(source.column("difference")) if gap is not None]
    told = "%{y}<br>%{x:+.4f}, 95 %: %{customdata[0]:+.4f} to %{customdata[1]:+.4f}<extra></extra>"
    columns = {"x": "difference", "y": "name", "customdata": ["low", "high"]}
    look = {"marker": _MEAN, "hovertemplate": told, "name": "mean"}
    points = scatter("markers", source, columns, rows, **look)
    zero = {
        "type": "line", "xref": "x", "x0": 0, "x1": 0, "yref": "paper", "y0": 0, "y1": 1,
        "line": {"color": colour("muted"), "width": 1, "dash": "dot"},
    }  # fmt: skip
    shape = _layout(source, "difference to the full model", shapes=[zero])
    return {"data": [line, points], "layout": shape}


def _layout(source: Table, title: str, **more: object) -> Props:
    """The full model on top; a row for each variant, also for one without a score."""
    names = [safe(str(name)) for name in source.column("name")][::-1]
    yaxis: Props = {
        "type": "category",
        "categoryorder": "array",
        "categoryarray": names,
        "range": [-0.6, len(names) - 0.4],
        "tickfont": INK,
        "tickmode": "array",
        "tickvals": names,
        "ticktext": [label(name) for name in names],
    }
    xaxis: Props = {"nticks": 4}
    shape = bar_layout(len(names), title, xaxis, yaxis, legend=True, **more)
    return {**shape, "height": 92 + 32 * len(names)}


def label(name: str) -> str:
    """A variant's short name, a long one in two lines."""
    short = short_name(name)
    what, _, setting = short.rpartition(" ")
    return f"{what}<br>{setting}" if what and len(short) > _LONG else short
