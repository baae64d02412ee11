"""The workers of a fine-tuning run: what Ray Train starts, and how the driver hears of it."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.fs
import ray
import ray.exceptions
import ray.train
import ray.train.torch
from numpy.typing import NDArray

from raffect.clip.encoder import restore
from raffect.clip.ingest import WINDOW, Share
from raffect.clip.mail import Mailbox, Post
from raffect.clip.training import Batch, Finetuner, NotFiniteError
from raffect.config import FinetuneConfig
from raffect.engine import asks_for_gpus, beside_caller, count_cpus, cpus_per_worker
from raffect.errors import RaffectError, SettingsError, find_user_error
from raffect.store import Store
from raffect.store.layout import FINETUNE_CHECKPOINTS
from raffect.training.reduce import LOCAL, GroupReducer

POLL_S = 0.2
STOP_S = 30
OnEpoch = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Job:
    """What is the same for all workers, and each one's shares."""

    config: FinetuneConfig
    workers: int
    description: dict[str, Any]
    weights: bytes
    class_counts: NDArray[np.int64]
    train: list[Share]
    validation: list[Share]

    @property
    def batch_size(self) -> int:
        """Batch of one worker."""
        return max(1, self.config.batch_size // self.workers)

    @property
    def steps(self) -> int:
        """Batches per epoch; the training shares are equally large."""
        return -(-self.train[0].rows // self.batch_size)

    def frames(self) -> dict[str, int]:
        """Crops used, by split."""
        return {
            "train": sum(share.rows for share in self.train),
            "validation": sum(share.rows for share in self.validation),
        }


def _work(job: Job) -> None:
    """A worker: epochs until the last, each reported with a checkpoint by rank 0."""
    context = ray.train.get_context()
    rank = context.get_world_rank()
    reducer = GroupReducer() if context.get_world_size() > 1 else LOCAL
    finetuner = Finetuner(
        restore(job.description, job.weights),
        job.config,
        job.class_counts,
        job.steps,
        ray.train.torch.get_device(),
        reducer,
        ray.train.torch.prepare_model,
    )
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as saved:
            finetuner.restore(Path(saved))
    while finetuner.epoch < job.config.epochs:
        seed = job.config.run.seed + finetuner.epoch
        train = _batches(job.train[rank], job.batch_size, seed)
        validation = _batches(job.validation[rank], job.batch_size, None)
        try:
            facts = finetuner.run_epoch(train, validation)
        except NotFiniteError as error:
            ray.train.report({"problem": str(error)})
            return
        with tempfile.TemporaryDirectory(prefix="raffect-") as local:
            if rank == 0:
                finetuner.save(Path(local))
            saved_now = ray.train.Checkpoint.from_directory(local) if rank == 0 else None
            ray.train.report(facts, checkpoint=saved_now)


def _batches(share: Share, batch_size: int, seed: int | None) -> Iterator[Batch]:
    if not share.rows:
        return
    window = None if seed is None else max(WINDOW, batch_size)
    for batch in share.dataset.iter_torch_batches(
        batch_size=batch_size,
        prefetch_batches=2,
        local_shuffle_buffer_size=window,
        local_shuffle_seed=seed,
    ):
        yield batch["image"], batch["label"]


def run_workers(store: Store, folder: str, job: Job, on_epoch: OnEpoch | None) -> Any:
    """Train on all workers; returns Ray Train's checkpoint of the last epoch.

    A run that was interrupted in this folder goes on from its last checkpoint.

    Raises:
        SettingsError: The loss stopped being finite.
    """
    mailbox = beside_caller(Mailbox)
    trainer = _Trainer(
        partial(_work, job),
        scaling_config=_scaling(job),
        run_config=_run_config(store, folder, mailbox),
    )
    reader = _Reader(mailbox, trainer, on_epoch)
    reader.start()
    try:
        result = trainer.fit()
    except Exception as error:
        reader.close()
        raise reader.error or _user_error(error) or error from None
    except BaseException:
        trainer.stop()
        raise
    finally:
        reader.close()
    if reader.error is not None:
        raise reader.error
    return result.checkpoint


def _scaling(job: Job) -> ray.train.ScalingConfig:
    use_gpu = asks_for_gpus(job.config.run.device, job.workers)
    gpu = {"GPU": 1} if use_gpu else {}
    return ray.train.ScalingConfig(
        num_workers=job.workers,
        use_gpu=use_gpu,
        resources_per_worker={"CPU": cpus_per_worker(job.workers, count_cpus()), **gpu},
    )


def _run_config(store: Store, folder: str, mailbox: Any) -> Any:
    handler = pyarrow.fs.FSSpecHandler(store.filesystem)
    # Its stubs are those of Train V1.
    make: Any = ray.train.RunConfig
    return make(
        name=FINETUNE_CHECKPOINTS,
        storage_path=store.path(folder),
        storage_filesystem=None if store.is_local else pyarrow.fs.PyFileSystem(handler),
        failure_config=ray.train.FailureConfig(max_failures=2),
        checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
        callbacks=[Post(mailbox)],
        logging_config=ray.train.LoggingConfig(log_level="ERROR"),
    )


class _Trainer(ray.train.torch.TorchTrainer):
    """Ray's own handler of Ctrl-C ends the driver with exit code 0; ours lets Python raise."""

    controller: Any = None

    def _register_sigint_handler(self, controller: Any) -> None:
        self.controller = controller

    def stop(self) -> None:
        """End the run and its workers; what was reported stays.

        A controller that is merely killed leaves its placement group behind, and with it the
        workers' cores, where Ray's dashboard does not run.
        """
        if self.controller is None:
            return
        try:
            ray.get(self.controller.abort.remote(), timeout=STOP_S)
        except ray.exceptions.RayActorError:
            return
        except ray.exceptions.GetTimeoutError:
            ray.kill(self.controller)


class _Reader:
    """Hands each epoch's facts to the caller while the driver waits for the run.

    Attributes:
        error: What the caller's function raised, or that the run has diverged; it ends the run.
    """

    def __init__(self, mailbox: Any, trainer: _Trainer, on_epoch: OnEpoch | None) -> None:
        self.mailbox = mailbox
        self.trainer = trainer
        self.on_epoch = on_epoch
        self.error: Exception | None = None
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self.thread.start()

    def close(self) -> None:
        """Read what is left and end."""
        self.done.set()
        self.thread.join()

    def _run(self) -> None:
        last = False
        while not last and self.error is None:
            last = self.done.wait(POLL_S)
            try:
                for facts in ray.get(self.mailbox.take.remote()):
                    self._hand_over(facts)
            except Exception as error:
                self.error = error
                self.trainer.stop()

    def _hand_over(self, facts: dict[str, Any]) -> None:
        if "problem" in facts:
            raise SettingsError(
                f"{facts['problem']} Fine-tuning has diverged.",
                "a learning rate at which it does not",
                "Give a smaller --set lr, with --overwrite or another --name.",
            )
        if self.on_epoch is not None:
            self.on_epoch(facts)


def _user_error(error: Exception) -> RaffectError | None:
    """A user's mistake among the failures of the workers."""
    failures = getattr(error, "worker_failures", {})
    found = (find_user_error(failure) for failure in failures.values())
    return next((mistake for mistake in found if mistake is not None), None)
