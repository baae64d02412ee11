"""The tables of one sweep's report; the page holds them, and `report --csv` writes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from raffect.report.data import Grid, ReportData, Slice, Trial
from raffect.report.tables import Cell, Table, rounded, table
from raffect.text import short_value

MOST_TRIALS = 1000
"""Trials drawn on a page; a browser draws so many points in each of twenty figures in a second."""
MOST_EPOCHS = 20_000
"""Points of learning curves drawn on a page."""
BEST = 200
"""So many of the best are always drawn."""
PREFIX = "param."
"""Of a searched parameter's column, so that none can be taken for one of the others."""
_TRIAL = (
    "trial", "state", "score", "best_so_far", "best_epoch", "epochs", "seconds", "device_seconds",
    "parameters", "latency_ms", "finished", "origin", "pareto", "tied", "violations", "reason",
)  # fmt: skip


def tables_of(data: ReportData) -> dict[str, Table]:
    """All tables by name; those without a row are left out."""
    found = [
        _summary(data),
        _trials(data),
        _epochs(data),
        _spent(data),
        _seeds(data),
        table("importance", ("parameter", "share"), data.importance.shares),
        *([_grid(data.grid)] if data.grid else []),
        _parts(data),
        _failures(data),
        _cost(data),
    ]
    if data.judged is not None:
        found += [data.judged.confusion, data.judged.per_video, data.judged.curves]
    return {one.name: one for one in found if one.rows}


def for_page(data: ReportData) -> ReportData:
    """The numbers with as many trials and learning curves as a page can draw.

    The best are there, and of the others some, evenly by number. What is told of all trials
    (ranks are not: importance, parts, cost) stays as it is.
    """
    trials = [trial.number for trial in data.trials]
    kept = set(data.ranking[:BEST])
    kept |= set(_evenly([n for n in trials if n not in kept], MOST_TRIALS - len(kept)))
    drawn = _with_curves([trial for trial in data.trials if trial.number in kept], data.ranking)
    return replace(
        data,
        trials=drawn,
        ranking=tuple(number for number in data.ranking if number in kept),
        spent=tuple(one for one in data.spent if one.number in kept),
        slices=tuple(_thinned(found, kept) for found in data.slices),
    )


def _thinned(found: Slice, kept: set[int]) -> Slice:
    index = [i for i, number in enumerate(found.numbers) if number in kept]
    return replace(
        found,
        values=tuple(found.values[i] for i in index),
        scores=tuple(found.scores[i] for i in index),
        states=tuple(found.states[i] for i in index),
        numbers=tuple(found.numbers[i] for i in index),
    )


def _with_curves(trials: Sequence[Trial], ranking: Sequence[int]) -> tuple[Trial, ...]:
    """The trials, some without their curves if there are too many points."""
    best = set(ranking[:BEST])
    others = [trial.number for trial in trials if trial.number not in best and trial.curve]
    points = sum(len(trial.curve) for trial in trials)
    taken = sum(len(trial.curve) for trial in trials if trial.number in best)
    if points > MOST_EPOCHS:
        share = max(0.0, (MOST_EPOCHS - taken) / max(points - taken, 1))
        best |= set(_evenly(others, int(share * len(others))))
    else:
        best |= set(others)
    return tuple(t if t.number in best else replace(t, curve=()) for t in trials)


def _evenly(items: Sequence[int], most: int) -> list[int]:
    """At most so many of them, spread as evenly as whole numbers allow."""
    if len(items) <= most:
        return list(items)
    return [items[i * len(items) // most] for i in range(most)]


def _summary(data: ReportData) -> Table:
    best, judged = data.best_trial, data.judged
    low, high = judged.interval if judged else (None, None)
    rows: list[tuple[str, Cell]] = [
        ("task", data.task.value),
        ("score", best.score if best else None),
        ("trial", data.best),
        ("epoch", best.best_epoch if best else None),
        ("baseline", data.baseline),
        ("interval_low", low),
        ("interval_high", high),
        ("interval_videos", judged.videos if judged else None),
        ("interval_frames", judged.frames if judged else None),
    ]
    return table("summary", ("name", "value"), rows)


def _trials(data: ReportData) -> Table:
    columns = (*_TRIAL, *(f"{PREFIX}{name}" for name in data.searched))
    return table("trials", columns, [_trial(trial, data.searched) for trial in data.trials])


def _trial(trial: Trial, searched: Sequence[str]) -> list[Cell]:
    return [
        trial.number,
        trial.state,
        trial.score,
        trial.best_so_far,
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
        *(_parameter(trial.params[name]) if name in trial.params else None for name in searched),
    ]


def _parameter(value: object) -> Cell:
    """Numbers as they are, all else as its text."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number else short_value(value)  # type: ignore[return-value]


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


def _spent(data: ReportData) -> Table:
    columns = ("trial", "state", "score", "device_seconds_so_far", "best_so_far")
    rows = [
        (one.number, one.state, one.score, rounded(one.device_seconds, 3), one.best)
        for one in data.spent
    ]
    return table("device-time", columns, rows)


def _seeds(data: ReportData) -> Table:
    rows = [
        (trial.number, seed, score)
        for trial in data.trials
        for seed, score in sorted(trial.seeds.items())
    ]
    return table("seeds", ("trial", "seed", "score"), rows)


def _grid(found: Grid) -> Table:
    rows = [
        (x, y, found.scores[row][column], found.counts[row][column])
        for row, y in enumerate(found.y_values)
        for column, x in enumerate(found.x_values)
        if found.counts[row][column]
    ]
    return table("grid", (found.x_name, found.y_name, "best_score", "trials"), rows)


def _parts(data: ReportData) -> Table:
    rows = [(part.name, part.score, part.baseline) for part in data.parts]
    return table("parts", ("part", "score", "baseline"), rows)


def _failures(data: ReportData) -> Table:
    rows = [(number, failure.kind) for failure in data.failures for number in failure.numbers]
    return table("failures", ("trial", "reason"), rows)


def _cost(data: ReportData) -> Table:
    rows = [
        (
            own.state,
            own.trials,
            own.epochs,
            rounded(own.seconds, 3),
            rounded(own.device_seconds, 3),
        )
        for own in data.cost.states
    ]
    return table("cost", ("state", "trials", "epochs", "seconds", "device_seconds"), rows)
