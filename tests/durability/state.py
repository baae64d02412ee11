"""What the store holds of a sweep at a moment, to be compared with what it holds at the end."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from raffect.errors import NotThereError
from raffect.store import Store
from raffect.store.layout import trial_folder
from raffect.sweep.leaderboard import load_sweep
from raffect.sweep.records import TrialRow
from raffect.training.checkpoints import CheckpointFolder, unpack_state
from tests.durability.driver import SWEEP

ENDS = ("COMPLETE", "PRUNED", "FAIL")
Seconds = tuple[float, ...]
"""Time of each epoch of a training, measured to the nanosecond: no two trainings share one."""


@dataclass(frozen=True)
class Moment:
    """A sweep as the store knows it.

    Attributes:
        finished: What is told of each trial that ended.
        checkpoints: Of each running trial with a whole checkpoint, the times of its epochs.
    """

    finished: dict[int, tuple[Any, ...]]
    checkpoints: dict[int, Seconds]
    running: int


def facts(row: TrialRow) -> tuple[Any, ...]:
    """All that may not change about a trial that ended."""
    return row.state, row.score, row.epochs, row.params, row.curve, row.reason, row.model


def read_moment(store: Store) -> Moment:
    """The sweep as it is now."""
    try:
        rows = load_sweep(store, SWEEP).rows
    except NotThereError:
        return Moment({}, {}, 0)
    running = [row.number for row in rows if row.state == "RUNNING"]
    found = {number: _checkpoint(store, number) for number in running}
    return Moment(
        finished={row.number: facts(row) for row in rows if row.state in ENDS},
        checkpoints={number: times for number, times in found.items() if times},
        running=len(running),
    )


def _checkpoint(store: Store, number: int) -> Seconds:
    """Times of the epochs in the newest whole checkpoint of a trial; none without one."""
    probe = _Probe()
    # A trial that lives may delete it meanwhile: it has a newer one then, or has ended.
    with suppress(FileNotFoundError):
        CheckpointFolder(store, f"{trial_folder(SWEEP, number)}/checkpoint").restore_latest(probe)
    return probe.seconds


class _Probe:
    """Reads of a checkpoint what a Trainer would go on from."""

    epoch = 0

    def __init__(self) -> None:
        self.seconds: Seconds = ()

    def save(self) -> bytes:
        raise AssertionError("a probe only reads")

    def restore(self, state: bytes) -> None:
        _, facts = unpack_state(state)
        self.seconds = tuple(epoch["seconds"] for epoch in facts["history"])
