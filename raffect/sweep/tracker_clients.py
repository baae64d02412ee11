"""A sweep's trials in TensorBoard, MLflow and W&B, each by its own client.

Calls may fail or hang as servers do; trackers.py keeps that from the trials.
"""

from __future__ import annotations

import json
import logging
import math
import os
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raffect import reaper
from raffect.environment import without
from raffect.settings import flatten, hash_json
from raffect.store import Store, sweep_folder
from raffect.store.layout import TENSORBOARD
from raffect.sweep.plan import SweepPlan, read_plan
from raffect.temporal.epochs import EpochResult

if TYPE_CHECKING:
    from raffect.sweep.wandb_process import Message

COPY_S = 60.0
"""Least seconds from a trial's begin to the first copy of its file to object storage, which can't
append, and from one to the next; the last is made when it ends."""
UPLOAD_S = 45.0
"""Seconds that W&B gets for what it has not sent at the end."""
_TAG_LENGTH = 64
"""W&B's limit."""
Plain = bool | int | float | str


@dataclass(frozen=True)
class TrackedTrial:
    """A trial as trackers have it; its id is the same in every run of the command."""

    number: int
    id: str
    params: dict[str, Plain]


@dataclass(frozen=True)
class TrackedSweep:
    """The sweep whose trials are tracked."""

    store: Store
    name: str
    task: str

    @cached_property
    def _plan(self) -> SweepPlan:
        return read_plan(self.store, self.name)["config"]

    def trial(self, number: int, settings: Mapping[str, Any]) -> TrackedTrial:
        """A trial by its number and its whole configuration, as JSON."""
        known = [self.store.uri, self.name, number, dict(settings)]
        ranges = self._plan.get("space", {}).get("ranges", {})
        params = parameters(settings, self._plan["base"], ranges)
        return TrackedTrial(number, f"{number:05d}-{hash_json(known)[:12]}", params)


def trial_name(number: int) -> str:
    """The name of a trial in trackers, sorted as its number is."""
    return f"trial-{number:05d}"


def parameters(
    settings: Mapping[str, Any], base: Mapping[str, Any], searched: Container[str]
) -> dict[str, Plain]:
    """A trial's settings as far as they matter: those that are searched, or are not the base's.

    Trackers take plain values only; lists and None become text.
    """
    plain, before = flatten(settings), flatten(base)
    return {
        key: value if isinstance(value, bool | int | float | str) else str(value)
        for key, value in plain.items()
        if key in searched or value != before.get(key)
    }


def epochs_after(history: Sequence[EpochResult], known: int) -> list[tuple[int, dict[str, float]]]:
    """The epochs after the first `known` ones, each with its values by name."""
    found = []
    best = -math.inf
    for epoch in history:
        best = max(best, epoch.score)
        if epoch.epoch > known:
            values = {name: getattr(epoch, name) for name in ("score", "loss", "lr", "seconds")}
            parts = {f"parts/{name}": value for name, value in epoch.parts.items()}
            raw = {} if epoch.raw is None else {"raw": epoch.raw}
            found.append((epoch.epoch, {**values, "best": best, **raw, **parts}))
    return found


class Logger(ABC):
    """A sweep's trials in one tracker."""

    def __init__(self, sweep: TrackedSweep) -> None:
        self.sweep = sweep
        self.trials: dict[int, TrackedTrial] = {}
        """Trials that have begun and not ended, by number."""
        self._known: dict[int, int] = {}

    @abstractmethod
    def setup(self) -> None:
        """Begin the sweep."""

    @abstractmethod
    def begin(self, trial: TrackedTrial) -> int:
        """Begin a trial; returns how many of its epochs the tracker has already."""

    @abstractmethod
    def log(self, trial: TrackedTrial, epoch: int, values: dict[str, float]) -> None:
        """Pass on the numbers of an epoch."""

    @abstractmethod
    def close(self, trial: TrackedTrial, failed: bool) -> None:
        """End a trial."""

    def start(self, number: int, settings: Mapping[str, Any]) -> None:
        """Begin a trial, or do nothing if it has begun."""
        if number not in self.trials:
            trial = self.sweep.trial(number, settings)
            self._known[number] = self.begin(trial)
            self.trials[number] = trial

    def epochs(self, number: int, history: Sequence[EpochResult]) -> None:
        """Pass on what is new among a trial's epochs."""
        for epoch, values in epochs_after(history, self._known[number]):
            self.log(self.trials[number], epoch, values)
            self._known[number] = epoch

    def end(self, number: int, failed: bool) -> None:
        """End a trial."""
        trial = self.trials.pop(number, None)
        if trial is not None:
            self.close(trial, failed)

    def idle(self) -> None:  # noqa: B027
        """Nothing has happened for some seconds."""

    def finish(self) -> None:  # noqa: B027
        """End the sweep's run; trials that have not ended will be continued by another."""

    def abandon(self) -> None:  # noqa: B027
        """The tracker is left out: let go of what runs; may be called from any thread."""


