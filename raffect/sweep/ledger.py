"""Between the engine's callbacks and the study: each result is written once, by whoever is first.

Tune calls the scheduler for a result that leaves the trial running, and the searcher for one that
ends it (TuneController._process_trial_result asks no scheduler when a result says done). Both
hold this ledger; neither keeps anything of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from raffect.sweep.study import Assignment, SweepStudy

T = TypeVar("T")
Event = Literal["started", "epoch", "finished"]


@dataclass(frozen=True)
class SweepProgress:
    """What happened in a sweep, and how far it is.

    Attributes:
        event: A trial began, finished an epoch, or ended.
        trial: Its number.
        epoch: Its finished epochs.
        epochs: A trial's full budget.
        score: Its best score so far.
        state: RUNNING, or how it ended.
        reason: Why it failed.
        finished: Trials that ended, in all drivers' runs.
        target: Trials that were asked for.
        best: The best score of the sweep so far.
        best_trial: Its trial.
    """

    event: Event
    trial: int
    epoch: int
    epochs: int
    score: float | None
    state: str
    reason: str | None
    finished: int
    target: int
    best: float | None
    best_trial: int | None

    def describe(self) -> str:
        """One line for people."""
        score = "" if self.score is None else f", score {self.score:.4f}"
        where = f"epoch {self.epoch} of {self.epochs}" if self.state == "RUNNING" else ""
        ended = f"{self.state.lower()} after {self.epoch} epochs"
        best = "" if self.best is None else f"; best {self.best:.4f} (trial {self.best_trial})"
        return f"trial {self.trial}: {where or self.reason or ended}{score}{best}"


OnUpdate = Callable[[SweepProgress], None]


@dataclass
class Ledger:
    """Trials of this driver's run.

    Attributes:
        study: Where everything is written.
        epochs: A trial's full budget.
        max_failures: Failures without a success after which no trial is begun any more.
        on_update: Called after each event.
        error: What ended the sweep from within a callback, e.g. a store that is down; Tune logs
            some of its callbacks' errors and goes on, so that they are kept here.
        reasons: Of this run's failed trials.
    """

    study: SweepStudy
    epochs: int
    max_failures: int
    on_update: OnUpdate | None = None
    finished: int = 0
    best: float | None = None
    best_trial: int | None = None
    error: BaseException | None = None
    reasons: list[str] = field(default_factory=list)
    succeeded: int = 0
    live: dict[str, Assignment] = field(default_factory=dict)

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
        """Whether all trials of this run failed, and that often enough."""
        return not self.succeeded and len(self.reasons) >= self.max_failures

    def begin(self, key: str) -> Assignment | None:
        """The next trial under the engine's key; None when there is none."""
        if self.gave_up:
            return None
        assignment = self.study.next()
        if assignment is not None:
            self.live[key] = assignment
            self._update("started", assignment, assignment.recorded, None, "RUNNING")
        return assignment

    def result(self, key: str, result: Mapping[str, Any]) -> bool:
        """Take a result in; returns whether the trial is to stop."""
        assignment = self.live.get(key)
        if assignment is None:
            return True
        if result.get("failure"):
            self._fail(key, str(result["failure"]), result)
            return True
        history, facts = result["history"], dict(result["facts"])
        if result["epoch"] >= self.epochs:
            self.study.complete(assignment.number, history, facts)
            self._succeed(key, "COMPLETE", result)
            return True
        if self.study.report(assignment.number, history, facts):
            self._succeed(key, "PRUNED", result)
            return True
        self._update("epoch", assignment, result["epoch"], result["score"], "RUNNING")
        return False

    def lose(self, key: str, reason: str) -> None:
        """A trial's process is gone for good."""
        if key in self.live:
            self._fail(key, reason, {})

    def _fail(self, key: str, reason: str, result: Mapping[str, Any]) -> None:
        assignment = self.live.pop(key)
        history, facts = result.get("history", ()), dict(result.get("facts", ()))
        self.study.fail(assignment.number, reason, history, facts)
        self.reasons.append(reason)
        self.finished += 1
        epoch, score = result.get("epoch", 0), result.get("score")
        self._update("finished", assignment, epoch, score, "FAIL", reason)

    def _succeed(self, key: str, state: str, result: Mapping[str, Any]) -> None:
        assignment = self.live.pop(key)
        self.succeeded += 1
        self.finished += 1
        if self.best is None or result["score"] > self.best:
            self.best, self.best_trial = result["score"], assignment.number
        self._update("finished", assignment, result["epoch"], result["score"], state)

    def _update(
        self,
        event: Event,
        assignment: Assignment,
        epoch: int,
        score: float | None,
        state: str,
        reason: str | None = None,
    ) -> None:
        if self.on_update is None:
            return
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
            )
        )
