"""The rows of a leaderboard as the report's trials."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from raffect.report.data import SCORED, Epoch, Trial
from raffect.sweep.attributes import ACCUMULATION
from raffect.sweep.rows import TrialRow


def trials_of(rows: Sequence[TrialRow]) -> tuple[Trial, ...]:
    """The trials by number, each with the best score of the sweep so far."""
    so_far: float | None = None
    trials = []
    for row in sorted(rows, key=lambda row: row.number):
        score = finite(row.score)
        if is_candidate(row) and score is not None:
            so_far = score if so_far is None else max(so_far, score)
        trials.append(_trial(row, score, so_far))
    return tuple(trials)


def _trial(row: TrialRow, score: float | None, so_far: float | None) -> Trial:
    return Trial(
        number=row.number,
        state=row.state,
        score=score,
        epochs=row.epochs,
        seconds=row.seconds,
        params=dict(row.params),
        reason=row.reason,
        best_epoch=row.best_epoch,
        curve=tuple(_epoch(entry) for entry in row.curve),
        parameters=row.parameters,
        best_so_far=so_far,
        recipe=bool(row.attributes.get("recipe")),
        device_seconds=row.device_seconds,
        finished=row.finished,
        latency_ms=finite(row.attributes.get("latency_ms", row.objectives.get("latency"))),
        pareto=row.pareto,
        origin=row.origin,
        violations=dict(row.violations),
        seeds=dict(row.seeds),
        tied=row.tied,
        batch_parts=row.attributes.get(ACCUMULATION),
    )


def _epoch(entry: Mapping[str, Any]) -> Epoch:
    numbers = (finite(entry.get(name)) for name in ("score", "loss", "seconds"))
    return Epoch(int(entry["epoch"]), *numbers)


def is_candidate(row: TrialRow) -> bool:
    """Whether it may be the best: it ended with a score and meets the constraints."""
    return row.state in SCORED and finite(row.score) is not None and not row.violations


def scored(trials: Sequence[Trial]) -> list[tuple[Trial, float]]:
    """The trials that ended with a score, and it."""
    return [(t, t.score) for t in trials if t.state in SCORED and t.score is not None]


def finite(value: Any) -> float | None:
    """A number, or None where it is none."""
    return float(value) if value is not None and math.isfinite(value) else None
