"""All figures of one sweep, why some are missing, and which table holds the numbers of each."""

from __future__ import annotations

from dataclasses import dataclass, field

from raffect.report.data import ReportData
from raffect.report.figures import ablation, best_model, parameters, trials
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
    "ablation": "ablation",
    "ablation-difference": "ablation",
}
"""Table with a figure's numbers, by the figure's key; figures that are not named use `trials`."""


@dataclass(frozen=True)
class Drawing:
    """The figures of one sweep, and why one is missing, by key.

    Attributes:
        slices: Parameter and the key of its figure, without the weights of the loss.
        losses: The same for the weights of the loss.
        pairs: Two weights of the loss and the key of their figure.
        trade_offs: Objective and the key of its figure.
        videos: Keys of the videos' figures.
    """

    tables: dict[str, Table]
    missing: dict[str, str]
    figures: dict[str, Figure] = field(default_factory=dict)
    slices: list[tuple[str, str]] = field(default_factory=list)
    losses: list[tuple[str, str]] = field(default_factory=list)
    pairs: list[tuple[str, str, str]] = field(default_factory=list)
    trade_offs: list[tuple[str, str]] = field(default_factory=list)
    videos: list[str] = field(default_factory=list)

    def table_of(self, key: str) -> str:
        """Name of the table that holds a figure's numbers."""
        return "videos-over-time" if key in self.videos else TABLES.get(key, "trials")


def draw(data: ReportData) -> Drawing:
    """All figures of one sweep, of no more than a page can draw (tables_of_sweep.for_page)."""
    drawing = Drawing(tables_of(data), _missing(data))
    if data.ablation:
        _draw_ablation(drawing)
    else:
        _draw_parameters(drawing, data)
    _draw_trials(drawing, data)
    _draw_best(drawing, data)
    return drawing


def _draw_trials(drawing: Drawing, data: ReportData) -> None:
    tables, figures = drawing.tables, drawing.figures
    if data.trials:
        figures["history"] = trials.history(data, tables["trials"])
    if any(one.score is not None for one in data.by_end):
        figures["device-time"] = trials.device_time(data, tables["device-time"])
    if "epochs" in tables:
        figures["curves"] = trials.curves(data, tables["epochs"])
    if data.cost.device_seconds > 0:
        figures["cost"] = trials.cost_bars(data.cost)


def _draw_ablation(drawing: Drawing) -> None:
    table = drawing.tables["ablation"]
    if any(score is not None for score in table.column("mean")):
        drawing.figures["ablation"] = ablation.scores(table)
    if any(gap is not None for gap in table.column("difference")):
        drawing.figures["ablation-difference"] = ablation.differences(table)


def _draw_parameters(drawing: Drawing, data: ReportData) -> None:
    figures = drawing.figures
    names = short_names(data.searched)
    if data.importance.shares:
        figures["importance"] = parameters.importance_bars(data.importance, names)
    if data.grid is not None:
        figures["grid"] = parameters.depth_map(data.grid)
    if (lines := parallel(data, names)) is not None:
        figures["parallel"] = lines
    if not data.trials:
        return
    table = drawing.tables["trials"]
    for index, found in enumerate(data.slices):
        key = f"slice-{index}"
        is_loss = found.name.startswith(parameters.LOSSES)
        (drawing.losses if is_loss else drawing.slices).append((found.name, key))
        height = parameters.PAIR_HEIGHT if is_loss else parameters.SLICE_HEIGHT
        figures[key] = parameters.slice_plot(data, found, table, height)
    for index, (a, b) in enumerate(parameters.loss_pairs(data)):
        key = f"pair-{index}"
        drawing.pairs.append((a.name, b.name, key))
        figures[key] = parameters.pair_plot(data, a, b, table, names)
    for index, objective in enumerate(data.view.objectives[1:]):
        if (figure := parameters.trade_off(data, table, objective)) is not None:
            drawing.trade_offs.append((objective, key := f"trade-off-{index}"))
            figures[key] = figure


def _draw_best(drawing: Drawing, data: ReportData) -> None:
    figures, validation = drawing.figures, data.validation
    if data.parts:
        figures["parts"] = best_model.part_bars(data.parts)
    if validation is None:
        return
    figures["confusion"] = best_model.confusion(data.task, validation.confusion)
    for shown in validation.shown:
        key = f"video-{shown.why}"
        drawing.videos.append(key)
        figures[key] = best_model.over_time(data.task, validation.curves, shown)


def _missing(data: ReportData) -> dict[str, str]:
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
        "confusion": data.not_validated,
        "videos": data.not_validated or "No video has a score of its own.",
        "cost": "No epoch was timed.",
        "trade-offs": "No trial has a value of every objective.",
        "ablation": "No variant has a score yet.",
        "ablation-difference": "No variant has a score under a seed of the full model yet.",
    }
