"""`raffect tune` of several tasks, as a user gives it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from raffect.affwild2.tasks import Task
from raffect.store import Store
from raffect.sweep.leaderboard import list_sweeps, load_sweep
from tests.e2e_settings import SMALL_TEMPORAL
from tests.sweep import tiny


def tune(store: Store, *more: str) -> str:
    command = [sys.executable, "-m", "raffect", "tune", "va", "expr", "--name", "m", "--store"]
    done = subprocess.run(
        [*command, store.uri, "--trials", "1", "--concurrent", "1", *SMALL_TEMPORAL, *more],
        capture_output=True,
        text=True,
        env={**os.environ, "RAY_ADDRESS": ""},
        check=False,
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
