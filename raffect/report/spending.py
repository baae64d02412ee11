"""Figures of what a sweep took: scores by device time, and device time by how trials ended."""

from __future__ import annotations

import math
from typing import Any

from raffect.report.data import ReportData
from raffect.report.figures import points, steps
from raffect.report.naming import duration, short_duration
from raffect.report.outlay import Cost
from raffect.report.palette import colour
from raffect.report.style import (
    STATE_NAMES,
    STATE_STYLE,
    Figure,
    layout_of,
    legend_above,
    marker,
    row_height,
)
from raffect.report.tables import Table, from_table, ranges, rounded

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
