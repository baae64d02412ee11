"""What a sweep has found, read from its study; works while it runs and after it was killed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import stdev
from typing import Any

from optuna.trial import FrozenTrial

from raffect.affwild2.tasks import Task
from raffect.errors import NotThereError
from raffect.store import Manifest, Store, read_manifest, sweep_folder
from raffect.store.layout import PLAN, SWEEPS, trial_folder
from raffect.store.manifest import has_manifest
from raffect.sweep.attributes import ENDED, SPACE, SPENT
from raffect.sweep.rows import TrialRow, rank, read_row
from raffect.sweep.seeds import read_seeds
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
