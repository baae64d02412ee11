"""Figures of the trials, drawn from the report's tables as Plotly JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from raffect.report.data import Cost, ReportData, Trial
from raffect.report.figures.style import (
    BEST_RING,
    STATE_STYLE,
    Figure,
    colour,
    layout_of,
    legend_above,
    marker,
    row_height,
)
from raffect.report.tables import Table, from_table, ranges, rounded
from raffect.sweep.attributes import STATE_NAMES
from raffect.text import duration, short_duration


def history(data: ReportData, trials: Table) -> Figure:
    """All trials' scores in the order of their numbers, and the best so far as a step."""
    so_far = [i for i, trial in enumerate(data.trials) if trial.best_so_far is not None]
    best = from_table(trials, {"x": "trial", "y": "best_so_far"}, ranges(so_far))
    traces = [steps(best)] if so_far else []
    for state in data.states:
        own = [(i, trial) for i, trial in enumerate(data.trials) if trial.state == state]
        with_score = [i for i, trial in own if trial.score is not None]
        without = [i for i, trial in own if trial.score is None]
        if with_score:
            columns = {"x": "trial", "y": "score", "customdata": ["epochs", "seconds"]}
            traces.append(points(from_table(trials, columns, ranges(with_score)), state))
        if without and state in ("FAIL", "PRUNED"):
            traces.append(_rug(trials, without, state, shown=not with_score))
    layout = layout_of(
        340,
        "trial number",
        "score",
        xaxis={"tickformat": ",d"},
        showlegend=True,
        legend=legend_above(),
        yaxis2={"overlaying": "y", "range": [0, 1], "visible": False, "fixedrange": True},
    )
    return {"data": traces, "layout": layout}


def steps(source: dict[str, Any]) -> dict[str, Any]:
    """The best score so far."""
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "best so far",
        **source,
        "line": {"shape": "hv", "color": colour("best"), "width": 2},
        "hoverinfo": "skip",
    }


def points(source: dict[str, Any], state: str) -> dict[str, Any]:
    """Trials of one state by their scores."""
    return {
        "type": "scatter",
        "mode": "markers",
        "name": STATE_NAMES[state],
        **source,
        "marker": marker(state, 8),
        "hovertemplate": (
            "<b>trial %{x}</b><br>score %{y:.4f}<br>%{customdata[0]} epochs, "
            f"%{{customdata[1]:.3~s}} s<extra>{STATE_NAMES[state]}</extra>"
        ),
    }


def _rug(trials: Table, indices: list[int], state: str, shown: bool) -> dict[str, Any]:
    """Trials without a score: marks at the bottom, where they can't be taken for low scores."""
    return {
        "type": "scatter",
        "mode": "markers",
        "name": STATE_NAMES[state],
        **from_table(trials, {"x": "trial", "text": "reason"}, ranges(indices)),
        "y": [0.02 for _ in indices],
        "yaxis": "y2",
        "marker": marker(state, 8),
        "showlegend": shown,
        "hovertemplate": "<b>trial %{x}</b><br>%{text}<extra></extra>",
    }


def curves(data: ReportData, epochs: Table) -> Figure:
    """Score by epoch of every trial; pruned ones end early, in an open circle."""
    rows = _rows_of_trials(data.trials)
    others = [t for t in data.trials if t.number != data.best and t.number in rows]
    traces = []
    for state in ("PRUNED", "COMPLETE", "RUNNING", "FAIL"):
        trials = [trial for trial in others if trial.state == state]
        if trials:
            traces.append(_bundle(epochs, trials, rows, state))
    ends = [rows[trial.number][1] - 1 for trial in others if trial.state == "PRUNED"]
    if ends:
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                **from_table(epochs, {"x": "epoch", "y": "score"}, ranges(ends)),
                "marker": marker("PRUNED", 5),
                "hoverinfo": "skip",
                "showlegend": False,
            }
        )
    best = data.best_trial
    if best is not None and best.number in rows:
        traces += _best_curve(best, epochs, rows[best.number])
    layout = layout_of(
        340,
        "epoch",
        "score on validation",
        showlegend=True,
        legend=legend_above(),
        xaxis=_epoch_axis(max(trial.epochs for trial in data.trials)),
    )
    return {"data": traces, "layout": layout}


def _rows_of_trials(trials: Sequence[Trial]) -> dict[int, list[int]]:
    """Where each trial's epochs are in their table."""
    rows, start = {}, 0
    for trial in trials:
        if trial.curve:
            rows[trial.number] = [start, start + len(trial.curve)]
            start += len(trial.curve)
    return rows


def _epoch_axis(last: int) -> dict[str, Any]:
    """From the first epoch to the last, with ticks at whole numbers only."""
    room = max(0.25, 0.03 * last)
    ticks = {"dtick": 1} if last <= 8 else {}
    return {"range": [1 - room, last + room], **ticks}


