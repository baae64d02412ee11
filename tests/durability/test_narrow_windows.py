"""Moments of milliseconds that random kills seldom meet, met on purpose."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from raffect.settings import override
from raffect.store import Store
from raffect.store.layout import trial_folder
from raffect.store.lease import held
from raffect.sweep import journal, study
from raffect.sweep.leaderboard import SweepView, load_sweep
from raffect.sweep.ledger import OnUpdate
from raffect.sweep.progress import SweepProgress
from raffect.sweep.tune import tune
from raffect.temporal.data import load_task_data
from raffect.temporal.training import Trainer
from raffect.training.checkpoints import CheckpointFolder
from tests.durability import driver, history, processes
from tests.durability.checks import wrong_files
from tests.sweep import tiny

pytestmark = pytest.mark.ray


class CutOffError(Exception):
    """What ends a driver in these tests."""


@pytest.fixture
def filled(store: Store) -> Store:
    return tiny.fill(store, (driver.TASK,))


@pytest.fixture
def space(tmp_path: Path) -> str:
    path = tmp_path / "space.py"
    path.write_text(driver.SPACE)
    return str(path)


def sweep(store: Store, space: str, trials: int, on_update: OnUpdate | None = None) -> SweepView:
    settings = override(driver.settings(space), {"trials": trials, "concurrent": 1})
    base = tiny.base(driver.TASK, optimiser__epochs=driver.EPOCHS, optimiser__lr=1e-2)
    return tune(
        store, driver.TASK, driver.FEATURES, driver.SWEEP, settings, base, on_update=on_update
    )


@pytest.mark.long
def test_an_actor_that_dies_between_two_trials_costs_neither(
    ray_local: None, filled: Store, space: str
) -> None:
    killed: list[int] = []

    def kill_once(progress: SweepProgress) -> None:
        # The actor has ended trial 0, and waits to be given trial 1.
        if progress.event == "started" and progress.trial == 1:
            killed.extend(processes.trial_actors(processes.descendants(os.getpid())))
            processes.kill(killed)

    view = sweep(filled, space, 3, kill_once)
    assert len(killed) == 1
    assert {row.number: row.reason for row in view.rows} == {0: None, 1: None, 2: None}


HOLDER = """
import sys, time
from raffect.store import Store
from raffect.store.lease import Lease
Lease(Store(sys.argv[1]), "lease").acquire()
print("held", flush=True)
time.sleep(60)
"""


def test_a_killed_driver_holds_no_lease_although_its_parent_has_not_noticed(store: Store) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, store.uri], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    holder.kill()
    # It is done for, and stays in the list of processes until somebody asks how it ended.
    os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)
    with held(store, "lease"):
        pass
    holder.wait()


CASES = [(rung, waits) for rung in (1, 2, 4, 8) for waits in (False, True)]
IN_CI = [(8, True)]


@pytest.fixture(
    params=[pytest.param(one, marks=() if one in IN_CI else pytest.mark.long) for one in CASES],
    ids=lambda one: f"{one[0]}-{'waiting' if one[1] else 'written'}",
)
def cut_off(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, ray_local: None,
    filled: Store, space: str,
) -> tuple[int, int]:  # fmt: skip
    """A driver that died when trial 0 had left a rung's checkpoint, but no word of it.

    Returns:
        The rung, and the last epoch that is written at least: the one before the rung, or the
        rung below where what came after it still waited, if nothing else was written since.
    """
    rung: int
    rung, waits = request.param
    for module in (journal, study):
        monkeypatch.setattr(module, "PATIENCE_S", math.inf if waits else 0.0)

    def end(progress: SweepProgress) -> None:
        if progress.event == ("epoch" if rung > 1 else "started") and progress.epoch == rung - 1:
            raise CutOffError

    with pytest.raises(CutOffError):
        sweep(filled, space, 3, end)
    leave_checkpoint(filled, rung)
    return rung, rung // driver.FACTOR if waits else rung - 1


def leave_checkpoint(store: Store, epoch: int) -> None:
    """What the trial's actor writes before it tells of an epoch."""
    config = tiny.base(driver.TASK, optimiser__epochs=driver.EPOCHS, optimiser__lr=1e-2)
    trainer = Trainer(config, load_task_data(store, driver.FEATURES, driver.TASK))
    folder = CheckpointFolder(store, f"{trial_folder(driver.SWEEP, 0)}/checkpoint")
    folder.restore_latest(trainer)
    while trainer.epoch < epoch:
        trainer.run_epoch()
    folder.save(trainer)


def test_a_rung_whose_checkpoint_was_all_that_was_left_of_it_is_not_passed_over(
    cut_off: tuple[int, int], filled: Store, space: str
) -> None:
    rung, written = cut_off
    before = {row.number: row for row in load_sweep(filled, "s").rows}[0]
    assert before.state == "RUNNING"
    assert written <= before.epochs < rung
    rows = {row.number: row for row in sweep(filled, space, 3).rows}
    assert history.repeated_epochs(filled) == []
    assert history.wrong_comparisons(filled, rows) == []
    assert wrong_files(filled, rows) == []
