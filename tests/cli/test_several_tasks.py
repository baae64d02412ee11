"""`raffect tune` of several tasks, as a user gives it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from raffect.affwild2.tasks import Task
from raffect.store import Store
from raffect.sweep.leaderboard import list_sweeps, load_sweep
from tests.e2e_settings import SMALL_TEMPORAL
from tests.sweep import tiny

ENVIRONMENT = {**os.environ, "RAY_ADDRESS": ""}


def command(store: Store, trials: int) -> list[str]:
    words = [sys.executable, "-m", "raffect", "tune", "va", "expr", "--name", "m", "--store"]
    return [*words, store.uri, "--trials", str(trials), "--concurrent", "1", *SMALL_TEMPORAL]


def tune(store: Store, trials: int = 1) -> str:
    done = subprocess.run(
        command(store, trials), capture_output=True, text=True, env=ENVIRONMENT, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.long
@pytest.mark.ray
def test_each_task_has_a_sweep_and_a_leaderboard_and_what_is_finished_stays(
    tmp_path: Path,
) -> None:
    store = tiny.fill(Store(str(tmp_path / "store")), (Task.VA, Task.EXPR))
    said = tune(store)
    assert sorted(sweep.name for sweep in list_sweeps(store)) == ["m-expr", "m-va"]
    before = [load_sweep(store, name) for name in ("m-va", "m-expr")]
    assert [view.task for view in before] == [Task.VA, Task.EXPR]
    assert all(view.manifest is not None for view in before)
    assert said.index("m-va") < said.index("m-expr")
    assert "m-va" in tune(store)
    again = [load_sweep(store, name) for name in ("m-va", "m-expr")]
    assert [view.manifest for view in again] == [view.manifest for view in before]


@pytest.mark.long
@pytest.mark.ray
def test_an_interrupted_second_task_goes_on_and_the_first_stays(tmp_path: Path) -> None:
    store = tiny.fill(Store(str(tmp_path / "store")), (Task.VA, Task.EXPR))
    process = subprocess.Popen(
        command(store, 2), stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
    )
    assert process.stdout is not None
    lines = iter(process.stdout.readline, "")
    assert any("Sweeping EXPR" in line for line in lines)
    assert any("1/2" in line for line in lines)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    first = load_sweep(store, "m-va")
    assert first.manifest is not None
    assert load_sweep(store, "m-expr").manifest is None
    tune(store, 2)
    assert load_sweep(store, "m-va").manifest == first.manifest
    second = load_sweep(store, "m-expr")
    assert second.manifest is not None
    assert [row.number for row in sorted(second.rows, key=lambda row: row.number)] == [0, 1]
