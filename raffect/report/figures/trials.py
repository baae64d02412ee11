"""Figures of the trials: scores in order and over device time, learning curves, and cost."""

from __future__ import annotations

import math
from collections.abc import Sequence

from raffect.report.data import Cost, ReportData
from raffect.report.figures.style import (
    BEST_MARKER,
    STATE_COLOURS,
    Figure,
    Props,
    bar_layout,
    bars,
    colour,
    layout,
    marker,
    scatter,
)
from raffect.report.tables import Columns, Table, from_table, rounded
from raffect.sweep.attributes import STATE_NAMES
from raffect.sweep.records import TrialRow
from raffect.text import duration, short_duration

_HEIGHT = 340
_TICK_STEPS = (
    0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30,
    60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200,
)  # fmt: skip
"""Distances of ticks on an axis of seconds, up to half a day."""


def history(data: ReportData, table: Table) -> Figure:
    """All trials' scores by number, from the table `trials`, and the best so far as a step."""
    best = [i for i, trial in enumerate(data.trials) if trial.number in data.best_so_far]
    traces = [_steps(table, "trial", best)] if best else []
    for state in data.states:
        own = [(i, trial) for i, trial in enumerate(data.trials) if trial.state == state]
        scored = [i for i, trial in own if trial.score is not None]
        unscored = [i for i, trial in own if trial.score is None]
        if scored:
            columns = {"x": "trial", "y": "score", "customdata": ["epochs", "seconds"]}
            told = "<b>trial %{x}</b><br>score %{y:.4f}<br>%{customdata[0]} epochs, "
            told += f"%{{customdata[1]:.3~s}} s<extra>{STATE_NAMES[state]}</extra>"
            traces.append(_markers(table, columns, scored, state, 8, hovertemplate=told))
        if unscored and state in ("FAIL", "PRUNED"):
            # At the bottom, on an axis of their own, where they can't be taken for low scores.
            columns = {"x": "trial", "text": "reason"}
            told = "<b>trial %{x}</b><br>%{text}<extra></extra>"
            place = {"y": [0.02] * len(unscored), "yaxis": "y2", "showlegend": not scored}
            look = {**place, "hovertemplate": told}
            traces.append(_markers(table, columns, unscored, state, 8, **look))
    bottom = {"overlaying": "y", "range": [0, 1], "visible": False, "fixedrange": True}
    shape = layout(
        _HEIGHT, "trial number", "score", xaxis={"tickformat": ",d"}, legend=True, yaxis2=bottom
    )
    return {"data": traces, "layout": shape}


def device_time(data: ReportData, table: Table) -> Figure:
    """The table `device-time`: scores by the device time spent until each trial's end."""
    at = "device_seconds_so_far"
    best = [i for i, one in enumerate(data.by_end) if one.best is not None]
    traces = [_steps(table, at, best)] if best else []
    for state in data.states:
        own = [i for i, t in enumerate(data.by_end) if t.state == state and t.score is not None]
        if own:
            columns = {"x": at, "y": "score", "customdata": ["trial"]}
            told = "<b>trial %{customdata[0]}</b><br>score %{y:.4f}<br>after %{x:.3~s} s"
            told += f"<extra>{STATE_NAMES[state]}</extra>"
            traces.append(_markers(table, columns, own, state, 6, hovertemplate=told))
    last = max((one.device_seconds for one in data.by_end), default=0.0)
    title = "device time until the trial ended"
    shape = layout(_HEIGHT, title, "score", xaxis=time_axis(last), legend=True)
    return {"data": traces, "layout": shape}


def _steps(table: Table, at: str, rows: Sequence[int]) -> Props:
    """The best score so far."""
    return scatter(
        "lines",
        table,
        {"x": at, "y": "best_so_far"},
        rows,
        name="best so far",
        line={"shape": "hv", "color": colour("best"), "width": 2},
        hoverinfo="skip",
    )


def _markers(
    table: Table, columns: Columns, rows: Sequence[int], state: str, size: int, **more: object
) -> Props:
    """Trials of one state."""
    look = {"name": STATE_NAMES[state], "marker": marker(state, size)}
    return scatter("markers", table, columns, rows, **look, **more)


