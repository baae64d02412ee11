"""Experiment trackers beside the study, by Tune's own callbacks: TensorBoard, MLflow, W&B.

A tracker is there to be looked at: whatever happens to it, no trial waits for it or fails by it.
Each runs in a thread of its own, so that a server which does not answer holds nobody up; the
first error is said, and the tracker is left out from there on.
"""

from __future__ import annotations

import importlib.util
import logging
import math
import os
import queue
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.logger import LoggerCallback, TBXLoggerCallback

from raffect.errors import SettingsError
from raffect.settings import flatten, hash_json
from raffect.store import Store, sweep_folder
from raffect.store.layout import PLAN, TENSORBOARD
from raffect.sweep.records import TrialReport
from raffect.temporal.epochs import EpochResult


@dataclass(frozen=True)
class TrackedTrial:
    """What Tune's logger callbacks ask of a trial.

    Attributes:
        number: Its number in the study.
        task: The sweep's task.
        trial_id: The same for the same trial of the same sweep, in every run of the command.
        config: Its parameters.
        local_path: A local folder for files.
        experiment_dir_name: The sweep.
    """

    number: int
    task: str = field(compare=False)
    trial_id: str = field(compare=False)
    config: dict[str, Any] = field(compare=False)
    local_path: str = field(compare=False)
    experiment_dir_name: str = field(compare=False)

    @property
    def evaluated_params(self) -> dict[str, Any]:
        """What a table of hyperparameters has of it."""
        of = {"sweep": self.experiment_dir_name, "task": self.task, "trial": self.number}
        return {**of, **self.config}

    @property
    def checkpoint(self) -> None:
        """None: checkpoints are in the store."""

    def init_local_path(self) -> None:
        """Make the folder."""
        Path(self.local_path).mkdir(parents=True, exist_ok=True)

    def __str__(self) -> str:
        return trial_name(self.number)


@dataclass(frozen=True)
class TrackedSweep:
    """The sweep whose trials are tracked."""

    store: Store
    name: str
    task: str

    @cached_property
    def _plan(self) -> dict[str, Any]:
        plan: dict[str, Any] = self.store.read_json(f"{sweep_folder(self.name)}/{PLAN}")
        return dict(plan["config"])

    def trial(self, number: int, settings: Mapping[str, Any], local: str) -> TrackedTrial:
        """A trial.

        Args:
            number: Its number.
            settings: Its whole configuration, as JSON.
            local: A local folder for files.
        """
        known = [self.store.uri, self.name, number, dict(settings)]
        return TrackedTrial(
            number=number,
            task=self.task,
            trial_id=f"{number:05d}-{hash_json(known)[:12]}",
            config=parameters(settings, self._plan["base"], self._plan["space"]["ranges"]),
            local_path=local,
            experiment_dir_name=self.name,
        )


def trial_name(number: int) -> str:
    """The name of a trial in trackers, sorted as its number is."""
    return f"trial-{number:05d}"


def parameters(
    settings: Mapping[str, Any], base: Mapping[str, Any], searched: Container[str]
) -> dict[str, Any]:
    """A trial's settings as far as they matter: those that are searched, or are not the base's.

    Trackers take plain values only; lists and None become text.
    """
    plain, before = flatten(settings), flatten(base)
    return {
        key: value if isinstance(value, bool | int | float | str) else str(value)
        for key, value in plain.items()
        if key in searched or value != before.get(key)
    }


def epochs_after(history: Sequence[EpochResult], known: int) -> list[dict[str, Any]]:
    """Numbers of the epochs that are new, as Tune's callbacks take a result.

    Args:
        history: All epochs of the trial, as fields of EpochResult.
        known: Epochs that were tracked before.
    """
    found = []
    best = float("-inf")
    for epoch in history:
        best = max(best, epoch.score)
        if epoch.epoch > known:
            numbers = {name: getattr(epoch, name) for name in ("score", "loss", "lr", "seconds")}
            parts = dict(epoch.parts)
            found.append(
                {"training_iteration": epoch.epoch, **numbers, "best": best, "parts": parts}
            )
    return found


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

    def epochs(self, number: int, history: Sequence[EpochResult]) -> None:
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

    def epochs(self, number: int, history: Sequence[EpochResult]) -> None:
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
        return f"{sweep_folder(self.sweep.name)}/{TENSORBOARD}/{trial_name(number)}"

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

    def epochs(self, number: int, history: Sequence[EpochResult]) -> None:
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


FINISH_S = 60.0
"""Longest time that the end of a sweep waits for a tracker; a dead server must not take longer."""
_IDLE_S = 5.0
OnTrouble = Callable[[str], None]


@dataclass(frozen=True)
class _Kind:
    """A tracker: what runs it, and the packages that it needs."""

    title: str
    make: Callable[[TrackedSweep], Logger]
    package: str
    extra: str | None = None


_KINDS = {
    "tensorboard": _Kind("TensorBoard", TensorBoard, "tensorboardX"),
    "mlflow": _Kind("MLflow", MLflow, "mlflow", "mlflow"),
    "wandb": _Kind("W&B", WandB, "wandb", "wandb"),
}
TRACKERS = tuple(_KINDS)


def make_callbacks(
    trackers: Sequence[str], store: Store, sweep: str, task: str, on_trouble: OnTrouble
) -> list[Tracker]:
    """Callbacks for Tune's run; nothing is sent yet.

    Args:
        trackers: Names out of TRACKERS.
        store: The sweep's store.
        sweep: The sweep, planned.
        task: Its task.
        on_trouble: Told, from another thread, why a tracker is left out; once for each.

    Raises:
        SettingsError: There is no such tracker, or its package is not installed.
    """
    of = TrackedSweep(store, sweep, task)
    kinds = [_kind(name) for name in dict.fromkeys(trackers)]
    return [Tracker(kind.title, kind.make(of), on_trouble) for kind in kinds]


def _kind(name: str) -> _Kind:
    kind = _KINDS.get(name)
    if kind is None:
        raise SettingsError(
            f"There is no tracker {name!r}.", ", ".join(TRACKERS), "Correct the tracker's name."
        )
    if importlib.util.find_spec(kind.package) is None:
        what = f"'raffect[{kind.extra}]'" if kind.extra else kind.package
        raise SettingsError(
            f"{kind.title} is not installed.",
            "trackers whose package is there",
            f"pip install {what}, or leave {name} out.",
        )
    return kind


class Tracker(tune.Callback):
    """Passes what happens to the trials on to a logger, in its thread.

    Args:
        title: The tracker's name for people.
        logger: What it drives.
        on_trouble: Told once why the tracker is left out.
    """

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
        result: dict[str, Any],
        **info: Any,
    ) -> None:
        """An epoch more, or several: a trial that was continued tells all that it has had."""
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
        """Wait until all is passed on, but not for ever."""
        if not self._thread.is_alive():
            return
        self._post(self._logger.finish)
        self._jobs.put(None)
        self._thread.join(FINISH_S)
        if self._thread.is_alive():
            self._leave_out(f"it does not keep up: {self._jobs.qsize()} events are not passed on")

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles what it is given into a folder that nobody reads."""
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
                    self._leave_out(_first_line(error))

    def _leave_out(self, why: str) -> None:
        self._left_out.set()
        self._on_trouble(f"{self._title} is left out from here on, the trials go on: {why}")


def _first_line(error: Exception) -> str:
    # Ray's own errors hold that of the other process, and are a traceback as text.
    error = getattr(error, "cause", None) or error
    lines = str(error).strip().splitlines() or ["no message"]
    return f"{type(error).__name__}: {lines[0][:200]}"
