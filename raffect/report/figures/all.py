"""All figures of one sweep, why some are missing, and where the numbers of each are."""

from __future__ import annotations

from dataclasses import dataclass

from raffect.report.data import ReportData
from raffect.report.figures import best_model as outcomes
from raffect.report.figures import best_model as overtime
from raffect.report.figures import parameters
from raffect.report.figures import parameters as pairs
from raffect.report.figures import trials as figures
from raffect.report.figures import trials as spending
from raffect.report.figures.parallel import parallel
from raffect.report.figures.style import Figure
from raffect.report.tables import Table
from raffect.report.tables_of_sweep import tables_of
from raffect.text import short_names

TABLES = {
    "history": "trials",
    "device-time": "device-time",
    "curves": "epochs",
    "importance": "importance",
    "grid": "grid",
    "parallel": "trials",
    "parts": "parts",
    "confusion": "confusion",
    "cost": "cost",
}
"""Figure and the table that has its numbers; those not named here are drawn from `trials`."""
VIDEOS = "videos-over-time"


@dataclass(frozen=True)
class Drawing:
    """The figures of one sweep.

    Attributes:
        tables: The numbers, by name.
        figures: Plotly figures by key.
        missing: Why a figure is absent.
        slices: Parameter and the key of its figure; the loss weights are apart.
        losses: The same, of the loss weights.
        pairs: Two loss weights and the key of their figure.
        trade_offs: Objective and the key of its figure.
        videos: Keys of the videos' figures.
    """

    tables: dict[str, Table]
    figures: dict[str, Figure]
    missing: dict[str, str]
    slices: list[tuple[str, str]]
    losses: list[tuple[str, str]]
    pairs: list[tuple[str, str, str]]
    trade_offs: list[tuple[str, str]]
    videos: list[str]

    def table_of(self, key: str) -> str:
        """Name of the table that has a figure's numbers."""
        return VIDEOS if key in self.videos else TABLES.get(key, "trials")


def draw(data: ReportData) -> Drawing:
    """All figures of one sweep.

    Args:
        data: Its numbers, no more than a page can draw.
    """
    drawing = Drawing(tables_of(data), {}, missing(data), [], [], [], [], [])
    names = short_names(data.searched)
    _draw_trials(drawing, data)
    _draw_parameters(drawing, data, names)
    _draw_best(drawing, data)
    return drawing


def _draw_trials(drawing: Drawing, data: ReportData) -> None:
    tables, drawn = drawing.tables, drawing.figures
    if data.trials:
        drawn["history"] = figures.history(data, tables["trials"])
    if any(one.score is not None for one in data.spent):
        drawn["device-time"] = spending.device_time(data, tables["device-time"])
    if "epochs" in tables:
        drawn["curves"] = figures.curves(data, tables["epochs"])
    if data.cost.device_seconds > 0:
        drawn["cost"] = spending.cost_bars(data.cost)
    for index, objective in enumerate(data.objectives[1:]):
        figure = pairs.trade_off(data, tables["trials"], objective) if data.trials else None
        if figure is not None:
            drawing.trade_offs.append((objective, f"trade-off-{index}"))
            drawn[f"trade-off-{index}"] = figure


def _draw_parameters(drawing: Drawing, data: ReportData, names: dict[str, str]) -> None:
    tables, drawn = drawing.tables, drawing.figures
    if data.importance.shares:
        drawn["importance"] = parameters.importance_bars(data.importance, names)
    if data.grid is not None:
        drawn["grid"] = parameters.heat_map(data.grid)
    lines = parallel(data, names)
    if lines is not None:
        drawn["parallel"] = lines
    for index, found in enumerate(data.slices):
        key = f"slice-{index}"
        is_loss = found.name.startswith(pairs.LOSSES)
        (drawing.losses if is_loss else drawing.slices).append((found.name, key))
        height = pairs.HEIGHT if is_loss else parameters.SLICE_HEIGHT
        drawn[key] = parameters.slice_plot(found, data.best, tables["trials"], height)
    for index, (a, b) in enumerate(pairs.loss_pairs(data)):
        drawing.pairs.append((a.name, b.name, f"pair-{index}"))
        drawn[f"pair-{index}"] = pairs.pair_plot(a, b, data, tables["trials"], names)


def _draw_best(drawing: Drawing, data: ReportData) -> None:
    drawn, judged = drawing.figures, data.judged
    if data.parts:
        drawn["parts"] = outcomes.part_bars(data.parts)
    if judged is None:
        return
    drawn["confusion"] = outcomes.confusion(data.task, judged.confusion)
    for shown in judged.shown:
        key = f"video-{shown.why}"
        drawing.videos.append(key)
        drawn[key] = overtime.over_time(data.task, judged.curves, shown)


def missing(data: ReportData) -> dict[str, str]:
    """Why a figure is absent."""
    return {
        "history": "No trial has been started.",
        "device-time": "No trial has ended with a score.",
        "curves": "No trial has finished an epoch.",
        "importance": data.importance.missing,
        "grid": "Needs scored trials with different TCN depths or Transformer layers.",
        "parallel": "Needs scored trials with two different parameters or more.",
        "slices": "Needs scored trials with different parameters.",
        "losses": "No weight of the loss was searched, or none varied.",
        "parts": "No trial has a score with parts.",
        "confusion": data.unjudged,
        "videos": data.unjudged or "No video has a score of its own.",
        "cost": "No epoch was timed.",
        "trade-offs": "No trial has a value of every objective.",
    }
