"""Training on several workers, by Ray Train; the only module of this package that imports Ray.

Ray Train starts the workers' processes and their process group, and starts them again after one
is lost. Checkpoints go straight into the store: a restarted group continues from the last whole
one, and so does the same command given again.

The driver runs `TorchTrainer.fit` in a thread and waits beside it in the caller's own thread,
where the caller's callback and Ctrl-C belong; Ray Train's callbacks run in its controller, an
actor. Messages travel through an actor on the caller's node. The controller imports torch in any
case (with Ray's TorchConfig) and this module, but no model's: the work passes through it
unopened, so that it starts without open_clip, which takes as long to import as torch.
"""

from __future__ import annotations

import pickle
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from functools import partial
from typing import Any, TypeVar

import ray
import ray.exceptions
import ray.train.torch
import torch
from pyarrow.fs import FSSpecHandler, PyFileSystem
from ray.train.v2._internal.execution.callback import ControllerCallback
from ray.train.v2.api.config import FailureConfig, LoggingConfig, RunConfig, ScalingConfig

from raffect.engine import Share, beside_caller, find_lost_work
from raffect.errors import find_user_error
from raffect.store.layout import ENGINE
from raffect.training.checkpoints import CheckpointFolder
from raffect.training.loop import EpochTrainer, NotFiniteError, Record, run_epochs
from raffect.training.messages import MessageQueue
from raffect.training.reduce import LOCAL, GroupReducer, Reducer

Data = TypeVar("Data")
Delivered = TypeVar("Delivered")
MakeTrainer = Callable[[Data, Reducer, torch.device], EpochTrainer[Record]]
Deliver = Callable[[Any], Delivered]

_MAX_FAILURES = 2
_POLL_S = 0.2
_WAIT_S = 0.05
_STOP_S = 30.0


class _Kind(Enum):
    """What a message from rank 0 holds."""

    EPOCH = "record of an epoch"
    DIVERGED = "why training can't go on"
    DELIVERED = "what `deliver` returned"


class _SendHandle(ControllerCallback):
    """Runs in the controller: sends its handle to the driver, which may have to abort it."""

    def __init__(self, queue: Any) -> None:
        self._queue = queue

    def after_controller_start(self, train_run_context: Any) -> None:
        """Called before the first worker is started."""
        ray.get(self._queue.set_controller.remote(ray.get_runtime_context().current_actor))


def train_on_workers(
    make_trainer: MakeTrainer[Data, Record],
    data: Data | ray.ObjectRef[Data],
    workers: int,
    share: Share,
    checkpoints: CheckpointFolder,
    deliver: Deliver[Delivered],
    on_epoch: Callable[[Record], object],
    leaves_cores: bool = False,
) -> Delivered:
    """Train one model on several workers, each with its share of the cluster, to the last epoch.

    May be called in a driver or in a trial, when Ray is connected. When `on_epoch` raises, or on
    Ctrl-C, the workers are stopped at once; the checkpoints stay, up to the last epoch told.

    Args:
        make_trainer: Makes a worker's trainer from the data; must be picklable.
        data: The data, or a reference to it in Ray's object store; a node's workers share it.
        deliver: Gets the trainer of rank 0 after the last epoch, and its answer is returned; must
            be picklable.
        on_epoch: Called in this thread with the record of each new epoch on rank 0.
        leaves_cores: Place the workers on as few nodes as can be, as GPUs of one node talk faster:
            tasks that feed them need whole cores, and spread workers could leave none on any node.
            Otherwise CPU workers are spread: two would share a core beside an idle node.

    Raises:
        NotFiniteError: Training diverged.
        RaffectError: A worker met a user's mistake, the store failed, or too many processes died.
        torch.OutOfMemoryError: A worker's GPU has too little memory.
    """
    queue = beside_caller(MessageQueue)
    reference = data if isinstance(data, ray.ObjectRef) else ray.put(data)
    trainer = ray.train.torch.TorchTrainer(
        partial(_work, make_trainer, reference, checkpoints, deliver, queue),
        scaling_config=ScalingConfig(
            num_workers=workers,
            use_gpu=bool(share.gpus),
            resources_per_worker={"CPU": share.cpus},
            placement_strategy="PACK" if share.gpus or leaves_cores else "SPREAD",
        ),
        run_config=_run_config(checkpoints, queue),
    )
    errors: list[BaseException] = []
    diverged: str | None = None
    delivered: list[Delivered] = []
    controller: Any = None
    thread = threading.Thread(target=_fit, args=(trainer, errors), daemon=True)
    thread.start()
    try:
        is_running = True
        while is_running:
            thread.join(_POLL_S)
            # Looked at first: what is sent before the run ends is taken after it.
            is_running = thread.is_alive()
            messages, controller = ray.get(queue.take.remote())
            for message in messages:
                kind, value = pickle.loads(message)
                if kind is _Kind.EPOCH:
                    on_epoch(value)
                elif kind is _Kind.DIVERGED:
                    diverged = value
                else:
                    delivered = [value]
                queue.mark_handled.remote()
    except BaseException as error:
        _abort(queue, controller, thread)
        lost = find_lost_work(error)
        if lost is None:
            raise
        raise lost from error
    finally:
        checkpoints.store.delete(_engine_folder(checkpoints))
    if diverged is not None:
        raise NotFiniteError(diverged)
    if errors:
        raise _explained(errors[0])
    (result,) = delivered
    return result


