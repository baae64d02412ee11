"""The tables of one sweep's report; the page holds them, and `report --csv` writes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from raffect.report.data import Grid, ReportData
from raffect.report.tables import Cell, Table, rounded, table
from raffect.sweep.records import TrialRow
from raffect.text import short_value

MOST_TRIALS = 1000
"""Trials drawn on a page; a browser draws twenty figures of a thousand points in a second."""
MOST_EPOCHS = 20_000
"""Points of learning curves drawn on a page."""
BEST = 200
"""The best trials, which are always drawn."""
PREFIX = "param."
"""Prefix of the searched parameters' columns, which keeps them apart from all others."""
_TRIAL = (
    "trial", "state", "score", "best_so_far", "best_epoch", "epochs", "seconds", "device_seconds",
    "parameters", "latency_ms", "finished", "origin", "pareto", "tied", "violations", "reason",
)  # fmt: skip


def tables_of(data: ReportData) -> dict[str, Table]:
    """All tables by name; those without a row are left out."""
    validation = data.validation
    found = [
        _summary(data),
        _trials(data),
        _epochs(data),
        _by_end(data),
        _seeds(data),
        table("importance", ("parameter", "share"), data.importance.shares),
        *([_grid(data.grid)] if data.grid else []),
        _parts(data),
        _failures(data),
        _cost(data),
        *([validation.confusion, validation.per_video, validation.curves] if validation else []),
    ]
    return {one.name: one for one in found if one.rows}


def for_page(data: ReportData) -> ReportData:
    """The numbers with as many trials and learning curves as a page can draw.

    The best are kept, and of the others some, evenly by number. What sums up all trials
    (importance, parts, cost) stays as it is.
    """
    best = {row.number for row in data.view.rows[:BEST]}
    others = [trial.number for trial in data.trials if trial.number not in best]
    kept = best | set(_evenly(others, MOST_TRIALS - len(best)))
    trials = [trial for trial in data.trials if trial.number in kept]
    return replace(
        data,
        trials=_thin_curves(trials, best),
        by_end=tuple(trial for trial in data.by_end if trial.number in kept),
        slices=tuple(
            replace(found, trials=tuple(t for t in found.trials if t.number in kept))
            for found in data.slices
        ),
    )


def _thin_curves(trials: Sequence[TrialRow], best: set[int]) -> tuple[TrialRow, ...]:
    """The trials, some without their curves if there are too many points."""
    others = [trial.number for trial in trials if trial.number not in best and trial.curve]
    points = sum(len(trial.curve) for trial in trials)
    of_best = sum(len(trial.curve) for trial in trials if trial.number in best)
    if points > MOST_EPOCHS:
        share = max(0.0, (MOST_EPOCHS - of_best) / max(points - of_best, 1))
        others = _evenly(others, int(share * len(others)))
    kept = best | set(others)
    return tuple(t if t.number in kept else replace(t, curve=()) for t in trials)


def _evenly(items: Sequence[int], most: int) -> list[int]:
    """At most `most` of them, spread as evenly as whole numbers allow."""
    if len(items) <= most:
        return list(items)
    return [items[i * len(items) // most] for i in range(most)]


def _summary(data: ReportData) -> Table:
    best, validation = data.best, data.validation
    low, high = validation.interval if validation else (None, None)
    rows: list[tuple[str, Cell]] = [
        ("task", data.task.value),
        ("score", best.score if best else None),
        ("trial", best.number if best else None),
        ("epoch", best.best_epoch if best else None),
        ("baseline", data.baseline),
        ("interval_low", low),
        ("interval_high", high),
        ("interval_videos", validation.videos if validation else None),
        ("interval_frames", validation.frames if validation else None),
    ]
    return table("summary", ("name", "value"), rows)


def _trials(data: ReportData) -> Table:
    columns = (*_TRIAL, *(f"{PREFIX}{name}" for name in data.searched))
    rows = [
        [
            trial.number,
            trial.state,
            trial.score,
            data.best_so_far.get(trial.number),
            trial.best_epoch,
            trial.epochs,
            rounded(trial.seconds, 3),
            rounded(trial.device_seconds, 3),
            trial.parameters,
            trial.latency_ms,
            trial.finished,
            trial.origin,
            trial.pareto,
            trial.tied,
            "; ".join(f"{name} by {by:g}" for name, by in trial.violations.items()) or None,
            trial.reason,
            *(
                _parameter(trial.params[name]) if name in trial.params else None
                for name in data.searched
            ),
        ]
        for trial in data.trials
    ]
    return table("trials", columns, rows)


def _parameter(value: object) -> Cell:
    """Numbers as they are, all else as text."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    return short_value(value)


def _epochs(data: ReportData) -> Table:
    rows = [
        (
            trial.number,
            epoch.epoch,
            rounded(epoch.score, 6),
            rounded(epoch.loss, 6),
            rounded(epoch.seconds, 3),
        )
        for trial in data.trials
        for epoch in trial.curve
    ]
    return table("epochs", ("trial", "epoch", "score", "loss", "seconds"), rows)


def _by_end(data: ReportData) -> Table:
    columns = ("trial", "state", "score", "device_seconds_so_far", "best_so_far")
    rows = [
        (trial.number, trial.state, trial.score, rounded(trial.device_seconds, 3), trial.best)
        for trial in data.by_end
    ]
    return table("device-time", columns, rows)


def _seeds(data: ReportData) -> Table:
    rows = [
        (trial.number, seed, score)
        for trial in data.trials
        for seed, score in sorted(trial.seeds.items())
    ]
    return table("seeds", ("trial", "seed", "score"), rows)


def _grid(grid: Grid) -> Table:
    rows = [
        (x, y, grid.scores[row][column], grid.counts[row][column])
        for row, y in enumerate(grid.y_values)
        for column, x in enumerate(grid.x_values)
        if grid.counts[row][column]
    ]
    return table("grid", (grid.x_name, grid.y_name, "best_score", "trials"), rows)


def _parts(data: ReportData) -> Table:
    rows = [(part.name, part.score, part.baseline) for part in data.parts]
    return table("parts", ("part", "score", "baseline"), rows)


def _failures(data: ReportData) -> Table:
    rows = [(number, failure.kind) for failure in data.failures for number in failure.numbers]
    return table("failures", ("trial", "reason"), rows)


def _cost(data: ReportData) -> Table:
    rows = [
        (of.state, of.trials, of.epochs, rounded(of.seconds, 3), rounded(of.device_seconds, 3))
        for of in data.cost.states
    ]
    return table("cost", ("state", "trials", "epochs", "seconds", "device_seconds"), rows)
