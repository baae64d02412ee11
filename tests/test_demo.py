"""`raffect demo`: interrupted, given again, and everything it promises at the end."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from raffect.affwild2.tasks import Task
from raffect.demo import NEXT_TRIALS
from raffect.store import Store
from raffect.sweep.leaderboard import load_sweep

ROOT = Path(__file__).parent.parent
TRIALS = 3
# A third of the demo's own: its time is that of the fine-tuning.
SIZE = ["--trials", str(TRIALS), "--videos", "14"]
COMMAND = [sys.executable, "-m", "raffect", "demo", *SIZE]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo that ran."""
    place = tmp_path_factory.mktemp("demo")
    finish(place)
    return place


def finish(place: Path) -> None:
    done = subprocess.run([*COMMAND, "--json"], cwd=place, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (place / "summary.json").write_text(done.stdout)


@pytest.mark.long
def test_one_that_is_killed_in_its_first_sweep_goes_on(tmp_path: Path):
    place = tmp_path
    first = subprocess.Popen(
        COMMAND, cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    study = place / "raffect-demo" / "store" / "sweeps" / "va" / "study"
    deadline = time.monotonic() + 400
    while time.monotonic() < deadline and not any(study.glob("*")):
        assert first.poll() is None
        time.sleep(0.5)
    time.sleep(5)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait(timeout=10)
    finish(place)
    test_the_best_trial_lies_between_the_baseline_and_what_can_be_reached(place)
    test_every_sweep_reaches_its_budget_exactly(place)


pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_every_sweep_reaches_its_budget_exactly(folder: Path):
    store = Store(str(folder / "raffect-demo" / "store"))
    for task in Task:
        view = load_sweep(store, task.value)
        states = [row.state for row in view.rows]
        assert len(states) == TRIALS
        assert set(states) <= {"COMPLETE", "PRUNED"}


def test_the_best_trial_lies_between_the_baseline_and_what_can_be_reached(folder: Path):
    scores = json.loads((folder / "summary.json").read_text())["scores"]
    assert set(scores) == {task.value for task in Task}
    for numbers in scores.values():
        assert numbers["baseline"] < numbers["best"] < numbers["reachable"]
        assert numbers["expected"] is None or numbers["expected"] <= numbers["best"]


def test_the_report_is_one_file_that_says_what_the_data_is(folder: Path):
    report = Path(json.loads((folder / "summary.json").read_text())["report"])
    text = report.read_text(encoding="utf-8")
    assert "ynthetic" in text
    assert report.stat().st_size < 6 * 2**20


@pytest.mark.parametrize(
    "task", ["va", *(pytest.param(name, marks=pytest.mark.long) for name in ("expr", "au"))]
)
def test_predicting_again_gives_the_leaderboards_score(folder: Path, task: str):
    scores = json.loads((folder / "summary.json").read_text())["scores"]
    run(folder, f"predict sweeps/{task} --split validation --out {task}.csv"
                " --store raffect-demo/store")  # fmt: skip
    told = run(folder, f"evaluate {task} {task}.csv --json"
                       " --annotations raffect-demo/raw/annotations")  # fmt: skip
    assert json.loads(told)["score"] == pytest.approx(scores[task]["best"], abs=1e-6)


def execute(code: str, names: dict) -> object:
    """Execute a cell as a notebook does; its last expression is what it shows."""
    *body, last = ast.parse(code).body
    if not isinstance(last, ast.Expr):
        body, last = [*body, last], None
    exec(compile(ast.Module(body, []), "cell", "exec"), names)
    return last and eval(compile(ast.Expression(last.value), "cell", "eval"), names)


def test_the_notebook_and_the_readmes_python_run_on_its_store(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(folder)
    best = json.loads((folder / "summary.json").read_text())["scores"]["va"]["best"]
    notebook = json.loads((ROOT / "docs" / "notebook.ipynb").read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
    names: dict = {}
    shown = [execute("".join(cell["source"]), names) for cell in cells]
    assert shown[0].loc["va", "best"] == pytest.approx(best)
    assert names["trials"]["score"].max() == pytest.approx(best)
    assert len(names["learning"].data) == TRIALS
    assert sum(len(trace.x) for trace in names["rates"].data) == TRIALS
    assert names["evaluation"].score == pytest.approx(best, abs=1e-6)
    assert names["own"].shape == (250, 2)
    capsys.readouterr()
    example = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.S)[1]
    assert len(example.strip().splitlines()) <= 9
    execute(example, {})
    assert float(capsys.readouterr().out.split()[-1]) == pytest.approx(best, abs=1e-6)


@pytest.mark.long
def test_given_again_it_says_the_same_at_once(folder: Path):
    began = time.monotonic()
    again = json.loads(run(folder, f"demo {shlex.join(SIZE)} --json"))
    before = json.loads((folder / "summary.json").read_text())
    assert again["scores"] == before["scores"]
    assert time.monotonic() - began < 60


@pytest.mark.long
def test_its_commands_to_try_next_work(folder: Path):
    shown = run(folder, f"demo {shlex.join(SIZE)}")
    commands = [line.strip() for line in shown.splitlines() if line.startswith("  raffect ")]
    assert len(commands) >= 4
    for command in commands:
        run(folder, command.removeprefix("raffect "))
    # The same models for as long as the demo's own.
    sweeps = folder / "raffect-demo" / "store" / "sweeps"
    own, more = (
        json.loads((sweeps / name / "plan.json").read_text()) for name in ("va", "va-next")
    )
    assert own == more
    view = load_sweep(Store(str(folder / "raffect-demo" / "store")), "va-next")
    assert len(view.rows) == NEXT_TRIALS


def run(folder: Path, command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "raffect", *shlex.split(command)],
        cwd=folder, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}\n{done.stderr}"
    return done.stdout
