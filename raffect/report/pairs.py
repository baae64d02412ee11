"""Figures of two quantities of the trials at once: pairs of loss weights, and trade-offs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

from raffect.report.data import ReportData, Slice
from raffect.report.palette import colour, colour_scale
from raffect.report.parameters import axis_layout
from raffect.report.style import BEST_RING, Figure, layout_of, legend_above, safe
from raffect.report.tables import Table, from_table, ranges
from raffect.report.tabulate import PREFIX
from raffect.report.trials import scored

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
