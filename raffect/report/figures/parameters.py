"""Figures of the searched parameters: importance, the two depths together, one by one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any

from raffect.report.data import Grid, Importance, ReportData, Slice, scored
from raffect.report.figures.style import (
    BEST_RING,
    Figure,
    colour,
    colour_scale,
    layout_of,
    legend_above,
    marker,
    row_height,
    safe,
)
from raffect.report.tables import Table, from_table, ranges
from raffect.report.tables_of_sweep import PREFIX
from raffect.sweep.attributes import STATE_NAMES
from raffect.text import short_value

SLICE_HEIGHT = 200


def importance_bars(found: Importance, names: dict[str, str]) -> Figure:
    """Shares of importance, the largest on top."""
    rows = list(reversed(found.shares))
    trace = {
        "type": "bar",
        "orientation": "h",
        "x": [share for _, share in rows],
        "y": [safe(names[name]) for name, _ in rows],
        "text": [f"{share:.0%}" for _, share in rows],
        "textposition": "outside",
        "textfont": {"color": colour("ink")},
        "cliponaxis": False,
        "marker": {"color": colour("blue")},
        "customdata": [safe(name) for name, _ in rows],
        "hovertemplate": "%{customdata}<br>%{x:.1%}<extra></extra>",
    }
    top = max((share for _, share in rows), default=1.0)
    layout = layout_of(
        row_height(len(rows)),
        "share of the importance",
        "",
        bargap=0.42,
        xaxis={"range": [0, top * 1.18], "tickformat": ".0%", "showgrid": True, "nticks": 4},
        yaxis={"showgrid": False, "tickfont": {"color": colour("ink")}},
    )
    return {"data": [trace], "layout": layout}


def heat_map(found: Grid) -> Figure:
    """The best score of each TCN depth and number of Transformer layers."""
    cells = [score for row in found.scores for score in row if score is not None]
    low, high = min(cells), max(cells)
    texts = [["" if score is None else f"{score:.3f}" for score in row] for row in found.scores]
    trace = {
        "type": "heatmap",
        "x": [str(value) for value in found.x_values],
        "y": [str(value) for value in found.y_values],
        "z": [list(row) for row in found.scores],
        "customdata": [list(row) for row in found.counts],
        "text": texts,
        "texttemplate": "%{text}",
        "textfont": {"size": 12, "color": colour("ink")},
        "xgap": 3,
        "ygap": 3,
        "hoverongaps": False,
        "zmin": low,
        "zmax": high if high > low else low + 1e-9,
        "colorscale": colour_scale("heat"),
        "colorbar": {
            "thickness": 10,
            "outlinewidth": 0,
            "nticks": 5,
            "tickformat": ".3f" if high - low < 0.05 else ".2f",
            "title": {"text": "best score", "side": "right", "font": {"size": 12}},
        },
        "hovertemplate": (
            "TCN depth %{x}, %{y} Transformer layers<br>best score %{z:.4f}"
            "<br>trials: %{customdata}<extra></extra>"
        ),
    }
    layout = layout_of(
        max(260, 110 + 44 * len(found.y_values)),
        "TCN depth, residual blocks",
        "Transformer layers",
        xaxis={"type": "category"},
        yaxis={"type": "category", "showgrid": False},
    )
    return {"data": [trace], "layout": layout}


def slice_plot(found: Slice, best: int | None, trials: Table, height: int) -> Figure:
    """Scores against one parameter; the best trial has a ring."""
    rows = {number: row for row, number in enumerate(trials.column("trial"))}
    traces = []
    for state in ("PRUNED", "COMPLETE"):
        pairs = zip(found.numbers, found.states, strict=True)
        own = sorted(rows[number] for number, its in pairs if its == state)
        if own:
            traces.append(_slice_points(found, trials, own, state))
    if best in found.numbers:
        trace = _slice_points(found, trials, [rows[best]], "COMPLETE")
        traces.append(trace | {"marker": BEST_RING})
    layout = layout_of(height, "", "score", xaxis=axis_layout(found), yaxis={"nticks": 5})
    return {"data": traces, "layout": layout}


def axis_layout(found: Slice) -> dict[str, Any]:
    """How an axis of one parameter's values is drawn."""
    values = list(found.values)
    axis: dict[str, Any] = {
        "type": {"log": "log", "category": "category"}.get(found.axis, "linear")
    }
    if found.axis == "log":
        axis |= _decades([float(v) for v in values])
    elif found.axis == "category":
        kinds = sorted({safe(short_value(v)) for v in values})
        axis |= {"categoryorder": "array", "categoryarray": kinds}
    elif all(isinstance(v, int) for v in values):
        axis |= {"tickmode": "array", "tickvals": _some(sorted(set(values)))}
    return axis


def _slice_points(found: Slice, trials: Table, rows: list[int], state: str) -> dict[str, Any]:
    column = f"{PREFIX}{found.name}"
    columns = {"x": column, "y": "score", "customdata": ["trial", column]}
    return {
        "type": "scatter",
        "mode": "markers",
        **from_table(trials, columns, ranges(rows)),
        "marker": {**marker(state, 7), "opacity": 0.8},
        "hovertemplate": (
            "<b>trial %{customdata[0]}</b><br>%{customdata[1]}<br>score %{y:.4f}"
            f"<extra>{STATE_NAMES[state]}</extra>"
        ),
    }


def _some(values: list[int], most: int = 8) -> list[int]:
    step = math.ceil(len(values) / most)
    return values[::step]


