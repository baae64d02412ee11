"""The tables of one sweep's report; the page holds them, and `report --csv` writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from raffect.report.ablation import ablation_table
from raffect.report.data import Grid, ReportData
from raffect.report.tables import Cell, Table, rounded, table
from raffect.sweep.evidence import TrialEvidence
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


def tables_of(data: ReportData) -> dict[str, Table]:
    """All tables by name; those without a row are left out."""
    validation = data.validation
    found = [
        _summary(data),
        _trials(data),
        _epochs(data),
        table(
            "device-time",
            ("trial", "state", "score", "device_seconds_so_far", "best_so_far"),
            [
                (t.number, t.state, t.score, rounded(t.device_seconds, 3), t.best)
                for t in data.by_end
            ],
        ),
        table(
            "seeds",
            ("trial", "seed", "score"),
            [(t.number, *pair) for t in data.trials for pair in sorted(t.seeds.items())],
        ),
        table(
            "importance",
            ("parameter", "share", "low", "high"),
            [
                (*share, *spread)
                for share, spread in zip(
                    data.importance.shares, data.importance.spread, strict=True
                )
            ],
        ),
        *([_grid(data.grid)] if data.grid else []),
        ablation_table(data.ablation),
        table(
            "parts",
            ("part", "score", "baseline", "linear_floor"),
            [(part.name, part.score, part.baseline, part.linear) for part in data.parts],
        ),
        table(
            "failures",
            ("trial", "reason"),
            [(number, of.kind) for of in data.failures for number in of.numbers],
        ),
        table(
            "cost",
            ("state", "trials", "epochs", "seconds", "device_seconds"),
            [
                (c.state, c.trials, c.epochs, rounded(c.seconds, 3), rounded(c.device_seconds, 3))
                for c in data.cost.states
            ],
        ),
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
        ("linear_floor", data.view.linear_floor["score"] if data.view.linear_floor else None),
        ("expected", data.view.evidence.expected),
        ("interval_low", low),
        ("interval_high", high),
        ("interval_videos", validation.videos if validation else None),
        ("interval_frames", validation.frames if validation else None),
        ("recipe", data.view.recipe.full_score if data.view.recipe else None),
        ("importance_trials", data.importance.trials),
        ("importance_trials_lacking", data.importance.lacking),
    ]
    return table("summary", ("name", "value"), rows)


def _trials(data: ReportData) -> Table:
    rows: list[dict[str, Cell]] = [
        {
            "trial": trial.number,
            "state": trial.state,
            "score": trial.score,
            "raw": trial.raw,
            **_judged(data.view.evidence.trials.get(trial.number)),
            "best_so_far": data.best_so_far.get(trial.number),
            "best_epoch": trial.best_epoch,
            "epochs": trial.epochs,
            "seconds": rounded(trial.seconds, 3),
            "device_seconds": rounded(trial.device_seconds, 3),
            "parameters": trial.parameters,
            "latency_ms": trial.latency_ms,
            "finished": trial.finished,
            "origin": trial.origin,
            "pareto": trial.pareto,
            "tied": trial.tied,
            "violations": "; ".join(f"{name} by {by:g}" for name, by in trial.violations.items())
            or None,
            "reason": trial.reason,
            "workers": "; ".join(str(maker.workers) for maker in trial.makers) or None,
            "raffect": "; ".join(maker.raffect or "unknown" for maker in trial.makers) or None,
            "code": "; ".join(maker.code or "unknown" for maker in trial.makers) or None,
            **{f"{PREFIX}{name}": _parameter(trial.params, name) for name in data.searched},
        }
        for trial in data.trials
    ]
    return table("trials", list(rows[0]) if rows else [], [list(row.values()) for row in rows])


def _judged(known: TrialEvidence | None) -> dict[str, Cell]:
    versus = known.versus_recipe if known else None
    return {
        "interval_low": known.interval[0] if known else None,
        "interval_high": known.interval[1] if known else None,
        "versus_recipe": versus.difference if versus else None,
        "versus_recipe_low": versus.interval[0] if versus else None,
        "versus_recipe_high": versus.interval[1] if versus else None,
        "probability_best": known.probability_best if known else None,
    }


def _parameter(params: Mapping[str, object], name: str) -> Cell:
    """Numbers as they are, all else as text; None where the trial does not use it."""
    value = params.get(name)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    return short_value(value) if name in params else None


def _epochs(data: ReportData) -> Table:
    rows = [
        (trial.number, e.epoch, rounded(e.score, 6), rounded(e.loss, 6), rounded(e.seconds, 3))
        for trial in data.trials
        for e in trial.curve
    ]
    return table("epochs", ("trial", "epoch", "score", "loss", "seconds"), rows)


def _grid(grid: Grid) -> Table:
    rows = [
        (x, y, grid.scores[row][column], grid.counts[row][column])
        for row, y in enumerate(grid.y_values)
        for column, x in enumerate(grid.x_values)
        if grid.counts[row][column]
    ]
    return table("grid", (grid.x_name, grid.y_name, "best_score", "trials"), rows)
