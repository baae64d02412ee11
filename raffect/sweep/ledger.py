"""Between the engine's callbacks and the study: each result is written once, by whoever is first.

Tune calls the scheduler for a result that leaves the trial running, and the searcher for one that
ends it (TuneController._process_trial_result asks no scheduler when a result says done). Both
hold this ledger; neither keeps anything of its own.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from raffect.context import ignore
from raffect.sweep.attributes import FINISHED
from raffect.sweep.budget import Budget
from raffect.sweep.failures import STUCK, TOO_LONG, kind_of
from raffect.sweep.progress import Event, SweepProgress
from raffect.sweep.records import TOP, TrialReport, TrialRow, rank
from raffect.sweep.running import Assignment
from raffect.sweep.study import SweepStudy

T = TypeVar("T")
MAX_LOSSES = 2
"""How often a trial whose process was lost gets another one; it goes on from its checkpoint."""
MAX_STUCK = 1
"""The same for a trial that stood still: the second time it is the trial."""
_HOPELESS = 5
"""Failures without a success after which a sweep is given up, unless the user says more."""
OnUpdate = Callable[[SweepProgress], None]


@dataclass
class Ledger:
    """The trials of this driver's run, and what is known from earlier runs and other sweeps.

    Attributes:
        epochs: A trial's full budget.
        max_failures: Failures of this run after which no trial is begun any more; None: so many
            that no trial may ever succeed.
        top: The best trials so far in their order, at most TOP.
        states: Number of trials by how they ended, in all drivers' runs.
        error: What ended the sweep from within a callback, e.g. a store that is down; Tune logs
            some of its callbacks' errors and goes on, so that they are kept here.
        reasons: Of this run's failed trials.
        succeeded: Trials of this run with a score.
        ended: Trials of this run that ended.
        live: Running trials by the engine's key.
    """

    study: SweepStudy
    epochs: int
    budget: Budget = field(default_factory=Budget)
    max_failures: int | None = None
    on_update: OnUpdate | None = None
    on_ended: Callable[[TrialRow], None] = ignore
    top: list[TrialRow] = field(default_factory=list)
    states: Counter[str] = field(default_factory=Counter)
    error: BaseException | None = None
    reasons: list[str] = field(default_factory=list)
    succeeded: int = 0
    ended: int = 0
    live: dict[str, Assignment] = field(default_factory=dict)
    _losses: dict[int, list[str]] = field(default_factory=dict)
    _told: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.study.clock = lambda: self.budget.run_seconds
        rows = self.study.rows()
        self.states.update(
            row.state for row in rows if row.state in FINISHED and row.origin is None
        )
        self.top = sorted((row for row in rows if row.is_candidate), key=rank)[:TOP]

    def stop(self, error: BaseException) -> None:
        """End the sweep with an error, unless another one has ended it."""
        self.error = self.error or error

    def guard(self, action: Callable[[], T], otherwise: T) -> T:
        """The action's value; `otherwise` after an error, which is kept and ends the sweep."""
        if self.error is None:
            try:
                return action()
            except Exception as error:
                self.error = error
        return otherwise

    @property
    def gave_up(self) -> bool:
        """Whether too many trials of this run failed."""
        if self.max_failures is None:
            return not self.succeeded and len(self.reasons) >= _HOPELESS
        return len(self.reasons) >= self.max_failures

    @property
    def has_results(self) -> bool:
        """Whether a trial of this run has told an epoch, or ended."""
        return bool(self._told or self.ended)

    def begin(self, key: str) -> Assignment | None:
        """The next trial under the engine's key; None when there is none."""
        if not self.study.remaining and not self.live:
            # The last look before the end: somebody may have added a trial.
            self.study.look()
        while self.study.remaining and not self.gave_up and not self.budget.exhausted:
            assignment = self.study.next(self._note_bad)
            if assignment is not None:
                self.live[key] = assignment
                self._update("started", assignment.number, assignment.recorded, None)
                return assignment
        return None

    def _note_bad(self, reason: str) -> None:
        self.reasons.append(reason)
        self.states["FAIL"] += 1
        self.ended += 1

    def result(self, key: str, told: TrialReport) -> bool:
        """Take in what a trial tells; returns whether it is to stop."""
        assignment = self.live.get(key)
        if assignment is None:
            return True
        number = assignment.number
        if told.failure is not None:
            self._fail(key, told.failure, told)
            return True
        self.budget.use(key, told.seconds)
        if told.refusal is not None:
            self.study.refuse(number, told.refusal, told.facts)
        elif told.done:
            self.study.complete(number, told.history, told.facts)
        elif not self.study.report(number, told.history, told.facts):
            if told.epoch > self._told.get(number, assignment.recorded):
                self._told[number] = told.epoch
                self._update("epoch", number, told.epoch, told.score)
            return False
        self._settle(key, told)
        return True

    def keep_up(self) -> None:
        """Write what waits, and let go of trials that another hand has ended.

        Their processes hear of it at their next result, which nobody waits for any more.
        """
        self.study.catch_up()
        for key, assignment in list(self.live.items()):
            if not self.study.is_live(assignment.number):
                self._settle(key, TrialReport())

    def lose(self, key: str, reasons: Sequence[str]) -> None:
        """The engine has given a trial up; it is taken back as long as it lost few processes.

        Tune itself replaces only processes that were at an epoch, none that it had lent to the
        trial and that was dead by then. The reasons are one for each lost process.
        """
        if key not in self.live:
            return
        number = self.live[key].number
        losses = self._losses.setdefault(number, [])
        losses += reasons
        kinds = Counter(map(kind_of, losses))
        if len(losses) > MAX_LOSSES or kinds[STUCK] > MAX_STUCK or kinds[TOO_LONG]:
            self._fail(key, reasons[-1], TrialReport())
        else:
            del self.live[key]
            self.study.take_back(number)

    def _fail(self, key: str, reason: str, told: TrialReport) -> None:
        self.study.fail(self.live[key].number, reason, told.history, told.facts)
        self.reasons.append(reason)
        self._settle(key, told)

    def _settle(self, key: str, told: TrialReport) -> None:
        """Take in how a trial ended, from the study."""
        row = self.study.row(self.live.pop(key).number)
        self.succeeded += row.score is not None
        self.states[row.state] += 1
        self.ended += 1
        self.budget.settle(key)
        self.on_ended(row)
        if row.is_candidate:
            insort(self.top, row, key=rank)
            del self.top[TOP:]
        self._update("finished", row.number, told.epoch, told.score, row)

    def _update(
        self,
        event: Event,
        trial: int,
        epoch: int,
        score: float | None,
        row: TrialRow | None = None,
    ) -> None:
        """Tell of a running trial, or of the row of one that ended."""
        if self.on_update is None:
            return
        seconds = self.budget.run_seconds
        best = self.top[0] if self.top else None
        self.on_update(
            SweepProgress(
                event=event,
                trial=trial,
                epoch=epoch,
                epochs=self.epochs,
                score=score,
                state="RUNNING" if row is None else row.state,
                reason=None if row is None else row.reason,
                finished=sum(self.states.values()),
                target=self.study.target,
                best=None if best is None else best.score,
                best_trial=None if best is None else best.number,
                best_params={} if best is None else best.params,
                top=tuple(row.score for row in self.top if row.score is not None),
                states={**self.states, "RUNNING": len(self.live)},
                seconds=seconds,
                hours=self.budget.seconds / 3600,
                rate=3600 * self.ended / seconds if seconds else 0.0,
                device_hours=self.budget.all_device_seconds / 3600,
                note=None if row is None else row.attributes.get("note"),
            )
        )