def _decades(values: list[float]) -> dict[str, Any]:
    """Ticks at the powers of ten, and at three times them where few decades are spanned."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    steps = (1, 3) if high - low < 2 else (1,)
    ticks = [(step, power) for power in range(low, high + 1) for step in steps]
    return {
        "tickmode": "array",
        "tickvals": [step * 10.0**power for step, power in ticks],
        "ticktext": [f"{step}e{power}" for step, power in ticks],
    }


LOSSES = "losses."
MOST_PAIRS = 3
HEIGHT = 260
_COLUMNS = {"latency": "latency_ms", "parameters": "parameters"}
_TITLES = {"latency": "milliseconds per 1,000 frames", "parameters": "trainable weights"}


def loss_slices(data: ReportData) -> list[Slice]:
    """The searched weights of the loss that varied."""
    return [found for found in data.slices if found.name.startswith(LOSSES)]


def loss_pairs(data: ReportData) -> list[tuple[Slice, Slice]]:
    """Pairs of these, those of the most important ones first."""
    shares = dict(data.importance.shares)
    found = sorted(loss_slices(data), key=lambda own: -shares.get(own.name, 0.0))
    together = [
        (a, b) for a, b in combinations(found, 2) if len(set(a.numbers) & set(b.numbers)) > 1
    ]
    return together[:MOST_PAIRS]


def pair_plot(
    a: Slice, b: Slice, data: ReportData, trials: Table, names: dict[str, str]
) -> Figure:
    """The trials by two parameters, coloured by score."""
    both = set(a.numbers) & set(b.numbers)
    rows = [i for i, trial in enumerate(data.trials) if trial.number in both]
    scores = sorted(score for trial, score in scored(data.trials) if trial.number in both)
    x, y = f"{PREFIX}{a.name}", f"{PREFIX}{b.name}"
    columns = {"x": x, "y": y, "marker.color": "score"}
    points = {
        "type": "scatter",
        "mode": "markers",
        **from_table(trials, {**columns, "customdata": ["trial", "score"]}, ranges(rows)),
        "marker": {
            "size": 9,
            "colorscale": colour_scale("scale"),
            # A few bad trials would take all colours.
            "cmin": scores[len(scores) // 4],
            "cmax": scores[-1],
            "colorbar": {
                "thickness": 10,
                "outlinewidth": 0,
                "nticks": 5,
                "title": {"text": "score", "side": "right", "font": {"size": 12}},
            },
        },
        "hovertemplate": (
            "<b>trial %{customdata[0]}</b><br>%{x:.4~g}, %{y:.4~g}"
            "<br>score %{customdata[1]:.4f}<extra></extra>"
        ),
    }
    best = [i for i in rows if data.trials[i].number == data.best]
    ring = {
        "type": "scatter",
        "mode": "markers",
        **from_table(trials, {"x": x, "y": y}, ranges(best)),
        "marker": {
            "symbol": "circle-open",
            "size": 14,
            "color": colour("best"),
            "line": {"width": 2.5},
        },
        "hoverinfo": "skip",
    }
    layout = layout_of(
        HEIGHT,
        safe(names[a.name]),
        safe(names[b.name]),
        xaxis=axis_layout(a),
        yaxis=axis_layout(b),
    )
    return {"data": [points, ring] if best else [points], "layout": layout}


def trade_off(data: ReportData, trials: Table, objective: str) -> Figure | None:
    """Score against another objective, with the front; None where no trial has both."""
    column = _COLUMNS[objective]
    values = dict(enumerate(trials.column(column)))
    rows = [
        i
        for i, trial in enumerate(data.trials)
        if trial.score is not None and values[i] is not None
    ]
    if not rows:
        return None
    front = [i for i in rows if data.trials[i].pareto]
    others = [i for i in rows if not data.trials[i].pareto]
    # Seen against one of several other objectives, a front is no line.
    line = _by_value(front, values) if len(data.objectives) == 2 else []
    traces = [
        _marks(trials, column, others, "other trials", {"size": 7, "color": colour("pruned")}),
        _front_line(trials, column, line),
        _marks(trials, column, front, "Pareto front", BEST_RING),
    ]
    layout = layout_of(
        340,
        _TITLES[objective],
        "score",
        showlegend=True,
        legend=legend_above(),
        xaxis={"rangemode": "tozero", "nticks": 6, "exponentformat": "SI"},
    )
    return {"data": [trace for trace in traces if trace["rows"]], "layout": layout}


def _by_value(rows: Sequence[int], values: dict[int, Any]) -> list[list[int]]:
    """Single rows in the order of their values."""
    return [[i, i + 1] for i in sorted(rows, key=lambda i: float(values[i]))]


def _marks(
    trials: Table, column: str, rows: list[int], name: str, look: dict[str, Any]
) -> dict[str, Any]:
    columns = {"x": column, "y": "score", "customdata": ["trial"]}
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        **from_table(trials, columns, ranges(rows)),
        "marker": look,
        "hovertemplate": (
            "<b>trial %{customdata[0]}</b><br>score %{y:.4f}<br>%{x:.4~s}<extra></extra>"
        ),
    }


def _front_line(trials: Table, column: str, rows: list[list[int]]) -> dict[str, Any]:
    """Up to each trial's cost, the best score is that of the trial before it."""
    return {
        "type": "scatter",
        "mode": "lines",
        **from_table(trials, {"x": column, "y": "score"}, rows),
        "line": {"shape": "hv", "color": colour("best"), "width": 1.5},
        "hoverinfo": "skip",
        "showlegend": False,
    }
