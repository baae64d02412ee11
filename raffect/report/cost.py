"""What a sweep took, trial by trial and in all, and what pruning spared it."""

from __future__ import annotations

from collections.abc import Sequence

from raffect.report.data import STATES
from raffect.report.outlay import Cost, Spent, StateCost
from raffect.report.trials import finite, is_candidate
from raffect.sweep.rows import TrialRow


def cost_of(rows: Sequence[TrialRow], budget: int, hours: float) -> Cost:
    """The cost of a sweep.

    Args:
        rows: Its trials.
        budget: Epochs of a full trial.
        hours: Of all runs of the command together.
    """
    own = [row for row in rows if row.origin is None]
    pruned = [row for row in own if row.state == "PRUNED" and 0 < row.epochs < budget]
    return Cost(
        states=tuple(
            _of_state(state, [row for row in own if row.state == state])
            for state in STATES
            if any(row.state == state for row in own)
        ),
        hours=hours,
        budget=budget,
        saved_epochs=sum(budget - row.epochs for row in pruned),
        saved_device_seconds=sum(
            (budget - row.epochs) * row.device_seconds / row.epochs for row in pruned
        ),
        taken_over=len(rows) - len(own),
    )


def _of_state(state: str, rows: list[TrialRow]) -> StateCost:
    return StateCost(
        state=state,
        trials=len(rows),
        epochs=sum(row.epochs for row in rows),
        seconds=sum(row.seconds for row in rows),
        device_seconds=sum(row.device_seconds for row in rows),
    )


def spent_of(rows: Sequence[TrialRow]) -> tuple[Spent, ...]:
    """The ended trials in the order in which they ended, those taken over first.

    A failed trial's time counts, and its score does not.
    """
    ended = [row for row in rows if row.finished is not None]
    ended.sort(key=lambda row: (row.origin is None, row.finished, row.number))
    found: list[Spent] = []
    total, best = 0.0, None
    for row in ended:
        total += row.device_seconds
        score = finite(row.score)
        if is_candidate(row) and score is not None:
            best = score if best is None else max(best, score)
        found.append(Spent(row.number, row.state, score, total, best))
    return tuple(found)
