"""What a report shows, as plain numbers: nothing here knows of drawing or of the store."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from raffect.affwild2.tasks import Task
from raffect.report.tables import Table
from raffect.sweep.attributes import SCORED, STATES
from raffect.sweep.records import TrialRow
from raffect.temporal.epochs import EpochResult

Axis = Literal["number", "log", "category"]


@dataclass(frozen=True)
class Epoch:
    """One epoch of a trial: its 1-based number, validation score, training loss and time."""

    epoch: int
    score: float | None
    loss: float | None
    seconds: float | None = None


@dataclass(frozen=True)
class Trial:
    """One trial of the sweep.

    Attributes:
        score: That of its best epoch on validation; None without a finished epoch.
        epochs: Epochs it ran.
        best_so_far: The sweep's best score when trials up to this number are counted.
        parameters: Number of weights of its model.
        recipe: It has the base settings, by default the published recipe (trial 0).
        device_seconds: Time of its epochs, times its devices; 0 if another sweep paid for it.
        finished: When it ended, ISO 8601.
        latency_ms: Of its model, per 1,000 frames; only complete trials are measured.
        pareto: It is on the front of several objectives.
        origin: `SWEEP:NUMBER` that the result was taken over from.
        violations: By how much it misses each constraint.
        seeds: Scores of its settings under further seeds, by seed.
        tied: Its score is within the spread over seeds of the best trial's.
        batch_parts: Parts in which it took its batches, since it was out of memory.
    """

    number: int
    state: str
    score: float | None
    epochs: int
    seconds: float
    params: dict[str, Any]
    reason: str | None
    best_epoch: int | None
    curve: tuple[Epoch, ...]
    parameters: int | None
    best_so_far: float | None
    recipe: bool = False
    device_seconds: float = 0.0
    finished: str | None = None
    latency_ms: float | None = None
    pareto: bool = False
    origin: str | None = None
    violations: dict[str, float] = field(default_factory=dict)
    seeds: dict[int, float] = field(default_factory=dict)
    tied: bool = False
    batch_parts: int | None = None


@dataclass(frozen=True)
class Part:
    """A part of the best trial's score (a class, an action unit, valence or arousal)."""

    name: str
    score: float
    baseline: float | None


@dataclass(frozen=True)
class Importance:
    """Shares of the parameters' importance, largest first, or why there are none.

    Attributes:
        shares: Parameter and its share; the shares sum to 1.
        trials: Number of trials that were compared.
        target: Number of the best of them that the importance tells apart from the rest.
        missing: Why there are no shares; empty when there are.
    """

    shares: tuple[tuple[str, float], ...] = ()
    trials: int = 0
    target: int = 0
    missing: str = ""


@dataclass(frozen=True)
class Grid:
    """Best score of each pair of two integer parameters.

    Attributes:
        scores: `scores[row][column]` of `y_values[row]`, `x_values[column]`; None if untried.
        counts: Number of scored trials of each pair.
    """

    x_name: str
    y_name: str
    x_values: tuple[int, ...]
    y_values: tuple[int, ...]
    scores: tuple[tuple[float | None, ...], ...]
    counts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Slice:
    """Scores of all scored trials against one searched parameter."""

    name: str
    axis: Axis
    values: tuple[Any, ...]
    scores: tuple[float, ...]
    states: tuple[str, ...]
    numbers: tuple[int, ...]


@dataclass(frozen=True)
class Failure:
    """Trials that failed for one kind of reason, or that a limit refused.

    Attributes:
        kind: Of reason, e.g. `nan`.
        example: What the first of the trials said.
    """

    kind: str
    example: str
    numbers: tuple[int, ...]


@dataclass(frozen=True)
class Ancestor:
    """Something in the store that the sweep was made from.

    Attributes:
        digest: Of its manifest when it was used.
        created: When it was finished; empty if unknown.
        state: Whether the store still holds the very same.
    """

    folder: str
    digest: str
    created: str
    state: Literal["same", "changed", "gone"]


@dataclass(frozen=True)
class Command:
    """A command to give next, and what it does."""

    purpose: str
    text: str


