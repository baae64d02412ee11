"""Tune's searcher, scheduler and stopper: Optuna's public ask and tell, through the ledger.

Tune's own OptunaSearch is not used. It records pruned trials as COMPLETE with the value of a part
of their budget, leaves a trial with a NaN RUNNING for ever, and a restored run repeats trials that
were in flight. Patching that means its private members; the public interfaces of both libraries
need the few lines below.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from ray import cloudpickle
from ray.exceptions import RayTaskError
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.stopper import Stopper

from raffect import interrupts
from raffect.engine import find_lost_work
from raffect.errors import StoreError, find_user_error
from raffect.sweep.attributes import ACCUMULATION
from raffect.sweep.failures import (
    LOST_ACTOR,
    OUT_OF_MEMORY,
    STUCK,
    kind_of,
    reason_of,
    reason_of_loss,
)
from raffect.sweep.ledger import Ledger
from raffect.sweep.records import WORN, TrialReport


class _Stateless:
    """Tune pickles all three into a folder that nobody reads: their state is left out of that."""

    def __getstate__(self) -> dict[str, object]:
        return {}


class StudySearcher(_Stateless, Searcher):
    """Asks the study for trials, as many as there is room for now, and settles those that end."""

    def __init__(
        self, ledger: Ledger, room: Callable[[], int], others: Sequence[str | list[str]] = ()
    ) -> None:
        super().__init__()
        self.ledger = ledger
        self._others = others
        self._room = room
        self._slots: dict[str, int] = {}
        self.losses: dict[str, list[str]] = {}
        """Why trials of the engine lost their processes, by key; the scheduler notes it."""
        self.store_errors: dict[str, StoreError] = {}
        """Of trials that failed last as the store did."""
        self.ended: dict[str, str] = {}
        """Why processes were ended from here, by key; the watch notes it."""

    def suggest(self, trial_id: str) -> Any:
        """The next trial's configuration, None to wait, or FINISHED."""
        ledger = self.ledger
        if len(ledger.live) >= self._room() and ledger.error is None:
            return None
        assignment = ledger.guard(lambda: ledger.begin(trial_id), None)
        if assignment is None:
            # A trial that runs may still be given back, or decide whether there is a next one.
            return None if ledger.live and ledger.error is None else Searcher.FINISHED
        # The first slot that no running trial has; an actor keeps that of its first trial.
        taken = set(self._slots.values())
        slot = self._slots[trial_id] = next(slot for slot in count() if slot not in taken)
        found = {
            "number": assignment.number,
            "settings": assignment.config.canonical(),
            "slot": slot,
            "is_new": assignment.is_new,
        }
        if assignment.features is not None:
            found["data"] = 1 + self._others.index(assignment.features)
        return found

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Nothing: the scheduler has recorded it."""

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Settle a trial that said it is done, or that lost its process too often."""
        self._slots.pop(trial_id, None)
        broken = self.store_errors.pop(trial_id, None)
        if error and broken is not None:
            # Not the trial's fault, and the next one would fare no better: it goes on when the
            # command is given again.
            self.ledger.stop(broken)
        elif error:
            reasons = self.losses.pop(trial_id, [LOST_ACTOR])
            self.ledger.guard(lambda: self.ledger.lose(trial_id, reasons), None)
        elif (told := TrialReport.from_tune(result)) is not None:
            last = told
            self.ledger.guard(lambda: self.ledger.result(trial_id, last), True)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study has everything."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the study has everything."""


class StudyScheduler(_Stateless, FIFOScheduler):
    """Records each result and stops the trials that the study prunes."""

    def __init__(self, searcher: StudySearcher) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._searcher = searcher

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Record a result of a trial that could go on."""
        ledger = self._searcher.ledger
        told = TrialReport.from_tune(result)
        assert told is not None
        stop = ledger.guard(lambda: ledger.result(trial.trial_id, told), True)
        decision: str = TrialScheduler.STOP if stop else TrialScheduler.CONTINUE
        return decision

    def on_trial_complete(
        self, tune_controller: Any, trial: Trial, result: dict[str, Any]
    ) -> None:
        """Let a worn process go; Tune, which asks here first, keeps it for the next trial."""
        tune_controller._reuse_actors = not result.get(WORN, False)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """Note why a process was lost; Tune may give the trial another one.

        One that had filled the machine's memory goes on with half a batch at a time.
        """
        reason = self._searcher.ended.pop(trial.trial_id, None) or _reason(trial)
        self._searcher.store_errors.pop(trial.trial_id, None)
        known = find_user_error(_error_of(trial))
        if isinstance(known, StoreError):
            self._searcher.store_errors[trial.trial_id] = known
        self._searcher.losses.setdefault(trial.trial_id, []).append(reason)
        changed: dict[str, object] = {"is_new": False}
        if kind_of(reason) == OUT_OF_MEMORY:
            changed[ACCUMULATION] = 2
        elif kind_of(reason) == STUCK:
            # This was the process that Tune replaces.
            trial.max_failures = 0
        trial.set_config({**trial.config, **changed})  # type: ignore[no-untyped-call]


class StudyStopper(_Stateless, Stopper):
    """Ends the engine's run after an error in a callback or a stop signal.

    It is the engine's clock for the study, too: `look` is called as often as the engine asks.
    """

    def __init__(self, searcher: StudySearcher, look: Callable[[], None]) -> None:
        self._searcher = searcher
        self._look = look

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Trials say themselves when they are done."""
        return False

    def stop_all(self) -> bool:
        """Whether the run must end; the engine asks several times a second."""
        ledger = self._searcher.ledger
        ledger.guard(ledger.keep_up, None)
        # Not before trials run: it would take the process that one of them waits for.
        if ledger.has_results:
            ledger.guard(self._look, None)
        return ledger.error is not None or interrupts.received() is not None


def _error_of(trial: Trial) -> BaseException | None:
    """What a trial failed with last.

    Not by get_pickled_error(), which looks for the file where it is copied to only later: in the
    engine's storage.
    """
    path = trial.pickled_error_file
    if path is None or not Path(path).is_file():
        return None
    with Path(path).open("rb") as file:
        error: BaseException = cloudpickle.load(file)
    return error


def _reason(trial: Trial) -> str:
    error = _error_of(trial)
    if isinstance(error, RayTaskError):
        lost = find_lost_work(error)
        return reason_of(error.cause) if lost is None else reason_of_loss(lost.got)
    return reason_of_loss(str(error or ""))
