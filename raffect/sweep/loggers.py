"""TensorBoard, MLflow and W&B: each drives the callback that Tune has for it, trial by trial.

Called in one thread (trackers.py), and free to raise. An epoch is passed on once: a trial that
goes on after a kill tells all of its epochs again. TensorBoard's file of it is therefore begun
anew, MLflow's run is looked up and continued behind its last epoch, and W&B, which takes no epoch
twice, gets the same run id.
"""

from __future__ import annotations

import logging
import math
import os
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.tune.logger import LoggerCallback, TBXLoggerCallback

from raffect.store import sweep_folder
from raffect.sweep.tracked import TrackedSweep, TrackedTrial, epochs_after, trial_name

FOLDER = "tensorboard"
COPY_S = 15.0
"""Least seconds between two copies of a trial's file to object storage, which can't append."""
UPLOAD_S = 45
"""Seconds that W&B gets for what it has not sent at the end."""
_TAG_LENGTH = 64
"""W&B's limit."""


class Logger(ABC):
    """A sweep's trials in one tracker.

    Args:
        sweep: The sweep.
    """

    def __init__(self, sweep: TrackedSweep) -> None:
        self.sweep = sweep
        self.callback: Any = None
        self._trials: dict[int, TrackedTrial] = {}
        self._known: dict[int, int] = {}

    @abstractmethod
    def make(self) -> LoggerCallback:
        """Tune's callback."""

    def setup(self) -> None:
        """Begin the sweep."""
        self.callback = self.make()
        self.callback.setup()

    def start(self, number: int, settings: Mapping[str, Any]) -> None:
        """Begin a trial, or do nothing if it has begun."""
        if number not in self._trials:
            trial = self.sweep.trial(number, settings, self.place(number))
            self._known[number] = self.begin(trial)
            self._trials[number] = trial

    def place(self, number: int) -> str:
        """A local folder for the trial's files."""
        return ""

    def begin(self, trial: TrackedTrial) -> int:
        """Begin a trial; returns how many of its epochs the tracker has already."""
        self.callback.log_trial_start(trial)
        return 0

    def epochs(self, number: int, history: Sequence[Mapping[str, Any]]) -> None:
        """Pass on what is new among a trial's epochs."""
        trial = self._trials[number]
        for result in epochs_after(history, self._known[number]):
            self.callback.log_trial_result(result["training_iteration"], trial, result)
            self._known[number] = result["training_iteration"]

    def end(self, number: int, failed: bool) -> None:
        """End a trial."""
        trial = self._trials.pop(number, None)
        if trial is not None:
            self.callback.log_trial_end(trial, failed=failed)

    def idle(self) -> None:
        """Nothing has happened for some seconds."""
        return

    def finish(self) -> None:
        """End the sweep's run; trials that have not ended will be continued by another."""
        self.callback.on_experiment_end(trials=[])


class TensorBoard(Logger):
    """Event files in the sweep's folder, one folder a trial: `tensorboard --logdir` shows them.

    In a folder they are written where they stay; to object storage they are copied.
    """

    def make(self) -> LoggerCallback:
        """Tune's callback."""
        self._copied: dict[str, tuple[float, int]] = {}
        store = self.sweep.store
        self._local = None if store.is_local else tempfile.TemporaryDirectory(prefix="raffect-")
        callback: LoggerCallback = TBXLoggerCallback()  # type: ignore[no-untyped-call]
        return callback

    def place(self, number: int) -> str:
        """The trial's folder in the store, or a temporary one to copy from."""
        if self._local is None:
            return self.sweep.store.path(self._key(number))
        return f"{self._local.name}/{trial_name(number)}"

    def begin(self, trial: TrackedTrial) -> int:
        """Begin the trial's file anew: a driver that was killed may have left a part of one."""
        self.sweep.store.delete(self._key(trial.number))
        return super().begin(trial)

    def epochs(self, number: int, history: Sequence[Mapping[str, Any]]) -> None:
        """Pass on what is new among a trial's epochs."""
        super().epochs(number, history)
        self._copy(number)

    def end(self, number: int, failed: bool) -> None:
        """End a trial."""
        super().end(number, failed)
        self._copy(number, wait_s=0.0)

    def idle(self) -> None:
        """Copy what was held back."""
        for number in self._trials:
            self._copy(number)

    def finish(self) -> None:
        """Close the files of trials that have not ended, as they are."""
        for number in list(self._trials):
            self.end(number, False)
        if self._local is not None:
            self._local.cleanup()

    def _key(self, number: int) -> str:
        return f"{sweep_folder(self.sweep.name)}/{FOLDER}/{trial_name(number)}"

    def _copy(self, number: int, wait_s: float = COPY_S) -> None:
        if self._local is None:
            return
        now = time.monotonic()
        for path in sorted(Path(self.place(number)).glob("*")):
            copied, size = self._copied.get(str(path), (-math.inf, -1))
            content = path.read_bytes()
            if len(content) > size and now - copied >= wait_s:
                self.sweep.store.write_bytes(f"{self._key(number)}/{path.name}", content)
                self._copied[str(path)] = now, len(content)


