"""Experiment trackers beside the study: TensorBoard, MLflow, W&B.

Whatever happens to a tracker, no trial waits for it or fails because of it. Each runs in a thread
of its own, so that a server which does not answer holds nothing up; its first error is reported,
and the tracker is left out from then on.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ray import tune
from ray.tune.experiment import Trial

from raffect.errors import SettingsError
from raffect.requirements import require
from raffect.store import Store
from raffect.sweep.records import TrialReport
from raffect.sweep.tracker_clients import (
    ClientProcessError,
    Logger,
    MLflow,
    TensorBoard,
    TrackedSweep,
    WandB,
)

FINISH_S = 60.0
"""Longest time that the end of a sweep waits for a tracker; a dead server must not take longer."""
_IDLE_S = 5.0
OnTrouble = Callable[[str], None]


@dataclass(frozen=True)
class _Kind:
    title: str
    make: Callable[[TrackedSweep], Logger]
    extra: str | None = None
    """Of raffect's, where it needs one; named as the module is."""


_KINDS = {
    "tensorboard": _Kind("TensorBoard", TensorBoard),
    "mlflow": _Kind("MLflow", MLflow, "mlflow"),
    "wandb": _Kind("W&B", WandB, "wandb"),
}


def make_callbacks(
    trackers: Sequence[str], store: Store, sweep: str, task: str, on_trouble: OnTrouble
) -> list[TrackerThread]:
    """Callbacks for Tune's run of a planned sweep; nothing is sent yet.

    Args:
        on_trouble: Called, from another thread, with why a tracker is left out; once for each.

    Raises:
        SettingsError: There is no such tracker.
        NotThereError: Its package is not installed.
    """
    of = TrackedSweep(store, sweep, task)
    kinds = [_kind(name) for name in dict.fromkeys(trackers)]
    return [TrackerThread(kind.title, kind.make(of), on_trouble) for kind in kinds]


def _kind(name: str) -> _Kind:
    kind = _KINDS.get(name)
    if kind is None:
        raise SettingsError(
            f"There is no tracker {name!r}.", ", ".join(_KINDS), "Correct the tracker's name."
        )
    if kind.extra:
        require(kind.extra, kind.extra, f"--track {name}")
    return kind


class TrackerThread(tune.Callback):
    """Passes what happens to the trials on to a logger, in a thread of its own."""

    def __init__(self, title: str, logger: Logger, on_trouble: OnTrouble) -> None:
        self._title = title
        self._logger = logger
        self._on_trouble = on_trouble
        self._jobs: queue.Queue[Callable[[], None] | None] = queue.Queue()
        self._left_out = threading.Event()
        self._failed: set[int] = set()
        self._thread = threading.Thread(
            target=self._work, daemon=True, name=f"raffect-{title.lower()}"
        )

    def setup(self, *args: Any, **info: Any) -> None:
        """Begin."""
        self._thread.start()
        self._post(self._logger.setup)

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """A trial has a process; also the second one, after it lost its first."""
        number, settings = int(trial.config["number"]), trial.config["settings"]
        self._post(lambda: self._logger.start(number, settings))

    def on_trial_result(
        self,
        iteration: int,
        trials: list[Trial],
        trial: Trial,
        result: Mapping[str, Any],
        **info: Any,
    ) -> None:
        """An epoch more, or several: a trial that was continued reports its whole history."""
        number, told = int(trial.config["number"]), TrialReport.from_tune(result)
        if told is None:
            return
        if told.failure is not None:
            self._failed.add(number)
        self._post(lambda: self._logger.epochs(number, told.history))

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """A trial ended, also by pruning or by a failure of its own."""
        number = int(trial.config["number"])
        failed = number in self._failed
        self._post(lambda: self._logger.end(number, failed))

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """A trial lost its process for good."""
        number = int(trial.config["number"])
        self._post(lambda: self._logger.end(number, True))

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        """Wait until everything is passed on, for `FINISH_S` at most."""
        if not self._thread.is_alive():
            return
        self._post(self._logger.finish)
        self._jobs.put(None)
        self._thread.join(FINISH_S)
        if self._thread.is_alive():
            self._leave_out(f"it does not keep up: {self._jobs.qsize()} events are not passed on")

    def __getstate__(self) -> dict[str, object]:
        # Tune pickles its callbacks into a folder that nobody reads.
        return {}

    def _post(self, job: Callable[[], None]) -> None:
        if not self._left_out.is_set():
            self._jobs.put(job)

    def _work(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=_IDLE_S)
            except queue.Empty:
                job = self._logger.idle
            if job is None:
                return
            if not self._left_out.is_set():
                try:
                    job()
                except Exception as error:
                    # Whatever a client raises: no trial fails by its tracker.
                    self._leave_out(_first_line(error))

    def _leave_out(self, why: str) -> None:
        self._left_out.set()
        self._logger.abandon()
        self._on_trouble(f"{self._title} is left out from here on, the trials go on: {why}")


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or ["no message"]
    if isinstance(error, ClientProcessError):
        return lines[0]
    return f"{type(error).__name__}: {lines[0][:200]}"
