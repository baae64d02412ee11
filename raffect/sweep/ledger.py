"""Between the engine's callbacks and the study: each result is written once, by whoever is first.

Tune calls the scheduler for a result that leaves the trial running, and the searcher for one that
ends it (TuneController._process_trial_result asks no scheduler when a result says done). Both
hold this ledger; neither keeps anything of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from raffect.sweep.budget import Budget
from raffect.sweep.progress import Event, SweepProgress
from raffect.sweep.study import Assignment, SweepStudy

T = TypeVar("T")
MAX_LOSSES = 2
"""How often a trial whose process was lost gets another one; it goes on from its checkpoint."""
_HOPELESS = 5
"""Failures without a success after which a sweep is given up, unless the user says more."""
OnUpdate = Callable[[SweepProgress], None]


@dataclass
class Ledger:
    """Trials of this driver's run.

    Attributes:
        study: Where everything is written.
        epochs: A trial's full budget.
        budget: What may be spent, and what was.
        max_failures: Failures of this run after which no trial is begun any more; None: so many
            that no trial may ever succeed.
        on_update: Called after each event.
        error: What ended the sweep from within a callback, e.g. a store that is down; Tune logs
            some of its callbacks' errors and goes on, so that they are kept here.
        reasons: Of this run's failed trials.
    """

    study: SweepStudy
    epochs: int
    budget: Budget = field(default_factory=Budget)
    max_failures: int | None = None
    on_update: OnUpdate | None = None
    best: float | None = None
    best_trial: int | None = None
    best_params: Mapping[str, Any] = field(default_factory=dict)
    states: Counter[str] = field(default_factory=Counter)
    error: BaseException | None = None
    reasons: list[str] = field(default_factory=list)
    succeeded: int = 0
    ended: int = 0
    live: dict[str, Assignment] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    losses: Counter[int] = field(default_factory=Counter)
    told: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.study.clock = lambda: self.budget.run_seconds

    def guard(self, action: Callable[[], T], otherwise: T) -> T:
        """The action's value; `otherwise` after an error, which is kept and ends the sweep."""
        if self.error is None:
            try:
                return action()
            except Exception as error:
                self.error = error
        return otherwise

    @property
    def must_wait(self) -> bool:
        """Whether the running trials decide if there is a next one."""
        return self.gave_up and bool(self.live)

    @property
    def gave_up(self) -> bool:
        """Whether too many trials of this run failed."""
        if self.max_failures is None:
            return not self.succeeded and len(self.reasons) >= _HOPELESS
        return len(self.reasons) >= self.max_failures

    @property
    def finished(self) -> int:
        """Trials that ended, in all drivers' runs."""
        return sum(self.states.values())

    def begin(self, key: str) -> Assignment | None:
        """The next trial under the engine's key; None when there is none."""
        while self.study.remaining and not self.gave_up and not self.budget.exhausted:
            assignment = self.study.next(self._note_bad)
            if assignment is not None:
                self.live[key] = assignment
                self._update("started", assignment, assignment.recorded, None, "RUNNING")
                return assignment
        return None

    def _note_bad(self, reason: str) -> None:
        """A trial failed before it began."""
        self.reasons.append(reason)
        self.states["FAIL"] += 1
        self.ended += 1

    def result(self, key: str, result: Mapping[str, Any]) -> bool:
        """Take a result in; returns whether the trial is to stop."""
        assignment = self.live.get(key)
        if assignment is None:
            return True
        if result.get("failure"):
            self._fail(key, str(result["failure"]), result)
            return True
        history, facts = result["history"], dict(result["facts"])
        self.budget.use(key, sum(epoch["seconds"] for epoch in history))
        if facts.get("note"):
            self.notes[key] = facts["note"]
        if result.get("refusal"):
            self.study.refuse(assignment.number, str(result["refusal"]), facts)
            self._succeed(key, "PRUNED", result, str(result["refusal"]))
            return True
        if result["done"]:
            self.study.complete(assignment.number, history, facts)
            self._succeed(key, "COMPLETE", result)
            return True
        if self.study.report(assignment.number, history, facts):
            self._succeed(key, "PRUNED", result)
            return True
        if result["epoch"] > self.told.get(assignment.number, assignment.recorded):
            self.told[assignment.number] = result["epoch"]
            self._update("epoch", assignment, result["epoch"], result["score"], "RUNNING")
        return False

    def lose(self, key: str, reasons: Sequence[str]) -> None:
        """The engine has given a trial up; it is taken back as long as it lost few processes.

        Tune itself replaces only processes that were at an epoch, none that it had lent to the
        trial and that was dead by then.

        Args:
            key: The engine's key.
            reasons: Why it lost each of its processes.
        """
        if key not in self.live:
            return
        number = self.live[key].number
        self.losses[number] += len(reasons)
        if self.losses[number] > MAX_LOSSES:
            self._fail(key, reasons[-1], {})
        else:
            del self.live[key]
            self.study.take_back(number)

    def _fail(self, key: str, reason: str, result: Mapping[str, Any]) -> None:
        assignment = self.live.pop(key)
        history, facts = result.get("history", ()), dict(result.get("facts", ()))
        self.study.fail(assignment.number, reason, history, facts)
        self.reasons.append(reason)
        self._settle(key, "FAIL")
        epoch, score = result.get("epoch", 0), result.get("score")
        note = self.notes.pop(key, None)
        self._update("finished", assignment, epoch, score, "FAIL", reason, note)

    def _succeed(
        self, key: str, state: str, result: Mapping[str, Any], reason: str | None = None
    ) -> None:
        assignment = self.live.pop(key)
        score = result["score"]
        self.succeeded += score is not None
        self._settle(key, state)
        if score is not None and (self.best is None or score > self.best):
            self.best, self.best_trial = score, assignment.number
            self.best_params = assignment.params
        note = self.notes.pop(key, None)
        self._update("finished", assignment, result["epoch"], score, state, reason, note)

    def _settle(self, key: str, state: str) -> None:
        self.states[state] += 1
        self.ended += 1
        self.budget.settle(key)

    def _update(
        self,
        event: Event,
        assignment: Assignment,
        epoch: int,
        score: float | None,
        state: str,
        reason: str | None = None,
        note: str | None = None,
    ) -> None:
        if self.on_update is None:
            return
        seconds = self.budget.run_seconds
        self.on_update(
            SweepProgress(
                event=event,
                trial=assignment.number,
                epoch=epoch,
                epochs=self.epochs,
                score=score,
                state=state,
                reason=reason,
                finished=self.finished,
                target=self.study.target,
                best=self.best,
                best_trial=self.best_trial,
                best_params=self.best_params,
                states={**self.states, "RUNNING": len(self.live)},
                seconds=seconds,
                rate=3600 * self.ended / seconds if seconds else 0.0,
                device_hours=self.budget.all_device_seconds / 3600,
                note=note,
            )
        )
