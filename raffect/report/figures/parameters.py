"""Figures of the searched parameters: importance, one by one, in pairs, and trade-offs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

from raffect.report.data import Grid, Importance, ReportData, Slice, scored
from raffect.report.figures.style import (
    BEST_MARKER,
    INK,
    Figure,
    Props,
    bar_layout,
    bars,
    colour,
    colour_bar,
    colour_scale,
    heat_map,
    layout,
    marker,
    safe,
    scatter,
)
from raffect.report.tables import Table
from raffect.report.tables_of_sweep import PREFIX
from raffect.sweep.attributes import STATE_NAMES
from raffect.text import short_value

LOSSES = "losses."
"""Prefix of the parameters that are weights of the loss."""
SLICE_HEIGHT = 200
PAIR_HEIGHT = 260
_MOST_PAIRS = 3
_OBJECTIVES = {
    # objective: (column of the table `trials`, title of its axis)
    "latency": ("latency_ms", "milliseconds per 1,000 frames"),
    "parameters": ("parameters", "trainable weights"),
}


def importance_bars(importance: Importance, names: dict[str, str]) -> Figure:
    """Shares of importance, the largest on top, by the parameters' short names.

    A line on each bar is its spread.
    """
    rows = list(zip(importance.shares, importance.spread, strict=True))[::-1]
    labels = [safe(names[name]) for (name, _), _ in rows]
    ends = [max(share, high) for (_, share), (_, high) in rows]
    trace = bars(
        labels,
        [share for (_, share), _ in rows],
        [],
        colour("blue"),
        customdata=[[safe(name), low, high] for (name, _), (low, high) in rows],
        hovertemplate="%{customdata[0]}<br>%{x:.1%}, 5 to 95 % of bootstraps: "
        "%{customdata[1]:.1%} to %{customdata[2]:.1%}<extra></extra>",
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [max(0.0, high - share) for (_, share), (_, high) in rows],
            "arrayminus": [max(0.0, share - low) for (_, share), (low, _) in rows],
            "color": colour("ink"),
            "thickness": 1.25,
            "width": 3,
        },
    )
    texts = {
        "type": "scatter",
        "mode": "text",
        "x": ends,
        "y": labels,
        "text": [f" {share:.0%}" for (_, share), _ in rows],
        "textposition": "middle right",
        "textfont": INK,
        "cliponaxis": False,
        "hoverinfo": "skip",
    }
    # The texts need room at the right of the longest line.
    xaxis = {"range": [0, max(ends, default=1.0) * 1.18], "tickformat": ".0%", "nticks": 4}
    shape = bar_layout(len(rows), "share of the importance", xaxis)
    return {"data": [trace, texts], "layout": shape}


def depth_map(grid: Grid) -> Figure:
    """The best score of each TCN depth and number of Transformer layers."""
    tried = {
        (x, y): (score, grid.counts[row][column])
        for row, y in enumerate(grid.y_values)
        for column, x in enumerate(grid.x_values)
        if (score := grid.scores[row][column]) is not None
    }
    low, high, clips = _colour_range([score for score, _ in tried.values()])
    xs, ys = _every(grid.x_values), _every(grid.y_values)
    cells = [[tried.get((x, y)) for x in xs] for y in ys]
    trace = heat_map(
        "heat",
        x=xs,
        y=ys,
        z=[[cell and cell[0] for cell in row] for row in cells],
        customdata=[[cell and cell[1] for cell in row] for row in cells],
        text=[[f"{cell[0]:.3f}" if cell else "" for cell in row] for row in cells],
        texttemplate="%{text}",
        textfont={**INK, "size": 12},
        xgap=3,
        ygap=3,
        zmin=low,
        zmax=high if high > low else low + 1e-9,
        showscale=True,
        colorbar=colour_bar("best score", low, high, clips),
        hovertemplate=(
            "TCN depth %{x}, %{y} Transformer layers<br>best score %{z:.4f}"
            "<br>trials: %{customdata}<extra></extra>"
        ),
    )
    untried = [
        {
            "type": "rect", "x0": x - 0.45, "x1": x + 0.45, "y0": y - 0.45, "y1": y + 0.45,
            "line": {"color": colour("faint"), "width": 1, "dash": "dot"}, "layer": "below",
        }
        for x in xs for y in ys if (x, y) not in tried
    ]  # fmt: skip
    shape = layout(
        max(260, 110 + min(44 * len(ys), 420)),
        "TCN depth, residual blocks",
        "Transformer layers",
        xaxis=_cell_axis(xs),
        yaxis=_cell_axis(ys),
        shapes=untried,
    )
    return {"data": [trace], "layout": shape}


def _every(values: Sequence[int]) -> list[int]:
    """All whole numbers from the least to the greatest, so that distances on an axis are true."""
    return list(range(min(values), max(values) + 1))


def _cell_axis(values: Sequence[int]) -> Props:
    step = math.ceil(len(values) / 12)
    ends = [values[0] - 0.5, values[-1] + 0.5]
    return {"range": ends, "tickvals": values[::step], "showgrid": False}


def _colour_range(scores: Sequence[float]) -> tuple[float, float, str]:
    """Ends of a colour scale, and what it clips (see colour_bar).

    It starts at the lower quartile: a few bad trials would take all colours.
    """
    ranked = sorted(scores)
    low = ranked[len(ranked) // 4]
    return low, ranked[-1], "<" if low > ranked[0] else ""


def slice_plot(data: ReportData, found: Slice, table: Table, height: int) -> Figure:
    """Scores against one parameter, from the table `trials`; the best trial has a ring."""
    column = f"{PREFIX}{found.name}"
    columns = {"x": column, "y": "score", "customdata": ["trial", column]}
    numbers = set(found.numbers)

    def points(state: str, rows: list[int], look: Props) -> Props:
        hover = "<b>trial %{customdata[0]}</b><br>%{customdata[1]}<br>score %{y:.4f}"
        hover += f"<extra>{STATE_NAMES[state]}</extra>"
        return scatter("markers", table, columns, rows, marker=look, hovertemplate=hover)

    traces = []
    trials = [(i, trial) for i, trial in enumerate(data.trials) if trial.number in numbers]
    for state in ("PRUNED", "COMPLETE"):
        own = [i for i, trial in trials if trial.state == state]
        if own:
            traces.append(points(state, own, marker(state, 7, opacity=0.8)))
    best = [i for i, trial in trials if trial.number == data.best_number]
    if best:
        traces.append(points("COMPLETE", best, BEST_MARKER))
    shape = layout(height, "", "score", xaxis=_value_axis(found), yaxis={"nticks": 5})
    return {"data": traces, "layout": shape}


def _value_axis(found: Slice) -> Props:
    if found.axis == "log":
        return {"type": "log", **_decades(found.values)}
    if found.axis == "category":
        kinds = sorted({safe(short_value(value)) for value in found.values})
        return {"type": "category", "categoryorder": "array", "categoryarray": kinds}
    if all(isinstance(value, int) for value in found.values):
        # At most eight ticks, at values that were tried.
        values = sorted(set(found.values))
        step = math.ceil(len(values) / 8)
        return {"type": "linear", "tickmode": "array", "tickvals": values[::step]}
    return {"type": "linear"}


def _decades(values: Sequence[float]) -> Props:
    """Ticks at the powers of ten, and at three times them where few decades are spanned."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    steps = (1, 3) if high - low < 2 else (1,)
    ticks = [(step, power) for power in range(low, high + 1) for step in steps]
    return {
        "tickmode": "array",
        "tickvals": [step * 10.0**power for step, power in ticks],
        "ticktext": [f"{step}e{power}" for step, power in ticks],
    }


