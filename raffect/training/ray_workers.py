"""The same training loop on several workers, by Ray Train; the only module here that imports Ray.

Checkpoints go straight into the store: a worker group that is started again after a lost worker
or node continues from the last whole one, and so does the same command given again.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray
import ray.train.torch
import torch
from pyarrow.fs import FSSpecHandler, PyFileSystem
from ray.train.v2.api.config import FailureConfig, RunConfig, ScalingConfig

from raffect.config import TemporalConfig
from raffect.context import Context
from raffect.engine import (
    asks_for_gpus,
    beside_caller,
    check_gpus,
    connect,
    count_cpus,
    cpus_per_worker,
    tell_waiting,
)
from raffect.errors import find_user_error
from raffect.store.layout import ENGINE
from raffect.temporal.data import TaskData
from raffect.temporal.epochs import EpochResult
from raffect.temporal.training import NotFiniteError, Trainer
from raffect.training.checkpoints import CheckpointFolder
from raffect.training.reduce import GroupReducer, Reducer

OnEpoch = Callable[[EpochResult, int], None]

_MAX_FAILURES = 2
_POLL_S = 0.2
"""Folder beside the checkpoints where Ray Train keeps its own notes while it runs."""


class Board:
    """What workers tell the driver, and the driver's wish to stop; an actor."""

    def __init__(self) -> None:
        self._results: list[EpochResult] = []
        self._diverged: str | None = None
        self._stop = False

    def post(self, result: EpochResult) -> bool:
        """Tell of an epoch; whether to go on."""
        self._results.append(result)
        return not self._stop

    def diverge(self, reason: str) -> None:
        """Tell that the run can't go on."""
        self._diverged = reason

    def stop(self) -> None:
        """Let the workers end after the epoch that they are at."""
        self._stop = True

    def take(self) -> list[EpochResult]:
        """Results that were not taken yet."""
        results, self._results = self._results, []
        return results

    def diverged(self) -> str | None:
        """Why the run could not go on."""
        return self._diverged


@dataclass(frozen=True)
class Work:
    """What each worker is given.

    Attributes:
        config: Settings.
        data: The data in Ray's object store, so that workers of a node share it.
        checkpoints: Where to continue from, and to leave checkpoints.
        deliver: Called with the trainer on rank 0 after the last epoch.
        board: The actor that takes results.
    """

    config: TemporalConfig
    data: Any
    checkpoints: CheckpointFolder
    deliver: Callable[[Trainer], object]
    board: Any