class TensorBoard(Logger):
    """Event files in the sweep's folder, one folder a trial: `tensorboard --logdir` shows them.

    In a folder they are written where they stay; to object storage they are copied.
    """

    def setup(self) -> None:
        """Begin the sweep."""
        local = self.sweep.store.is_local
        self._local = None if local else tempfile.TemporaryDirectory(prefix="raffect-")
        self._writers: dict[int, Any] = {}
        self._last: dict[int, dict[str, float]] = {}
        self._begun: dict[int, float] = {}
        self._copied: dict[str, tuple[float, int]] = {}
        self._left = set(self.sweep.store.names(f"{sweep_folder(self.sweep.name)}/{TENSORBOARD}"))

    def _key(self, number: int) -> str:
        return f"{sweep_folder(self.sweep.name)}/{TENSORBOARD}/{trial_name(number)}"

    def _place(self, number: int) -> str:
        """The trial's folder in the store, or a temporary one to copy from."""
        if self._local is None:
            return self.sweep.store.path(self._key(number))
        return f"{self._local.name}/{trial_name(number)}"

    def begin(self, trial: TrackedTrial) -> int:
        """Begin the trial's file anew: a driver that was killed may have left a part of one."""
        # It writes plain numbers without PyTorch, which takes two seconds of CPU to import.
        with without("torch"):
            from tensorboardX import SummaryWriter

        if trial_name(trial.number) in self._left:
            self.sweep.store.delete(self._key(trial.number))
        self._left.add(trial_name(trial.number))
        self._begun[trial.number] = time.monotonic()
        self._writers[trial.number] = SummaryWriter(self._place(trial.number), flush_secs=30)
        return 0

    def log(self, trial: TrackedTrial, epoch: int, values: dict[str, float]) -> None:
        """Write the numbers of an epoch, under the tags that Ray Tune's logger gave them."""
        found = {f"ray/tune/{name}": v for name, v in values.items() if not math.isnan(v)}
        self._last[trial.number] = found
        for tag, value in found.items():
            self._writers[trial.number].add_scalar(tag, value, global_step=epoch)

    def epochs(self, number: int, history: Sequence[EpochResult]) -> None:
        """Write what is new among a trial's epochs."""
        super().epochs(number, history)
        self._writers[number].flush()
        self._copy(number)

    def close(self, trial: TrackedTrial, failed: bool) -> None:
        """Close the trial's file, at its end the table of hyperparameters."""
        from tensorboardX.summary import hparams

        writer = self._writers.pop(trial.number)
        last = self._last.pop(trial.number, None)
        if last:
            of = {"sweep": self.sweep.name, "task": self.sweep.task, "trial": trial.number}
            for summary in hparams({**of, **trial.params}, last):
                writer.file_writer.add_summary(summary)
        writer.close()
        self._copy(trial.number, wait_s=0.0)

    def idle(self) -> None:
        """Copy what was held back."""
        for number in self.trials:
            self._copy(number)

    def finish(self) -> None:
        """Close the files of trials that have not ended, as they are."""
        for number in list(self.trials):
            self.end(number, False)
        if self._local is not None:
            self._local.cleanup()

    def _copy(self, number: int, wait_s: float = COPY_S) -> None:
        if self._local is None:
            return
        now = time.monotonic()
        for path in sorted(Path(self._place(number)).glob("*")):
            copied, size = self._copied.get(str(path), (self._begun[number], -1))
            content = path.read_bytes()
            if len(content) > size and now - copied >= wait_s:
                self.sweep.store.write_bytes(f"{self._key(number)}/{path.name}", content)
                self._copied[str(path)] = now, len(content)


