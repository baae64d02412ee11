"""What a script reads of the commands that make something: JSON alone on standard output."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raffect.cli.app import run
from raffect.store import Store
from raffect.sweep.leaderboard import load_sweep
from tests.cli.test_results import leave
from tests.sweep import tiny

Tell = Callable[..., Any]


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Tell:
    def call(*words: object) -> Any:
        assert run([*map(str, words), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return call


def sizes(epochs: int = 1) -> list[str]:
    changes = {**tiny.SIZES, "optimiser.epochs": epochs}
    return [f"--set={key}={json.dumps(value)}" for key, value in changes.items()]


def test_train_and_predict_say_what_they_made(store: Store, tmp_path: Path, tell: Tell) -> None:
    tiny.fill(store)
    where = ["--store", store.uri]
    made = tell("train", "va", "--name", "mine", *sizes(2), *where)
    assert (made["name"], made["folder"]) == ("mine", store.where("models/mine"))
    assert made["score"] == json.loads(store.read_bytes("models/mine/metrics.json"))["score"]
    assert made["epoch"] in (1, 2)
    assert tell("train", "va", "--name", "mine", *sizes(2), *where) == made, "given again"
    out = tmp_path / "x.csv"
    done = tell("predict", "mine", "--split", "validation", "--out", out, *where)
    assert done == {"out": str(out), "frames": 120, "skipped": [], "postprocess": ""}
    assert len(out.read_text().splitlines()) == 121


@pytest.mark.parametrize("tables", [False, True])
def test_report_says_where_it_is(store: Store, tmp_path: Path, tell: Tell, tables: bool) -> None:
    leave(store, "s", [0.1, 0.3])
    folder = tmp_path / "numbers"
    made = tell("report", "s", "--store", store.uri, *(["--csv", folder] if tables else []))
    assert made["report"] == store.where("sweeps/s/report.html")
    assert made["csv"] == (str(folder) if tables else None)
    assert folder.is_dir() == tables


@pytest.mark.long
@pytest.mark.ray
def test_tune_has_a_sweep_by_task(store: Store, ray_local: None, tell: Tell) -> None:
    tiny.fill(store)
    words = ["tune", "va", "expr", "--name", "m", "--trials", "1", "--concurrent", "1"]
    made = tell(*words, "--track", "none", *sizes(), "--store", store.uri)
    assert list(made) == ["va", "expr"]
    for task, found in made.items():
        view = load_sweep(store, f"m-{task}")
        assert found == view.to_json()
        assert found["best"] == view.rows[0].score