@dataclass(frozen=True)
class ReportData:
    """All numbers of the report of one sweep.

    Attributes:
        synthetic: The dataset is a synthetic one.
        finished: The sweep ended; else it runs, or was interrupted.
        target: Number of trials asked for.
        baseline: Score of the trivial prediction; None if unknown.
        reachable: Best reachable score, known of synthetic data only.
        trials: By number.
        ranking: Numbers of the trials, best first, those without a score last.
        best: Number of the best trial; None while there is no score.
        searched: Names of the searched parameters, in the order in which they were asked for.
        objectives: What is searched for; the score comes first.
        spent: The ended trials, in the order in which they ended.
        judged: What the best model predicts on validation.
        unjudged: Why that is unknown; empty when it is known.
        ended: Why it ended before all trials were run.
    """

    name: str
    task: Task
    store: str
    synthetic: bool
    finished: bool
    target: int
    baseline: float | None
    reachable: float | None
    trials: tuple[Trial, ...]
    ranking: tuple[int, ...]
    best: int | None
    searched: tuple[str, ...]
    importance: Importance
    grid: Grid | None
    slices: tuple[Slice, ...]
    parts: tuple[Part, ...]
    failures: tuple[Failure, ...]
    lineage: tuple[Ancestor, ...]
    commands: tuple[Command, ...]
    cost: Cost
    objectives: tuple[str, ...] = ("score",)
    spent: tuple[Spent, ...] = ()
    judged: Judged | None = None
    unjudged: str = ""
    ended: str | None = None

    @property
    def own(self) -> tuple[Trial, ...]:
        """The trials that this sweep ran itself, by number."""
        return tuple(trial for trial in self.trials if trial.origin is None)

    @property
    def states(self) -> tuple[str, ...]:
        """States that occur."""
        found = {trial.state for trial in self.trials}
        return tuple(state for state in STATES if state in found)

    @property
    def counts(self) -> dict[str, int]:
        """Number of its own trials in each state that occurs."""
        states = [trial.state for trial in self.own]
        return {state: states.count(state) for state in STATES if state in states}

    @property
    def seconds(self) -> float:
        """Seconds of its own trials together; they may have run at the same time."""
        return sum(trial.seconds for trial in self.own)

    @property
    def best_trial(self) -> Trial | None:
        """The trial with the best score."""
        return next((trial for trial in self.trials if trial.number == self.best), None)

    @property
    def recipe_trial(self) -> Trial | None:
        """The trial with the recipe's settings."""
        return next((trial for trial in self.trials if trial.recipe), None)

    @property
    def ranked(self) -> tuple[Trial, ...]:
        """The trials, best first."""
        by_number = {trial.number: trial for trial in self.trials}
        return tuple(by_number[number] for number in self.ranking)

    @property
    def gained(self) -> float | None:
        """Share of the way from the baseline (0) to the best reachable score (1)."""
        best = self.best_trial
        if best is None or best.score is None or self.baseline is None or self.reachable is None:
            return None
        way = self.reachable - self.baseline
        return (best.score - self.baseline) / way if way > 0 else None


@dataclass(frozen=True)
class Shown:
    """A video whose curves are shown, and why.

    Attributes:
        why: best, median or worst.
        score: Of this video alone (predictions.video_score).
        frames: Valid frames.
        step: Every so many frames there is a point.
    """

    why: str
    video: str
    score: float
    frames: int
    step: int


@dataclass(frozen=True)
class Judged:
    """What the best trial's model is worth on validation.

    Attributes:
        model: `SWEEP:NUMBER`.
        score: Of these predictions; that of the leaderboard but for the device's rounding.
        interval: Percentile bootstrap over videos, 95 %.
        frames: Valid frames.
        videos: Videos with a valid frame.
        confusion: What was predicted for what (confusion.py).
        per_video: Each video's own score.
        curves: True and predicted values over time of the videos that are shown.
        shown: Which these are.
    """

    model: str
    score: float
    interval: tuple[float, float]
    frames: int
    videos: int
    confusion: Table
    per_video: Table
    curves: Table
    shown: tuple[Shown, ...]


@dataclass(frozen=True)
class StateCost:
    """What the trials of one state took.

    Attributes:
        seconds: Of their epochs.
        device_seconds: The same, times their devices.
    """

    state: str
    trials: int
    epochs: int
    seconds: float
    device_seconds: float


@dataclass(frozen=True)
class Cost:
    """What the sweep took, and what pruning spared it.

    Attributes:
        states: Of each state that occurs; without trials that another sweep paid for.
        hours: Of all runs of the command together; 0 if unknown.
        budget: Epochs of a full trial.
        saved_epochs: Epochs that the pruned trials did not run.
        saved_device_seconds: What they would have taken at each trial's own pace.
        taken_over: Trials that another sweep paid for.
    """

    states: tuple[StateCost, ...]
    hours: float
    budget: int
    saved_epochs: int
    saved_device_seconds: float
    taken_over: int

    @property
    def epochs(self) -> int:
        """Epochs of all trials."""
        return sum(own.epochs for own in self.states)

    @property
    def seconds(self) -> float:
        """Seconds of all epochs; trials may have run at the same time."""
        return sum(own.seconds for own in self.states)

    @property
    def device_seconds(self) -> float:
        """Seconds of all epochs, times the devices that they took."""
        return sum(own.device_seconds for own in self.states)


@dataclass(frozen=True)
class Spent:
    """A trial in the order in which trials ended.

    Attributes:
        device_seconds: Of this trial and of all that ended before it.
        best: The best score among these.
    """

    number: int
    state: str
    score: float | None
    device_seconds: float
    best: float | None


def trials_of(rows: Sequence[TrialRow]) -> tuple[Trial, ...]:
    """The trials by number, each with the best score of the sweep so far."""
    so_far: float | None = None
    trials = []
    for row in sorted(rows, key=lambda row: row.number):
        score = finite(row.score)
        if row.is_candidate and score is not None:
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
        recipe=row.recipe,
        device_seconds=row.device_seconds,
        finished=row.finished,
        latency_ms=finite(row.latency_ms),
        pareto=row.pareto,
        origin=row.origin,
        violations=dict(row.violations),
        seeds=dict(row.seeds),
        tied=row.tied,
        batch_parts=row.batch_parts,
    )


def _epoch(of: EpochResult) -> Epoch:
    return Epoch(of.epoch, finite(of.score), finite(of.loss), finite(of.seconds))


def scored(trials: Sequence[Trial]) -> list[tuple[Trial, float]]:
    """The trials that ended with a score, and it."""
    return [(t, t.score) for t in trials if t.state in SCORED and t.score is not None]


def finite(value: Any) -> float | None:
    """A number, or None where it is none."""
    return float(value) if value is not None and math.isfinite(value) else None