def train_on_workers(
    config: TemporalConfig,
    data: TaskData | Any,
    workers: int,
    checkpoints: CheckpointFolder,
    deliver: Callable[[Trainer], object],
    on_epoch: OnEpoch | None = None,
    context: Context = Context(),
) -> None:
    """Train one model on several workers, to the last epoch.

    May be called in a driver or in a trial. `on_epoch` is called in the caller's thread; when it
    raises, the workers end after the epoch that they are at.

    Args:
        config: Settings; the batch size is that of all workers together.
        data: The data, or a reference to it in Ray's object store.
        workers: How many.
        checkpoints: Where to continue from, and to leave checkpoints.
        deliver: Called with the trainer on rank 0 after the last epoch; must be picklable.
        on_epoch: Called with each new epoch's result and the number of epochs in all.
        context: How it is run; a cluster that is connected already is used as it is.

    Raises:
        SettingsError: GPUs are wanted and this machine has too few.
        NotFiniteError: Training diverged.
        RaffectError: A worker met a user's mistake, or the store failed.
    """
    connect(context.address)
    check_gpus(config.run.device, workers, context.address)
    scaling = _scaling(config, workers)
    gpus = int(asks_for_gpus(config.run.device, workers))
    tell_waiting(context.on_note, workers, cpus_per_worker(workers, count_cpus()), gpus)
    board = beside_caller(Board)
    reference = data if isinstance(data, ray.ObjectRef) else ray.put(data)
    work = Work(config, reference, checkpoints, deliver, board)
    trainer = ray.train.torch.TorchTrainer(
        _train_worker,
        train_loop_config={"work": work},
        scaling_config=scaling,
        run_config=_run_config(checkpoints),
    )
    errors: list[BaseException] = []
    # Polled beside `fit`, as Ray Train's own callbacks run in an actor, out of the caller's reach.
    thread = threading.Thread(target=_fit, args=(trainer, errors), daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(_POLL_S)
            _tell(board, config, on_epoch)
    except Exception:
        board.stop.remote()
        # Ray frees the workers' resources only when the run ends by itself.
        thread.join()
        raise
    finally:
        if not thread.is_alive():
            checkpoints.store.delete(_engine_folder(checkpoints))
    _raise_failure(errors, ray.get(board.diverged.remote()))


def _fit(trainer: Any, errors: list[BaseException]) -> None:
    try:
        trainer.fit()
    except BaseException as error:
        errors.append(error)


def _tell(board: Any, config: TemporalConfig, on_epoch: OnEpoch | None) -> None:
    results: list[EpochResult] = ray.get(board.take.remote())
    for result in results:
        if on_epoch is not None:
            on_epoch(result, config.optimiser.epochs)


def _raise_failure(errors: list[BaseException], diverged: str | None) -> None:
    if diverged is not None:
        raise NotFiniteError(diverged)
    for error in errors:
        failures = getattr(error, "worker_failures", {})
        for cause in (error, *failures.values()):
            user = find_user_error(cause)
            if user is not None:
                raise user from error
            if isinstance(getattr(cause, "cause", cause), torch.OutOfMemoryError):
                raise torch.OutOfMemoryError(str(cause)) from error
        raise error


def _scaling(config: TemporalConfig, workers: int) -> ScalingConfig:
    gpus = asks_for_gpus(config.run.device, workers)
    return ScalingConfig(
        num_workers=workers,
        use_gpu=gpus,
        resources_per_worker={"CPU": cpus_per_worker(workers, count_cpus())},
        # GPUs of one node talk faster; on CPUs two would share a core while another node idles.
        placement_strategy="PACK" if gpus else "SPREAD",
    )


def _engine_folder(checkpoints: CheckpointFolder) -> str:
    return f"{checkpoints.folder.rpartition('/')[0]}/{ENGINE}"


def _run_config(checkpoints: CheckpointFolder) -> Any:
    store = checkpoints.store
    return RunConfig(
        # A name of its own: Ray Train would silently take up, or skip, a run of the same name.
        name=uuid.uuid4().hex,
        storage_path=store.path(_engine_folder(checkpoints)),
        storage_filesystem=PyFileSystem(FSSpecHandler(store.filesystem)),
        failure_config=FailureConfig(
            max_failures=_MAX_FAILURES, controller_failure_limit=_MAX_FAILURES
        ),
    )


def _train_worker(setup: dict[str, Work]) -> None:
    work = setup["work"]
    reducer = GroupReducer()
    device = ray.train.torch.get_device()
    try:
        trainer = Trainer(work.config, ray.get(work.data), reducer, device)
        work.checkpoints.restore_latest(trainer)
        while not trainer.done:
            result = trainer.run_epoch()
            if not _keep(work, trainer, result, reducer, device):
                return
        if reducer.rank == 0:
            work.deliver(trainer)
    except NotFiniteError as error:
        # Every worker sees the same sums, so that all end here; to raise would start them again.
        if reducer.rank == 0:
            ray.get(work.board.diverge.remote(str(error)))


def _keep(
    work: Work, trainer: Trainer, result: EpochResult, reducer: Reducer, device: torch.device
) -> bool:
    """Rank 0 leaves a checkpoint and tells of the epoch; whether all go on."""
    stop = torch.zeros(1, device=device)
    if reducer.rank == 0:
        work.checkpoints.save(trainer)
        stop += not ray.get(work.board.post.remote(result))
    return not bool(reducer.sum_in_place(stop))