class MLflow(Logger):
    """A run for each trial, in the experiment of the sweep; the server is MLFLOW_TRACKING_URI."""

    def make(self) -> LoggerCallback:
        """Tune's callback."""
        from ray.air.integrations.mlflow import MLflowLoggerCallback

        # It tells of each table that it makes in a new database.
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", f"raffect/{self.sweep.name}")
        callback: LoggerCallback = MLflowLoggerCallback(experiment_name=name)
        return callback

    def begin(self, trial: TrackedTrial) -> int:
        """Begin a run, or go on with the one that a killed driver left."""
        client = self.callback.mlflow_util._get_client()
        left = client.search_runs(
            [self.callback.mlflow_util.experiment_id],
            f"tags.`raffect.id` = '{trial.trial_id}' and attributes.status = 'RUNNING'",
            max_results=1,
        )
        if left:
            run = left[0].info.run_id
            self.callback._trial_runs[trial] = run
            return max(
                (entry.step for entry in client.get_metric_history(run, "score")), default=0
            )
        self.callback.tags = {
            "raffect.sweep": self.sweep.name,
            "raffect.task": self.sweep.task,
            "raffect.trial": str(trial.number),
            "raffect.store": self.sweep.store.uri,
            "raffect.id": trial.trial_id,
        }
        return super().begin(trial)


class WandB(Logger):
    """A run for each trial, in one group; W&B's own variables say who and where."""

    def make(self) -> LoggerCallback:
        """Tune's callback."""
        from ray.air.integrations.wandb import WandbLoggerCallback

        wanted = {"mode": "WANDB_MODE", "entity": "WANDB_ENTITY"}
        given: dict[str, Any] = {k: os.environ[v] for k, v in wanted.items() if v in os.environ}
        self._local = tempfile.TemporaryDirectory(prefix="raffect-")
        callback: LoggerCallback = WandbLoggerCallback(
            project=os.environ.get("WANDB_PROJECT", "raffect"),
            group=self.sweep.name,
            job_type=self.sweep.task,
            # Its logging process works in the trial's folder, which does not stay.
            dir=os.environ.get("WANDB_DIR", str(Path.cwd())),
            resume="allow",
            upload_timeout=UPLOAD_S,
            **given,
        )
        return callback

    def place(self, number: int) -> str:
        """A folder for the logging process to work in."""
        return f"{self._local.name}/{trial_name(number)}"

    def begin(self, trial: TrackedTrial) -> int:
        """Begin a run in a process of its own."""
        trial.init_local_path()
        tags = (self.sweep.name, self.sweep.task, str(trial))
        self.callback.kwargs["tags"] = [tag[:_TAG_LENGTH] for tag in tags]
        return super().begin(trial)

    def epochs(self, number: int, history: Sequence[Mapping[str, Any]]) -> None:
        """Pass on what is new among a trial's epochs."""
        self._check()
        super().epochs(number, history)

    def end(self, number: int, failed: bool) -> None:
        """End a trial."""
        self._check()
        super().end(number, failed)

    def idle(self) -> None:
        """Look whether the logging processes are well."""
        self._check()

    def finish(self) -> None:
        """Let the logging processes send the rest."""
        self._check()
        for number in list(self._trials):
            self.end(number, False)
        super().finish()

    def _check(self) -> None:
        """Raise what a logging process raised: the callback never looks."""
        running = list(self.callback._trial_logging_futures.values())
        if running:
            done, _ = ray.wait(running, num_returns=len(running), timeout=0)
            ray.get(done)