def _fit(trainer: Any, errors: list[BaseException]) -> None:
    try:
        trainer.fit()
    except BaseException as error:
        errors.append(error)


def _abort(queue: Any, controller: Any, thread: threading.Thread) -> None:
    """Stop the workers and free their resources.

    A controller that is merely killed leaves its placement group behind, and with it the workers'
    cores, where Ray's dashboard does not run; `abort` removes the group. A controller that waits
    for resources does not hear it, and is killed.
    """
    deadline = time.monotonic() + _STOP_S
    while controller is None and thread.is_alive() and time.monotonic() < deadline:
        try:
            _, controller = ray.get(queue.take.remote())
        except ray.exceptions.RayActorError:
            # The controller, too, fails at its start without the queue, and the run with it.
            break
        thread.join(_POLL_S)
    if controller is None:
        return
    try:
        # A controller that has ended is as it should be.
        with suppress(ray.exceptions.RayActorError):
            ray.get(controller.abort.remote(), timeout=_STOP_S)
    except ray.exceptions.GetTimeoutError:
        ray.kill(controller)
    thread.join(_STOP_S)


def _explained(error: BaseException) -> BaseException:
    """What a worker met, where a user or a trial can do something about it; else Ray's error."""
    for cause in (error, *getattr(error, "worker_failures", {}).values()):
        found: BaseException | None = find_user_error(cause) or find_lost_work(cause)
        if found is None and isinstance(getattr(cause, "cause", cause), torch.OutOfMemoryError):
            found = torch.OutOfMemoryError(str(cause))
        if found is not None:
            found.__cause__ = error
            return found
    return error


def _engine_folder(checkpoints: CheckpointFolder) -> str:
    return f"{checkpoints.folder.rpartition('/')[0]}/{ENGINE}"


def _run_config(checkpoints: CheckpointFolder, queue: Any) -> Any:
    store = checkpoints.store
    # Typed as if for users' callbacks alone; Ray Train takes its internal ones here as well.
    callbacks: list[Any] = [_SendHandle(queue)]
    return RunConfig(
        # A name of its own: Ray Train would silently take up, or skip, a run of the same name.
        name=uuid.uuid4().hex,
        # Workers on other nodes refuse a folder that they do not share with the controller.
        storage_path=store.path(_engine_folder(checkpoints)),
        storage_filesystem=PyFileSystem(FSSpecHandler(store.filesystem)),
        failure_config=FailureConfig(
            max_failures=_MAX_FAILURES, controller_failure_limit=_MAX_FAILURES
        ),
        callbacks=callbacks,
        logging_config=LoggingConfig(log_level="ERROR"),
    )


def _work(
    make_trainer: MakeTrainer[Data, Record],
    data: ray.ObjectRef[Data],
    checkpoints: CheckpointFolder,
    deliver: Deliver[object],
    queue: Any,
) -> None:
    """What each worker runs."""
    has_others = ray.train.get_context().get_world_size() > 1
    reducer = GroupReducer() if has_others else LOCAL
    is_lead = reducer.rank == 0

    def send(kind: _Kind, value: object) -> None:
        ray.get(queue.put.remote(pickle.dumps((kind, value))))

    def wait() -> None:
        # An epoch that the caller ends the run at is the last in the checkpoints: the next one,
        # computed meanwhile, would be kept and never told.
        while not ray.get(queue.is_handled.remote()):
            time.sleep(_WAIT_S)

    try:
        trainer = make_trainer(ray.get(data), reducer, ray.train.torch.get_device())
        run_epochs(trainer, checkpoints, partial(send, _Kind.EPOCH), is_lead, wait)
        if is_lead:
            send(_Kind.DELIVERED, deliver(trainer))
    except NotFiniteError as error:
        # All workers end here, as all see the same sums; to raise would start them again.
        if is_lead:
            send(_Kind.DIVERGED, str(error))