def loss_pairs(data: ReportData) -> list[tuple[Slice, Slice]]:
    """Pairs of searched weights of the loss, those of the most important ones first."""
    shares = dict(data.importance.shares)
    losses = [found for found in data.slices if found.name.startswith(LOSSES)]
    losses.sort(key=lambda own: -shares.get(own.name, 0.0))
    pairs = combinations(losses, 2)
    shared = [(a, b) for a, b in pairs if len({*a.numbers} & {*b.numbers}) > 1]
    return shared[:_MOST_PAIRS]


def pair_plot(data: ReportData, a: Slice, b: Slice, table: Table, names: dict[str, str]) -> Figure:
    """The table `trials` by two parameters, a on the x axis and b on y, coloured by score."""
    both = set(a.numbers) & set(b.numbers)
    rows = [i for i, trial in enumerate(data.trials) if trial.number in both]
    low, high, clips = _colour_range([s for t, s in scored(data.trials) if t.number in both])
    place = {"x": f"{PREFIX}{a.name}", "y": f"{PREFIX}{b.name}"}
    columns = {**place, "marker.color": "score", "customdata": ["trial", "score"]}
    look = {
        "size": 9,
        "colorscale": colour_scale("scale"),
        "cmin": low,
        "cmax": high,
        "colorbar": colour_bar("score", low, high, clips),
    }
    told = (
        "<b>trial %{customdata[0]}</b><br>%{x:.4~g}, %{y:.4~g}"
        "<br>score %{customdata[1]:.4f}<extra></extra>"
    )
    traces = [scatter("markers", table, columns, rows, marker=look, hovertemplate=told)]
    best = [i for i in rows if data.trials[i].number == data.best_number]
    if best:
        ring = {"symbol": "circle-open", "size": 14, "color": colour("best")}
        ring["line"] = {"width": 2.5}
        traces.append(scatter("markers", table, place, best, marker=ring, hoverinfo="skip"))
    titles = safe(a.title(names)), safe(b.title(names))
    shape = layout(PAIR_HEIGHT, *titles, xaxis=_value_axis(a), yaxis=_value_axis(b))
    return {"data": traces, "layout": shape}


