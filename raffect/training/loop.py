"""The loop over epochs that every training run goes through, on one process or several."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from raffect.training.checkpoints import CheckpointFolder, Saveable

Record = TypeVar("Record")
RecordOut = TypeVar("RecordOut", covariant=True)


class NotFiniteError(Exception):
    """The loss, the weights or the predictions are NaN or infinite; the run can't go on.

    Raised on all workers of a run or on none: they compare sums over all of them.
    """


class EpochTrainer(Saveable, Protocol[RecordOut]):
    """A model in training; its state after each epoch can be saved and restored."""

    @property
    def done(self) -> bool:
        """Whether no epoch is left."""

    def run_epoch(self) -> RecordOut:
        """Train one epoch, validate, and return the epoch's record.

        Raises:
            NotFiniteError: Training diverged.
        """


def run_epochs(
    trainer: EpochTrainer[Record],
    checkpoints: CheckpointFolder,
    on_epoch: Callable[[Record], object],
    is_lead: bool = True,
    before_save: Callable[[], object] = lambda: None,
) -> None:
    """Train to the last epoch from the newest checkpoint, writing one after each epoch.

    Only the lead of several workers writes checkpoints and calls `on_epoch`, which gets each new
    epoch's record once its checkpoint is written.
    """
    checkpoints.restore_latest(trainer)
    while not trainer.done:
        record = trainer.run_epoch()
        if is_lead:
            before_save()
            checkpoints.save(trainer)
            on_epoch(record)