class MLflow(Logger):
    """A run for each trial, in the experiment of the sweep; the server is MLFLOW_TRACKING_URI."""

    def setup(self) -> None:
        """Find the experiment, or make it."""
        from mlflow.tracking import MlflowClient

        # It logs each table that it makes in a new database.
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", f"raffect/{self.sweep.name}")
        self._client = MlflowClient()
        known = self._client.get_experiment_by_name(name)
        self._experiment = known.experiment_id if known else self._client.create_experiment(name)
        self._runs: dict[int, str] = {}

    def begin(self, trial: TrackedTrial) -> int:
        """Begin a run, or go on with the one that a killed driver left."""
        from mlflow.entities import Param

        left = self._client.search_runs(
            [self._experiment],
            f"tags.`raffect.id` = '{trial.id}' and attributes.status = 'RUNNING'",
            max_results=1,
        )
        if left:
            run = self._runs[trial.number] = left[0].info.run_id
            known = self._client.get_metric_history(run, "score")
            return max((entry.step for entry in known), default=0)
        name = trial_name(trial.number)
        tags = {
            "raffect.sweep": self.sweep.name,
            "raffect.task": self.sweep.task,
            "raffect.trial": str(trial.number),
            "raffect.store": self.sweep.store.uri,
            "raffect.id": trial.id,
            "trial_name": name,
        }
        run = self._client.create_run(self._experiment, tags=tags, run_name=name).info.run_id
        self._runs[trial.number] = run
        params = [Param(key, str(value)) for key, value in trial.params.items()]
        self._client.log_batch(run, params=params)
        return 0

    def log(self, trial: TrackedTrial, epoch: int, values: dict[str, float]) -> None:
        """Log the numbers of an epoch in one request."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        metrics = {"training_iteration": float(epoch), **values}
        found = [Metric(name, value, now, epoch) for name, value in metrics.items()]
        self._client.log_batch(self._runs[trial.number], metrics=found)

    def close(self, trial: TrackedTrial, failed: bool) -> None:
        """End the trial's run."""
        status = "FAILED" if failed else "FINISHED"
        self._client.set_terminated(self._runs.pop(trial.number), status)


class ClientProcessError(Exception):
    """A tracker's client process ended by an error, which is the message."""


class WandB(Logger):
    """A run for each trial, in one group; W&B's own variables say who and where.

    Its client runs in a process of its own (wandb_process.py).
    """

    command = ("-m", "raffect.sweep.wandb_process")
    _process: subprocess.Popen[str] | None = None

    def setup(self) -> None:
        """Start the process."""
        # A file, as W&B's service holds the other end of a pipe open after its client has ended.
        self._output = tempfile.TemporaryFile("w+")  # noqa: SIM115
        with reaper.marked():
            self._process = subprocess.Popen(
                [sys.executable, *self.command, str(UPLOAD_S)],
                stdin=subprocess.PIPE,
                stdout=self._output,
                stderr=subprocess.DEVNULL,
                text=True,
                # A Ctrl-C in the terminal is the driver's: this one still has to send the rest.
                start_new_session=True,
            )

    def begin(self, trial: TrackedTrial) -> int:
        """Begin a run; W&B goes on with one of the same id, behind its last step."""
        name = trial_name(trial.number)
        tags = (self.sweep.name, self.sweep.task, name)
        given = {"mode": os.environ.get("WANDB_MODE"), "entity": os.environ.get("WANDB_ENTITY")}
        run: dict[str, Any] = {
            "name": name,
            "resume": "allow",
            "config": trial.params,
            "project": os.environ.get("WANDB_PROJECT", "raffect"),
            "group": self.sweep.name,
            "job_type": self.sweep.task,
            "dir": os.environ.get("WANDB_DIR", str(Path.cwd())),
            "tags": [tag[:_TAG_LENGTH] for tag in tags],
            **{key: value for key, value in given.items() if value is not None},
        }
        self._send({"do": "begin", "id": trial.id, "run": run})
        return 0

    def log(self, trial: TrackedTrial, epoch: int, values: dict[str, float]) -> None:
        """Log the numbers of an epoch."""
        found = {"training_iteration": float(epoch), **values}
        self._send({"do": "log", "id": trial.id, "step": epoch, "values": found})

    def close(self, trial: TrackedTrial, failed: bool) -> None:
        """End the trial's run."""
        self._send({"do": "end", "id": trial.id, "failed": failed})

    def idle(self) -> None:
        """Raise the error of a process that has failed."""
        assert self._process is not None
        if self._process.poll():
            raise self._error()

    def finish(self) -> None:
        """Let the process send the rest."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        if self._process.wait(UPLOAD_S):
            raise self._error()

    def abandon(self) -> None:
        """End the process as it is; it may never have begun."""
        if self._process is not None:
            self._process.kill()

    def _send(self, message: Message) -> None:
        self.idle()
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{json.dumps(message)}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            self._process.wait()
            raise self._error() from None

    def _error(self) -> ClientProcessError:
        self._output.seek(0)
        lines = self._output.read().strip().splitlines()
        return ClientProcessError(lines[-1] if lines else "its process ended")