def trade_off(data: ReportData, table: Table, objective: str) -> Figure | None:
    """Score against another objective, from the table `trials`, with the Pareto front.

    None where no trial has both.
    """
    column, title = _OBJECTIVES[objective]
    values = table.column(column)
    pairs = zip(data.trials, values, strict=True)
    rows = [i for i, (t, own) in enumerate(pairs) if t.score is not None and own is not None]
    if not rows:
        return None
    front = [i for i in rows if data.trials[i].pareto]
    others = [i for i in rows if not data.trials[i].pareto]
    place = {"x": column, "y": "score"}
    traces = []

    def add(name: str, own: list[int], marker: Props) -> None:
        columns = {**place, "customdata": ["trial"]}
        told = "<b>trial %{customdata[0]}</b><br>score %{y:.4f}<br>%{x:.4~s}<extra></extra>"
        look = {"name": name, "marker": marker, "hovertemplate": told}
        if own:
            traces.append(scatter("markers", table, columns, own, **look))

    add("other trials", others, {"size": 7, "color": colour("pruned")})
    # With a third objective the front is no line in the plane of two.
    if front and len(data.view.objectives) == 2:
        by_cost = sorted(front, key=lambda i: float(str(values[i])))
        # Steps: up to each trial's cost, the best score is that of the trial before it.
        line = {"shape": "hv", "color": colour("best"), "width": 1.5}
        traces.append(
            scatter("lines", table, place, by_cost, line=line, hoverinfo="skip", showlegend=False)
        )
    add("Pareto front", front, BEST_MARKER)
    xaxis = {"rangemode": "tozero", "nticks": 6, "exponentformat": "SI"}
    shape = layout(340, title, "score", xaxis=xaxis, legend=True)
    return {"data": traces, "layout": shape}
