"""Tune's searcher, scheduler and stopper: Optuna's public ask and tell, through the ledger.

Tune's own OptunaSearch is not used. It records pruned trials as COMPLETE with the value of a part
of their budget, leaves a trial with a NaN RUNNING for ever, and a restored run repeats trials that
were in flight. Patching that means its private members; the public interfaces of both libraries
need the few lines below.

All three are pickled by Tune into a folder that nobody reads: their state is left out of that.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

from ray.exceptions import RayActorError, RayTaskError
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.stopper import Stopper

from raffect.sweep.attributes import ACCUMULATION
from raffect.sweep.failures import LOST_ACTOR, OUT_OF_MEMORY, kind_of, reason_of, reason_of_loss
from raffect.sweep.ledger import Ledger
from raffect.sweep.records import TrialReport


class StudySearcher(Searcher):
    """Asks the study for trials, and settles those that end.

    Args:
        ledger: The sweep's ledger.
        room: How many trials may run at a time, now.
    """

    def __init__(self, ledger: Ledger, room: Callable[[], int]) -> None:
        super().__init__()
        self.ledger = ledger
        self._room = room
        self._slots: dict[str, int] = {}
        self.losses: dict[str, list[str]] = {}
        """Why trials of the engine lost their processes, by key; the scheduler notes it."""

    def suggest(self, trial_id: str) -> Any:
        """The next trial's configuration, None to wait, or FINISHED."""
        if self.ledger.must_wait and self.ledger.error is None:
            return None
        if len(self.ledger.live) >= self._room() and self.ledger.error is None:
            return None
        assignment = self.ledger.guard(lambda: self.ledger.begin(trial_id), None)
        if assignment is None:
            # A trial that runs may still be given back.
            waits = self.ledger.live and self.ledger.error is None
            return None if waits else Searcher.FINISHED
        return {
            "number": assignment.number,
            "settings": assignment.config.canonical(),
            "slot": self._take_slot(trial_id),
        }

    def _take_slot(self, trial_id: str) -> int:
        """The first that no running trial has; an actor keeps that of its first trial."""
        taken = set(self._slots.values())
        self._slots[trial_id] = next(slot for slot in count() if slot not in taken)
        return self._slots[trial_id]

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Nothing: the scheduler has recorded it."""

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Settle a trial that said it is done, or that lost its process too often."""
        self._slots.pop(trial_id, None)
        if error:
            reasons = self.losses.pop(trial_id, [LOST_ACTOR])
            self.ledger.guard(lambda: self.ledger.lose(trial_id, reasons), None)
        elif (told := TrialReport.from_tune(result)) is not None:
            last = told
            self.ledger.guard(lambda: self.ledger.result(trial_id, last), True)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study has everything."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the study has everything."""

    def __getstate__(self) -> dict[str, object]:
        return {}


class StudyScheduler(FIFOScheduler):
    """Records each result and stops the trials that the study prunes.

    Args:
        searcher: The sweep's searcher.
    """

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

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """Note why a process was lost; Tune may give the trial another one.

        One that had filled the machine's memory goes on with half a batch at a time.
        """
        reason = _reason(trial)
        self._searcher.losses.setdefault(trial.trial_id, []).append(reason)
        if kind_of(reason) == OUT_OF_MEMORY:
            trial.set_config({**trial.config, ACCUMULATION: 2})  # type: ignore[no-untyped-call]

    def __getstate__(self) -> dict[str, object]:
        return {}


class StudyStopper(Stopper):
    """Ends the engine's run after an error in a callback; the engine's clock for the study.

    Args:
        searcher: The sweep's searcher.
    """

    def __init__(self, searcher: StudySearcher) -> None:
        self._searcher = searcher

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Trials say themselves when they are done."""
        return False

    def stop_all(self) -> bool:
        """Whether the run must end; the engine asks several times a second."""
        ledger = self._searcher.ledger
        ledger.guard(ledger.study.catch_up, None)
        return ledger.error is not None

    def __getstate__(self) -> dict[str, object]:
        return {}


def _reason(trial: Trial) -> str:
    error = trial.get_pickled_error()
    if isinstance(error, RayTaskError):
        return reason_of(error.cause)
    if isinstance(error, RayActorError):
        return reason_of_loss(str(error))
    return reason_of_loss(str(trial.get_error() or ""))
