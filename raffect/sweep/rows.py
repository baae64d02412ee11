"""A trial of a study as a row for people and scripts."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from raffect.sweep.attributes import DEVICES, EPOCH, FILES, ORIGIN, REASON
from raffect.sweep.settings import Objective

_SCORED = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True)
class TrialRow:
    """One trial.

    Attributes:
        number: Its number; 0 is the recipe.
        state: COMPLETE (full budget), PRUNED, FAIL, RUNNING or WAITING.
        score: That of its best epoch on validation so far; None when it failed.
        epochs: Epochs it ran.
        seconds: Time of those epochs.
        params: What the space chose, by dotted key.
        reason: Why it failed, or was refused by a constraint.
        model: `SWEEP:NUMBER` when it left a model.
        best_epoch: 1-based epoch of the score.
        curve: Per epoch its `epoch`, `score`, `loss`, `parts`, `seconds` and `lr`.
        parameters: Trained values of its model.
        attributes: What else is recorded: host, device, seed, config_hash, latency_ms (per 1,000
            frames).
        objectives: Value of each objective of the sweep, once the trial ended well.
        pareto: No other trial is better in one objective and as good in the others.
        devices: Devices (GPUs, or slots of a cluster without) that it took; may be a fraction.
        origin: `SWEEP:NUMBER` when the result was taken over from another sweep.
        violations: By how much it misses each constraint; empty when it meets them.
        finished: When it ended, ISO 8601; None while it runs.
        seeds: Scores of its configuration under other seeds, by seed (`raffect retrain`).
        tied: Its score is within the spread over seeds of the best trial's.
    """

    number: int
    state: str
    score: float | None
    epochs: int
    seconds: float
    params: dict[str, Any]
    reason: str | None
    model: str | None
    best_epoch: int | None
    curve: list[dict[str, Any]]
    parameters: int | None
    attributes: dict[str, Any]
    objectives: dict[str, float] = field(default_factory=dict)
    pareto: bool = False
    devices: float = 1.0
    origin: str | None = None
    violations: dict[str, float] = field(default_factory=dict)
    finished: str | None = None
    seeds: dict[int, float] = field(default_factory=dict)
    tied: bool = False

    @property
    def device_seconds(self) -> float:
        """Time of its epochs, times the devices that it took; 0 if another sweep paid for it."""
        return 0.0 if self.origin else self.seconds * self.devices


def read_row(
    sweep: str,
    trial: FrozenTrial,
    objectives: tuple[Objective, ...] = ("score",),
    seeds: dict[int, float] | None = None,
    pareto: bool = False,
) -> TrialRow:
    """A trial of the study as a row."""
    attributes = dict(trial.user_attrs)
    curve = [attributes.pop(key) for key in sorted(attributes) if key.startswith(EPOCH)]
    attributes.pop(FILES, None)
    origin = attributes.pop(ORIGIN, None)
    # max() gives the first of equals, as training does.
    best = max(curve, key=lambda epoch: float(epoch["score"]), default=None)
    has_score = trial.state in _SCORED and best is not None
    ended = trial.datetime_complete
    return TrialRow(
        number=trial.number,
        state=trial.state.name,
        score=float(best["score"]) if best and trial.state is not TrialState.FAIL else None,
        epochs=len(curve),
        seconds=sum(epoch["seconds"] for epoch in curve),
        params=_params(trial),
        reason=attributes.pop(REASON, None),
        model=(origin or f"{sweep}:{trial.number}") if has_score else None,
        best_epoch=best["epoch"] if best else None,
        curve=curve,
        parameters=attributes.pop("parameters", None),
        objectives=_objectives(trial, objectives),
        pareto=pareto,
        devices=float(attributes.pop(DEVICES, 1.0)),
        origin=origin,
        violations={name: v for name, v in trial.constraints.items() if v > 0},
        finished=_utc(ended).isoformat(timespec="seconds") if ended else None,
        seeds=seeds or {},
        attributes=attributes,
    )


def rank(row: TrialRow) -> tuple[int, float, int]:
    """Key by which rows are sorted: those with a final score, the best first, then the rest."""
    if row.model is None or row.score is None:
        return 2, 0.0, row.number
    return int(bool(row.violations)), -row.score, row.number


def _objectives(trial: FrozenTrial, names: tuple[Objective, ...]) -> dict[str, float]:
    if trial.state not in _SCORED or not trial.values:
        return {}
    return {str(name): value for name, value in zip(names, trial.values, strict=True)}


def _params(trial: FrozenTrial) -> dict[str, Any]:
    if trial.state is TrialState.WAITING:
        return dict(trial.system_attrs.get("fixed_params", {}))
    return dict(trial.params)


def _utc(local: datetime) -> datetime:
    """Optuna's times are local and naive."""
    return local.astimezone(UTC)
