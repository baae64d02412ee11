"""What a sweep has found, read from its study; works while it runs and after it was killed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from raffect.affwild2.tasks import Task
from raffect.errors import NotThereError
from raffect.store import Manifest, Store, read_manifest, sweep_folder
from raffect.store.layout import PLAN, SWEEPS, trial_folder
from raffect.store.manifest import has_manifest
from raffect.sweep.study import EPOCH, FILES, REASON, open_study

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
        reason: Why it failed.
        model: `SWEEP:NUMBER` when it left a model.
        best_epoch: 1-based epoch of the score.
        curve: Per epoch its `epoch`, `score`, `loss`, `parts`, `seconds` and `lr`.
        parameters: Trained values of its model.
        attributes: What else is recorded: host, device, seed, config_hash, latency_ms (per 1,000
            frames).
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


@dataclass(frozen=True)
class SweepView:
    """A sweep as it is now.

    Attributes:
        name: Its name.
        task: Its task.
        rows: Trials, best first: those with a final score, then the rest by number.
        config: The base configuration, as JSON.
        counts: Number of trials by state.
        target: Trials that were asked for.
        baseline: `score` and `parts` of the trivial prediction.
        manifest: None as long as trials are missing.
    """

    name: str
    task: Task
    rows: list[TrialRow]
    config: dict[str, Any]
    counts: dict[str, int]
    target: int
    baseline: dict[str, Any]
    manifest: Manifest | None


def load_sweep(store: Store, name: str) -> SweepView:
    """A sweep's leaderboard.

    Raises:
        NotThereError: The store holds no such sweep.
    """
    folder = sweep_folder(name)
    try:
        plan = store.read_json(f"{folder}/{PLAN}")
    except FileNotFoundError:
        known = ", ".join(store.names(SWEEPS))
        raise NotThereError(
            f"The store {store.uri} holds no sweep {name!r}.",
            f"sweeps in this store: {known}" if known else "",
            f"Make it first: raffect tune TASK --name {name} --store {store.uri}",
        ) from None
    study = open_study(store, name)
    trials = study.get_trials(deepcopy=False)
    attributes = study.user_attrs
    rows = sorted((read_row(store, name, trial) for trial in trials), key=_rank)
    return SweepView(
        name=name,
        task=Task(plan["config"]["task"]),
        rows=rows,
        config=plan["config"]["base"],
        counts=dict(Counter(row.state for row in rows)),
        target=attributes.get("target", len(rows)),
        baseline=attributes.get("baseline", {"score": 0.0, "parts": {}}),
        manifest=read_manifest(store, folder) if has_manifest(store, folder) else None,
    )


def list_sweeps(store: Store) -> list[SweepView]:
    """All sweeps of a store, by name."""
    views = []
    for name in store.names(SWEEPS):
        try:
            views.append(load_sweep(store, name))
        except NotThereError:
            # A folder that was planned, and killed before the study had its first entry.
            continue
    return views


def read_row(store: Store, sweep: str, trial: FrozenTrial) -> TrialRow:
    """A trial of the study as a row."""
    attributes = dict(trial.user_attrs)
    curve = [attributes.pop(key) for key in sorted(attributes) if key.startswith(EPOCH)]
    attributes.pop(FILES, None)
    # max() gives the first of equals, as training does.
    best = max(curve, key=lambda epoch: float(epoch["score"]), default=None)
    return TrialRow(
        number=trial.number,
        state=trial.state.name,
        score=_score(trial, best),
        epochs=len(curve),
        seconds=sum(epoch["seconds"] for epoch in curve),
        params=_params(trial),
        reason=attributes.pop(REASON, None),
        model=f"{sweep}:{trial.number}" if trial.state in _SCORED else None,
        best_epoch=best["epoch"] if best else None,
        curve=curve,
        parameters=attributes.pop("parameters", None),
        attributes=attributes,
    )


def model_folder_of(view: SweepView, number: int) -> str:
    """The folder of a trial's model, for load_bundle."""
    return trial_folder(view.name, number)


def _score(trial: FrozenTrial, best: dict[str, Any] | None) -> float | None:
    if trial.state in _SCORED:
        return trial.value
    return float(best["score"]) if best and trial.state is TrialState.RUNNING else None


def _params(trial: FrozenTrial) -> dict[str, Any]:
    if trial.state is TrialState.WAITING:
        return dict(trial.system_attrs.get("fixed_params", {}))
    return dict(trial.params)


def _rank(row: TrialRow) -> tuple[int, float, int]:
    if row.model is None or row.score is None:
        return 1, 0.0, row.number
    return 0, -row.score, row.number