def curves(data: ReportData, table: Table) -> Figure:
    """The table `epochs`: every trial's score; pruned ones end early, in an open circle."""
    rows, start = {}, 0
    for trial in data.trials:
        if trial.curve:
            rows[trial.number] = range(start, start + len(trial.curve))
            start += len(trial.curve)
    others = [t for t in data.trials if t.number != data.best_number and t.number in rows]
    traces = []
    for state in ("PRUNED", "COMPLETE", "RUNNING", "FAIL"):
        own = [rows[trial.number] for trial in others if trial.state == state]
        if own:
            traces.append(_bundle(table, own, state))
    ends = [rows[trial.number][-1] for trial in others if trial.state == "PRUNED"]
    quiet = {"hoverinfo": "skip", "showlegend": False}
    if ends:
        look = {"marker": marker("PRUNED", 5), **quiet}
        traces.append(scatter("markers", table, {"x": "epoch", "y": "score"}, ends, **look))
    best = data.best
    if best is not None and best.number in rows:
        traces.append(_best_curve(best, table, rows[best.number]))
        if best.best_epoch is not None:
            point = {"type": "scatter", "mode": "markers", "marker": BEST_MARKER}
            traces.append({**point, "x": [best.best_epoch], "y": [best.score], **quiet})
    last = max(trial.epochs for trial in data.trials)
    room = max(0.25, 0.03 * last)
    # Left to itself, Plotly puts ticks between few epochs.
    ticks: Props = {"range": [1 - room, last + room]} | ({"dtick": 1} if last <= 8 else {})
    shape = layout(_HEIGHT, "epoch", "score on validation", xaxis=ticks, legend=True)
    return {"data": traces, "layout": shape}


def _bundle(table: Table, rows: Sequence[range], state: str) -> Props:
    """Many curves as one line with gaps, which draws and hovers much faster than many lines."""
    single = any(len(own) == 1 for own in rows) and state != "PRUNED"
    stretches = [[own.start, own.stop] for own in rows]
    columns = {"x": "epoch", "y": "score", "customdata": ["trial"]}
    shade = STATE_COLOURS[state]
    return {
        "type": "scatter",
        # A line of one epoch would not be seen.
        "mode": "lines+markers" if single else "lines",
        "marker": {"size": 4, "color": shade},
        "name": STATE_NAMES[state],
        **from_table(table, columns, stretches, gaps=True),
        "line": {"color": shade, "width": 1.25},
        "opacity": 0.55,
        "hovertemplate": (
            "<b>trial %{customdata[0]}</b><br>epoch %{x}, score %{y:.4f}"
            f"<extra>{STATE_NAMES[state]}</extra>"
        ),
    }


def _best_curve(best: TrialRow, table: Table, rows: range) -> Props:
    return scatter(
        "lines",
        table,
        {"x": "epoch", "y": "score"},
        rows,
        name=f"best: trial {best.number}",
        line={"color": colour("best"), "width": 3},
        hovertemplate=f"<b>trial {best.number}</b><br>epoch %{{x}}, score %{{y:.4f}}"
        "<extra>best</extra>",
    )


def time_axis(last: float, most: int = 6) -> Props:
    """An axis of seconds from 0, with at most `most` + 1 ticks at whole minutes, hours or days."""
    days = 86400 * math.ceil(last / 86400 / most)
    step = next((step for step in _TICK_STEPS if last / step <= most), days)
    ticks = [step * i for i in range(int(last / step) + 1)]
    end = last or 1.0
    return {
        "range": [-0.02 * end, 1.03 * end],
        "tickmode": "array",
        "tickvals": ticks,
        "ticktext": [short_duration(seconds) for seconds in ticks],
    }


def cost_bars(cost: Cost) -> Figure:
    """Device time by how the trials ended."""
    rows = list(reversed(cost.states))
    longest = max(own.device_seconds for own in rows)
    trace = bars(
        [STATE_NAMES[own.state] for own in rows],
        [rounded(own.device_seconds, 3) for own in rows],
        [duration(own.device_seconds) for own in rows],
        [STATE_COLOURS[own.state] for own in rows],
        hovertemplate="%{y}: %{text}<extra></extra>",
    )
    xaxis = {**time_axis(longest, 3), "range": [0, 1.4 * longest]}
    return {"data": [trace], "layout": bar_layout(len(rows), "device time", xaxis)}
