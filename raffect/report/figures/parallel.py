"""Parallel coordinates of the searched parameters, coloured by score.

The axes lie one below the other, so that names of any length stay legible on any screen. Plotly's
own parallel coordinates need WebGL and drop a trial that lacks a parameter; conditional parameters
are often absent, and have a place of their own here, "not used".
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from raffect.report.data import ReportData, Slice, scored
from raffect.report.figures.style import INK, LEGEND, Figure, Props, colour, layout, safe
from raffect.sweep.records import TrialRow
from raffect.text import short_value

NOT_USED = -0.16
"""Place of a parameter that a trial does not have, on an axis from 0 to 1."""
_MOST_AXES = 12
_FEWEST = 2
_SHADES = {"lower half": 0.5, "top 50 %": 0.75, "top 25 %": 0.9, "top 10 %": 0.97, "top 3 %": 1.0}
"""Each shade's trials, and the share of all trials, from the worst on, at which it ends."""
_CROWD = 60
"""Lines of one shade that can still be told apart; more are drawn more transparent."""

Places = Mapping[str, Mapping[int, float]]
"""By parameter and trial number the place on the parameter's axis, from 0 to 1."""


def parallel(data: ReportData, names: dict[str, str]) -> Figure | None:
    """A line per trial through its parameters' values; None where fewer than two ever varied."""
    # The most important parameter on top.
    order = {name: place for place, (name, _) in enumerate(data.importance.shares)}
    axes = sorted(data.slices, key=lambda axis: order.get(axis.name, len(order)))[:_MOST_AXES]
    trials = [trial for trial, _ in sorted(scored(data.trials), key=lambda pair: pair[1])]
    if len(axes) < _FEWEST or len(trials) < _FEWEST:
        return None
    places = {axis.name: _places(axis, trials) for axis in axes}
    traces = [
        _lines(group, axes, places, f"scale-{shade}", 1.25, name)
        for shade, (name, group) in enumerate(zip(_SHADES, _shades(trials), strict=True))
        if group
    ]
    best = data.best
    if best is not None:
        traces.append(_lines([best], axes, places, "best", 3, f"best: trial {best.number}"))
    shape = _layout(axes, names, places, trials)
    return {"data": traces, "layout": {**shape, "annotations": _ticks(axes, places, trials)}}


def _places(axis: Slice, trials: Sequence[TrialRow]) -> dict[int, float]:
    """Where each trial's value lies on an axis, by the trial's number."""
    values = {t.number: t.params[axis.name] for t in trials if axis.name in t.params}
    if axis.axis == "category":
        kinds = sorted({short_value(value) for value in axis.values})
        where = {kind: _share(place, 0, len(kinds) - 1) for place, kind in enumerate(kinds)}
        return {number: where.get(short_value(v), NOT_USED) for number, v in values.items()}
    scale = math.log if axis.axis == "log" else float
    low, high = scale(min(axis.values)), scale(max(axis.values))
    return {number: _share(scale(value), low, high) for number, value in values.items()}


def _share(value: float, low: float, high: float) -> float:
    return round((value - low) / (high - low), 4) if high > low else 0.5


def _shades(trials: Sequence[TrialRow]) -> list[Sequence[TrialRow]]:
    """Trials from the worst to the best, in a group for each shade.

    Groups by rank, and fewer trials the better they are: a few good lines can be followed with
    the eye, and a few bad scores don't take all colours.
    """
    ends = [round(share * len(trials)) for share in _SHADES.values()]
    return [trials[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def _lines(
    trials: Sequence[TrialRow],
    axes: Sequence[Slice],
    places: Places,
    shade: str,
    width: float,
    name: str,
) -> Props:
    """Many trials as one line with gaps."""
    x: list[float | None] = []
    hover: list[list[Any] | None] = []
    for trial in trials:
        x += [*(places[axis.name].get(trial.number, NOT_USED) for axis in axes), None]
        values = (short_value(trial.params.get(a.name, "not used")) for a in axes)
        hover += [*([trial.number, trial.score, safe(value)] for value in values), None]
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": x,
        "y": [*range(len(axes)), None] * len(trials),
        "customdata": hover,
        "line": {"color": colour(shade), "width": width},
        "opacity": round(max(0.3, min(1.0, _CROWD / max(len(trials), 1))), 2),
        "hovertemplate": (
            "<b>trial %{customdata[0]}</b><br>score %{customdata[1]:.4f}<br>%{customdata[2]}"
            "<extra></extra>"
        ),
    }


def _ticks(axes: Sequence[Slice], places: Places, trials: Sequence[TrialRow]) -> list[Props]:
    """The values at the ends of each axis, and all of its categories, just above it."""
    labels: list[tuple[float, int, str]] = []
    for row, axis in enumerate(axes):
        if axis.axis == "category":
            own = [trial for trial in trials if axis.name in trial.params]
            texts = {short_value(t.params[axis.name]): places[axis.name][t.number] for t in own}
        else:
            texts = {short_value(min(axis.values)): 0.0, short_value(max(axis.values)): 1.0}
        labels += [(place, row, safe(text)) for text, place in texts.items()]
    return [
        {
            "x": place,
            "y": row,
            "text": text,
            "showarrow": False,
            "xanchor": "left" if place <= 0 else "right" if place >= 1 else "center",
            "yanchor": "bottom",
            "yshift": 1,
            "borderpad": 0,
            "bgcolor": colour("card"),
            "font": {"color": colour("muted"), "size": 11},
        }
        for place, row, text in labels
    ]


def _layout(
    axes: Sequence[Slice], names: dict[str, str], places: Places, trials: Sequence[TrialRow]
) -> Props:
    is_absent = any(len(own) < len(trials) for own in places.values())
    rails = [
        {
            "type": "line",
            "layer": "below",
            "x0": 0,
            "x1": 1,
            "y0": row,
            "y1": row,
            "line": {"color": colour("line"), "width": 2},
        }
        for row in range(len(axes))
    ]
    shape = layout(
        110 + 44 * len(axes),
        showlegend=True,
        shapes=rails,
        hovermode="closest",
        xaxis={
            "range": [NOT_USED - 0.06 if is_absent else -0.03, 1.03],
            "tickvals": [NOT_USED] if is_absent else [],
            "ticktext": ["not used"] if is_absent else [],
            "side": "top",
            "showline": False,
        },
        yaxis={
            "range": [len(axes) - 0.7, -0.75],
            "tickvals": list(range(len(axes))),
            "ticktext": [safe(axis.title(names)) for axis in axes],
            "tickfont": INK,
            "showgrid": False,
            "showline": False,
        },
    )
    # Below: "not used" stands above.
    return {**shape, "legend": {**LEGEND, "y": -0.02, "yanchor": "top"}}
