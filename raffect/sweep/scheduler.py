"""Tune's view of pruning: the study decides, with Optuna's asynchronous successive halving.

The rungs are attributes of the study's trials, so that a new driver knows them; Tune's own ASHA
keeps them in memory and forgets them.
"""

from __future__ import annotations

from typing import Any

from ray.exceptions import RayActorError, RayTaskError
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.stopper import Stopper

from raffect.sweep.attributes import ACCUMULATION
from raffect.sweep.reasons import OUT_OF_MEMORY, kind_of, reason_of, reason_of_loss
from raffect.sweep.searcher import StudySearcher


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
        stop = ledger.guard(lambda: ledger.result(trial.trial_id, result), True)
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

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles what it is given into a folder that nobody reads."""
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

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles what it is given into a folder that nobody reads."""
        return {}


def _reason(trial: Trial) -> str:
    error = trial.get_pickled_error()
    if isinstance(error, RayTaskError):
        return reason_of(error.cause)
    if isinstance(error, RayActorError):
        return reason_of_loss(str(error))
    return reason_of_loss(str(trial.get_error() or ""))
