"""What a report shows, as plain numbers: nothing here knows of drawing or of the store."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from raffect.affwild2.tasks import Task
from raffect.report.judged import Judged
from raffect.report.outlay import Cost, Spent

State = Literal["COMPLETE", "PRUNED", "FAIL", "RUNNING", "WAITING"]
STATES: tuple[State, ...] = ("COMPLETE", "PRUNED", "FAIL", "RUNNING", "WAITING")
SCORED: tuple[str, ...] = ("COMPLETE", "PRUNED")
"""States of a finished trial with a score; only these are ranked."""

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