def _bundle(
    epochs: Table, trials: list[Trial], rows: dict[int, list[int]], state: str
) -> dict[str, Any]:
    """Many curves as one line with gaps, which draws and hovers much faster than many lines."""
    lone = any(len(trial.curve) == 1 for trial in trials) and state != "PRUNED"
    style = STATE_STYLE[state]
    columns = {"x": "epoch", "y": "score", "customdata": ["trial"]}
    return {
        "type": "scatter",
        "mode": "lines+markers" if lone else "lines",
        "marker": {"size": 4, "color": style["color"]},
        "name": STATE_NAMES[state],
        **from_table(epochs, columns, [rows[trial.number] for trial in trials], gaps=True),
        "line": {"color": style["color"], "width": 1.25},
        "opacity": 0.55,
        "hovertemplate": (
            "<b>trial %{customdata[0]}</b><br>epoch %{x}, score %{y:.4f}"
            f"<extra>{STATE_NAMES[state]}</extra>"
        ),
    }


def _best_curve(best: Trial, epochs: Table, rows: list[int]) -> list[dict[str, Any]]:
    line = {
        "type": "scatter",
        "mode": "lines",
        "name": f"best: trial {best.number}",
        **from_table(epochs, {"x": "epoch", "y": "score"}, [rows]),
        "line": {"color": colour("best"), "width": 3},
        "hovertemplate": f"<b>trial {best.number}</b><br>epoch %{{x}}, score %{{y:.4f}}"
        "<extra>best</extra>",
    }
    peak = {
        "type": "scatter",
        "mode": "markers",
        "x": [best.best_epoch],
        "y": [best.score],
        "marker": BEST_RING,
        "hoverinfo": "skip",
        "showlegend": False,
    }
    return [line, peak] if best.best_epoch is not None else [line]


_STEPS = (
    0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30,
    60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200,
)  # fmt: skip
"""Distances of ticks on an axis of seconds, up to half a day."""


def device_time(data: ReportData, spent: Table) -> Figure:
    """The scores in the order in which trials ended, by the device time spent until then."""
    at = "device_seconds_so_far"
    best = [i for i, one in enumerate(data.spent) if one.best is not None]
    so_far = from_table(spent, {"x": at, "y": "best_so_far"}, ranges(best))
    traces = [steps(so_far)] if best else []
    for state in data.states:
        own = [
            i for i, one in enumerate(data.spent) if one.state == state and one.score is not None
        ]
        if own:
            columns = {"x": at, "y": "score", "customdata": ["trial"]}
            trace = points(from_table(spent, columns, ranges(own)), state)
            trace["marker"] = marker(state, 6)
            trace["hovertemplate"] = (
                "<b>trial %{customdata[0]}</b><br>score %{y:.4f}<br>after %{x:.3~s} s"
                f"<extra>{STATE_NAMES[state]}</extra>"
            )
            traces.append(trace)
    last = max((one.device_seconds for one in data.spent), default=0.0)
    layout = layout_of(
        340,
        "time of devices until the trial ended",
        "score",
        showlegend=True,
        legend=legend_above(),
        xaxis=time_axis(last),
    )
    return {"data": traces, "layout": layout}


def time_axis(last: float, most: int = 6) -> dict[str, Any]:
    """An axis of seconds from 0 on, with so many ticks at whole minutes, hours or days at most."""
    step = next((s for s in _STEPS if last / s <= most), 86400 * math.ceil(last / 86400 / most))
    ticks = [step * i for i in range(int(last / step) + 1)]
    end = last or 1.0
    return {
        "range": [-0.02 * end, 1.03 * end],
        "tickmode": "array",
        "tickvals": ticks,
        "ticktext": [short_duration(seconds) for seconds in ticks],
    }


def cost_bars(cost: Cost) -> Figure:
    """Time of devices by how the trials ended."""
    rows = list(reversed(cost.states))
    longest = max(own.device_seconds for own in rows)
    trace = {
        "type": "bar",
        "orientation": "h",
        "x": [rounded(own.device_seconds, 3) for own in rows],
        "y": [STATE_NAMES[own.state] for own in rows],
        "text": [duration(own.device_seconds) for own in rows],
        "textposition": "outside",
        "textfont": {"color": colour("ink")},
        "cliponaxis": False,
        "marker": {"color": [STATE_STYLE[own.state]["color"] for own in rows]},
        "hovertemplate": "%{y}: %{text}<extra></extra>",
    }
    layout = layout_of(
        row_height(len(rows)),
        "time of devices",
        "",
        bargap=0.42,
        xaxis={**time_axis(longest, 3), "range": [0, 1.4 * longest], "showgrid": True},
        yaxis={"showgrid": False, "tickfont": {"color": colour("ink")}},
    )
    return {"data": [trace], "layout": layout}
