"""Figures of the trials, drawn from the report's numbers as Plotly JSON."""

from __future__ import annotations

from typing import Any

from raffect.report.data import Part, ReportData, Trial
from raffect.report.naming import duration
from raffect.report.palette import colour
from raffect.report.style import (
    STATE_NAMES,
    STATE_STYLE,
    Figure,
    layout_of,
    legend_above,
    marker,
    row_height,
    safe,
)


def history(data: ReportData) -> Figure:
    """All trials' scores in the order of their numbers, and the best so far as a step."""
    traces: list[dict[str, Any]] = []
    steps = [trial for trial in data.trials if trial.best_so_far is not None]
    traces.append(
        {
            "type": "scatter",
            "mode": "lines",
            "name": "best so far",
            "x": [trial.number for trial in steps],
            "y": [trial.best_so_far for trial in steps],
            "line": {"shape": "hv", "color": colour("best"), "width": 2},
            "hoverinfo": "skip",
        }
    )
    for state in data.counts:
        trials = [trial for trial in data.trials if trial.state == state]
        traces.append(_points([t for t in trials if t.score is not None], state))
        if state == "FAIL":
            without = [trial for trial in trials if trial.score is None]
            traces.append(_rug(without, state, shown=len(without) == len(trials)))
    layout = layout_of(
        340,
        "trial number",
        "score",
        showlegend=True,
        legend=legend_above(),
        yaxis2={"overlaying": "y", "range": [0, 1], "visible": False, "fixedrange": True},
    )
    return {"data": [trace for trace in traces if trace["x"]], "layout": layout}


def _points(trials: list[Trial], state: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": STATE_NAMES[state],
        "x": [trial.number for trial in trials],
        "y": [trial.score for trial in trials],
        "customdata": [[trial.epochs, duration(trial.seconds)] for trial in trials],
        "marker": marker(state, 8),
        "hovertemplate": (
            "<b>trial %{x}</b><br>score %{y:.4f}<br>%{customdata[0]} epochs, %{customdata[1]}"
            f"<extra>{STATE_NAMES[state]}</extra>"
        ),
    }


def _rug(trials: list[Trial], state: str, shown: bool) -> dict[str, Any]:
    """Trials without a score: marks at the bottom, where they can't be taken for low scores."""
    return {
        "type": "scatter",
        "mode": "markers",
        "name": STATE_NAMES[state],
        "x": [trial.number for trial in trials],
        "y": [0.02 for _ in trials],
        "yaxis": "y2",
        "text": [safe(trial.reason or "no score") for trial in trials],
        "marker": marker(state, 8),
        "showlegend": shown,
        "hovertemplate": "<b>trial %{x}</b><br>%{text}<extra></extra>",
    }


def curves(data: ReportData) -> Figure:
    """Score by epoch of every trial; pruned ones end early, in an open circle."""
    others = [trial for trial in data.trials if trial.number != data.best]
    traces = []
    for state in ("PRUNED", "COMPLETE", "RUNNING", "FAIL"):
        trials = [trial for trial in others if trial.state == state and trial.curve]
        if trials:
            traces.append(_bundle(trials, state))
    ends = [trial for trial in others if trial.state == "PRUNED" and trial.curve]
    if ends:
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": [trial.curve[-1].epoch for trial in ends],
                "y": [trial.curve[-1].score for trial in ends],
                "marker": marker("PRUNED", 5),
                "hoverinfo": "skip",
                "showlegend": False,
            }
        )
    best = data.best_trial
    if best is not None and best.curve:
        traces += _best_curve(best)
    layout = layout_of(
        340,
        "epoch",
        "score on validation",
        showlegend=True,
        legend=legend_above(),
        xaxis=_epoch_axis(max(trial.epochs for trial in data.trials)),
    )
    return {"data": traces, "layout": layout}


def _epoch_axis(last: int) -> dict[str, Any]:
    """From the first epoch to the last, with ticks at whole numbers only."""
    room = max(0.25, 0.03 * last)
    ticks = {"dtick": 1} if last <= 8 else {}
    return {"range": [1 - room, last + room], **ticks}


def _bundle(trials: list[Trial], state: str) -> dict[str, Any]:
    """Many curves as one line with gaps, which draws and hovers much faster than many lines."""
    x: list[int | None] = []
    y: list[float | None] = []
    numbers: list[int | None] = []
    for trial in trials:
        x += [*(epoch.epoch for epoch in trial.curve), None]
        y += [*(epoch.score for epoch in trial.curve), None]
        numbers += [*(trial.number for _ in trial.curve), None]
    lone = any(len(trial.curve) == 1 for trial in trials) and state != "PRUNED"
    style = STATE_STYLE[state]
    return {
        "type": "scatter",
        "mode": "lines+markers" if lone else "lines",
        "marker": {"size": 4, "color": style["color"]},
        "name": STATE_NAMES[state],
        "x": x,
        "y": y,
        "customdata": numbers,
        "line": {"color": style["color"], "width": 1.25},
        "opacity": 0.55,
        "hovertemplate": (
            "<b>trial %{customdata}</b><br>epoch %{x}, score %{y:.4f}"
            f"<extra>{STATE_NAMES[state]}</extra>"
        ),
    }


def _best_curve(best: Trial) -> list[dict[str, Any]]:
    line = {
        "type": "scatter",
        "mode": "lines",
        "name": f"best: trial {best.number}",
        "x": [epoch.epoch for epoch in best.curve],
        "y": [epoch.score for epoch in best.curve],
        "line": {"color": colour("best"), "width": 3},
        "hovertemplate": f"<b>trial {best.number}</b><br>epoch %{{x}}, score %{{y:.4f}}"
        "<extra>best</extra>",
    }
    peak = {
        "type": "scatter",
        "mode": "markers",
        "x": [best.best_epoch],
        "y": [best.score],
        "marker": {
            "size": 11,
            "color": colour("best"),
            "line": {"width": 2, "color": colour("halo")},
        },
        "hoverinfo": "skip",
        "showlegend": False,
    }
    return [line, peak] if best.best_epoch is not None else [line]


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
