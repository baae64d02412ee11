"""What a sweep has found, read from its study; works while it runs and after it was killed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from statistics import stdev
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from raffect.affwild2.tasks import Task
from raffect.errors import NotThereError
from raffect.store import Manifest, Store, read_manifest, sweep_folder
from raffect.store.layout import PLAN, SEEDS, SWEEPS, trial_folder
from raffect.store.manifest import has_manifest
from raffect.sweep.attributes import DEVICES, ENDED, EPOCH, FILES, ORIGIN, REASON, SPACE, SPENT
from raffect.sweep.settings import Objective
from raffect.sweep.study import open_study


@dataclass(frozen=True)
class SweepView:
    """A sweep as it is now.

    Attributes:
        name: Its name.
        task: Its task.
        rows: Trials, best first: those with a final score, then the rest by number.
        config: The base configuration, as JSON.
        counts: Number of trials by state, without those taken over from other sweeps.
        target: Trials that were asked for, the same.
        baseline: `score` and `parts` of the trivial prediction.
        manifest: None as long as trials are missing.
        objectives: What is searched for; the score comes first.
        settings: What else the sweep's name is bound to: sampler, pruning, seed, constraints.
        ranges: The searched ranges by parameter, for people.
        hours: Hours of all runs of the command together.
        device_hours: Hours of devices that its trials' epochs took.
        changed: When a trial last ended, ISO 8601; None before.
        ended: Why it ended before all trials were run.
        space: The space, as it was named; None if it is not known.
    """

    name: str
    task: Task
    rows: list[TrialRow]
    config: dict[str, Any]
    counts: dict[str, int]
    target: int
    baseline: dict[str, Any]
    manifest: Manifest | None
    objectives: tuple[Objective, ...] = ("score",)
    settings: dict[str, Any] = field(default_factory=dict)
    ranges: dict[str, str] = field(default_factory=dict)
    hours: float = 0.0
    device_hours: float = 0.0
    changed: str | None = None
    ended: str | None = None
    space: str | None = None

    @property
    def best(self) -> TrialRow | None:
        """The best trial that meets the constraints; None as long as there is none."""
        first = self.rows[0] if self.rows else None
        return first if first and first.model and not first.violations else None


def load_sweep(store: Store, name: str) -> SweepView:
    """A sweep's leaderboard.

    Raises:
        NotThereError: The store holds no such sweep.
    """
    folder = sweep_folder(name)
    try:
        plan = store.read_json(f"{folder}/{PLAN}")["config"]
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
    bound = plan.get("sweep", {})
    objectives: tuple[Objective, ...] = tuple(bound.get("objectives", ("score",)))
    front = {trial.number for trial in study.best_trials} if len(objectives) > 1 else set()
    rows = _rows(name, trials, objectives, front, read_seeds(store, name))
    own = [row for row in rows if row.origin is None]
    return SweepView(
        name=name,
        task=Task(plan["task"]),
        rows=rows,
        config=plan["base"],
        counts=dict(Counter(row.state for row in own)),
        target=attributes.get("target", len(own)),
        baseline=attributes.get("baseline", {"score": 0.0, "parts": {}}),
        manifest=read_manifest(store, folder) if has_manifest(store, folder) else None,
        objectives=objectives,
        settings=bound,
        ranges=plan.get("space", {}).get("ranges", {}),
        hours=sum(attributes.get(SPENT, {}).values()) / 3600,
        device_hours=sum(row.device_seconds for row in rows) / 3600,
        ended=attributes.get(ENDED),
        space=attributes.get(SPACE),
        changed=max((row.finished for row in rows if row.finished), default=None),
    )


def _rows(
    name: str,
    trials: Sequence[FrozenTrial],
    objectives: tuple[Objective, ...],
    front: set[int],
    seeds: dict[int, dict[int, float]],
) -> list[TrialRow]:
    rows = [
        read_row(name, trial, objectives, seeds.get(trial.number), trial.number in front)
        for trial in trials
    ]
    return mark_ties(sorted(rows, key=rank))


def mark_ties(rows: list[TrialRow]) -> list[TrialRow]:
    """Mark the trials whose score is within the spread over seeds of the best trial's.

    The spread is the sample standard deviation of the best trial's scores under several seeds;
    without these no trial is marked.

    Args:
        rows: Sorted, the best first.
    """
    if not rows or len(rows[0].seeds) < 2 or rows[0].score is None:
        return rows
    least = rows[0].score - stdev(rows[0].seeds.values())
    return [
        replace(row, tied=row.model is not None and row.score is not None and row.score >= least)
        for row in rows
    ]


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


def model_folder_of(row: TrialRow) -> str:
    """The folder of a trial's model, for load_bundle; that of the sweep that trained it."""
    assert row.model is not None
    sweep, _, number = row.model.rpartition(":")
    return trial_folder(sweep, int(number))


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


def seed_key(sweep: str, number: int, seed: int) -> str:
    """The store's key of one score."""
    return f"{sweep_folder(sweep)}/{SEEDS}/{number:05d}/{seed}.json"


def write_seed(store: Store, sweep: str, number: int, seed: int, score: float) -> None:
    """Keep a score."""
    store.write_json(seed_key(sweep, number, seed), {"score": score})


def read_seeds(store: Store, sweep: str) -> dict[int, dict[int, float]]:
    """Scores by trial and seed."""
    found: dict[int, dict[int, float]] = {}
    for key in store.files(f"{sweep_folder(sweep)}/{SEEDS}"):
        number, seed = key.removesuffix(".json").split("/")[-2:]
        found.setdefault(int(number), {})[int(seed)] = float(store.read_json(key)["score"])
    return found
