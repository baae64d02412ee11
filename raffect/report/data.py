"""What a report shows, as plain numbers: nothing here knows of drawing or of the store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from raffect.affwild2.tasks import Task
from raffect.report.tables import Table
from raffect.sweep.ablation_table import AblationRow
from raffect.sweep.attributes import STATES
from raffect.sweep.leaderboard import SweepView
from raffect.sweep.records import TrialRow

Axis = Literal["number", "log", "category"]


@dataclass(frozen=True)
class ScorePart:
    """A part of the best trial's score: a class, an action unit, valence or arousal.

    Beside it the trivial prediction's and the linear floor's, None where they are not known.
    """

    name: str
    score: float
    baseline: float | None
    linear: float | None = None


@dataclass(frozen=True)
class Importance:
    """Shares of the parameters' importance, largest first, or why they are `missing`.

    Attributes:
        shares: Sum to 1.
        spread: For each of these the 5 % and 95 % quantiles over `samples` bootstraps of trials.
        trials: Those that were compared; `complete` of them used their full budget.
        target: The importance tells so many of the best apart from the rest.
        lacking: Further finished trials that it needs to be shown.
    """

    shares: tuple[tuple[str, float], ...] = ()
    spread: tuple[tuple[float, float], ...] = ()
    samples: int = 0
    trials: int = 0
    complete: int = 0
    target: int = 0
    lacking: int = 0
    missing: str = ""


@dataclass(frozen=True)
class Grid:
    """Best score and number of the scored trials of each pair of two integer parameters.

    Both are `[row][column]` of `y_values[row]`, `x_values[column]`; an untried score is None.
    """

    x_name: str
    y_name: str
    x_values: tuple[int, ...]
    y_values: tuple[int, ...]
    scores: tuple[tuple[float | None, ...], ...]
    counts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Slice:
    """The scored trials with one searched parameter, and the axis that suits its values."""

    name: str
    axis: Axis
    trials: tuple[TrialRow, ...]

    def title(self, names: Mapping[str, str]) -> str:
        """What its axis is called, by the parameters' short names."""
        return names[self.name] + (" (log scale)" if self.axis == "log" else "")

    @property
    def values(self) -> list[Any]:
        """The parameter's value in each trial."""
        return [trial.params[self.name] for trial in self.trials]

    @property
    def numbers(self) -> list[int]:
        """The trials' numbers."""
        return [trial.number for trial in self.trials]


@dataclass(frozen=True)
class Failure:
    """Trials that failed for one kind of reason (e.g. `nan`), or that a limit refused.

    `example` is the rest of the first trial's reason.
    """

    kind: str
    example: str
    numbers: tuple[int, ...]


@dataclass(frozen=True)
class Ancestor:
    """Something in the store that the sweep was made from.

    `digest` is of its manifest when it was used, `state` whether the store still holds the very
    same; `created`, when it was finished, is empty if unknown.
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
class StateCost:
    """What the trials of one state took; `device_seconds` are seconds times their devices."""

    state: str
    trials: int
    epochs: int
    seconds: float
    device_seconds: float


@dataclass(frozen=True)
class Cost:
    """What the sweep took, and what pruning saved.

    `states` leave out trials that another sweep paid for. `hours` are of all runs of the command
    together, 0 if unknown; `budget` are the epochs of a full trial. What pruned trials did not run
    would have taken `saved_device_seconds` at each trial's own pace.
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
class EndedTrial:
    """A trial in the order in which trials ended.

    `device_seconds` are of this trial and all that ended before it, `best` is their best score.
    """

    number: int
    state: str
    score: float | None
    device_seconds: float
    best: float | None


@dataclass(frozen=True)
class ChosenVideo:
    """A video whose curves are shown, and why: best, median or worst.

    `score` is of this video alone (validation.video_score), `frames` are the valid ones; only
    every `step` frames are shown.
    """

    why: str
    video: str
    score: float
    frames: int
    step: int


@dataclass(frozen=True)
class Validation:
    """What the best trial's model, `SWEEP:NUMBER`, predicts on validation.

    The score is that of the leaderboard but for the device's rounding, its 95 % interval a
    percentile bootstrap over videos. Only valid frames count, and videos that have one.
    `confusion`: see validation.confusion_of; `curves` are over time, of the videos in `shown`.
    """

    model: str
    score: float
    interval: tuple[float, float]
    frames: int
    videos: int
    confusion: Table
    per_video: Table
    curves: Table
    shown: tuple[ChosenVideo, ...]


@dataclass(frozen=True)
class ReportData:
    """All numbers of the report of one sweep; `store` is a URI.

    `baseline` is the score of the trivial prediction, `reachable` the best, known of synthetic
    data only. `trials` are by number (a page may draw fewer), `searched` parameters in the order
    in which they were asked for. `not_validated` says why `validation` is unknown.
    `ablation` are the rows of an ablation's table; a search has none.
    """

    view: SweepView
    store: str
    synthetic: bool
    baseline: float | None
    reachable: float | None
    trials: tuple[TrialRow, ...]
    best_so_far: Mapping[int, float]
    searched: tuple[str, ...]
    importance: Importance
    grid: Grid | None
    slices: tuple[Slice, ...]
    parts: tuple[ScorePart, ...]
    failures: tuple[Failure, ...]
    lineage: tuple[Ancestor, ...]
    commands: tuple[Command, ...]
    cost: Cost
    by_end: tuple[EndedTrial, ...]
    validation: Validation | None
    not_validated: str
    ablation: tuple[AblationRow, ...] = ()

    @property
    def name(self) -> str:
        """The sweep's name."""
        return self.view.name

    @property
    def task(self) -> Task:
        """The sweep's task."""
        return self.view.task

    @cached_property
    def best(self) -> TrialRow | None:
        """The best trial; None while there is none."""
        return self.view.best

    @property
    def best_number(self) -> int | None:
        """The best trial's number."""
        return self.best.number if self.best else None

    @property
    def own(self) -> tuple[TrialRow, ...]:
        """The trials that this sweep ran itself, by number."""
        return tuple(trial for trial in self.trials if trial.origin is None)

    @property
    def states(self) -> tuple[str, ...]:
        """States that occur."""
        occurring = {trial.state for trial in self.trials}
        return tuple(state for state in STATES if state in occurring)

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
    def gained(self) -> float | None:
        """Share of the gap from the baseline (0) to the best reachable score (1) so far closed."""
        best = self.best
        if best is None or best.score is None or self.baseline is None or self.reachable is None:
            return None
        way = self.reachable - self.baseline
        return (best.score - self.baseline) / way if way > 0 else None


def scored(trials: Iterable[TrialRow]) -> list[tuple[TrialRow, float]]:
    """The trials that ended with a score, and it; also those beyond a limit."""
    return [(t, t.score) for t in trials if t.model is not None and t.score is not None]


def best_so_far(trials: Iterable[TrialRow]) -> dict[int, float]:
    """By trial number the best score until then; trials before the first score are left out."""
    best: float | None = None
    found = {}
    for trial in trials:
        if trial.is_candidate and trial.score is not None:
            best = trial.score if best is None else max(best, trial.score)
        if best is not None:
            found[trial.number] = best
    return found
