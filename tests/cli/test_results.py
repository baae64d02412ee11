"""trials and dashboard on studies as a sweep leaves them, without training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.trial import TrialState
from rich.console import Console

from raffect.affwild2.tasks import Task
from raffect.cli.app import run
from raffect.cli.comparison import ago, show_comparison
from raffect.cli.screen import Screen
from raffect.config import recipe
from raffect.store import Store
from raffect.sweep.comparison import compare
from raffect.sweep.leaderboard import load_sweep
from raffect.sweep.study import journal_of

NOW = datetime(2026, 1, 10, 12, 0, tzinfo=UTC)


def leave(
    store: Store,
    name: str,
    scores: Sequence[float],
    task: Task = Task.VA,
    deepest: int = 5,
    data: str = "d",
) -> None:
    """A sweep with a trial of one epoch of a minute for each score; a negative one fails."""
    distribution = optuna.distributions.IntDistribution(0, deepest)
    config = {
        "task": task.value,
        "base": recipe(task).canonical(),
        "space": {"ranges": {"model.tcn.depth": str(distribution)}},
    }
    plan = {"kind": "sweep", "config": config, "sources": {"dataset": data}}
    store.write_json(f"sweeps/{name}/plan.json", plan)
    study = optuna.create_study(
        storage=JournalStorage(journal_of(store, name)), study_name=name, direction="maximize"
    )
    for number, score in enumerate(scores):
        trial = study.ask({"model.tcn.depth": distribution})
        epoch = {"epoch": 1, "score": score, "loss": 0.5, "parts": {}, "seconds": 60.0}
        trial.set_user_attr("epoch.001", epoch)
        if score < 0:
            study.tell(number, state=TrialState.FAIL)
        else:
            study.tell(number, score)


@pytest.fixture
def filled(store: Store) -> Store:
    leave(store, "a", [0.1, 0.3, -1, 0.2])
    leave(store, "b", [0.25], deepest=3)
    return store


def say(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert run([str(word) for word in words]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert max(map(len, said.out.splitlines())) <= 100
    return said.out


def cells(said: str, first: str) -> list[str]:
    """The cells of the first line that begins with a word."""
    line = next(line for line in said.splitlines() if line.split()[:1] == [first])
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def test_all_sweeps_are_listed(filled: Store, capsys: pytest.CaptureFixture[str]) -> None:
    said = say(capsys, "trials", "--store", filled.uri)
    assert cells(said, "a") == [
        "a",
        "va",
        "0.3000",
        "3 complete, 1 fail",
        "4 min 00 s",
        "just now",
    ]
    assert cells(said, "b") == ["b", "va", "0.2500", "1 complete", "1 min 00 s", "just now"]


def test_an_empty_store_says_what_to_do(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    Path(store.uri).mkdir()
    assert "raffect tune" in say(capsys, "trials", "--store", store.uri)


def test_the_list_for_scripts(filled: Store, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(say(capsys, "trials", "--json", "--store", filled.uri))
    changed = [datetime.fromisoformat(sweep.pop("changed")) for sweep in found]
    assert all(timedelta(0) <= datetime.now(UTC) - when < timedelta(hours=1) for when in changed)
    assert found[0] == {
        "name": "a",
        "task": "va",
        "trials": {"COMPLETE": 3, "FAIL": 1},
        "target": 4,
        "best": 0.3,
        "expected": None,
        "recipe": None,
        "seen_videos": 0,
        "linear_floor": None,
        "kind": "search",
        "device_hours": pytest.approx(4 / 60),
    }


def test_sweeps_side_by_side(filled: Store, capsys: pytest.CaptureFixture[str]) -> None:
    said = say(capsys, "trials", "a", "b", "a", "--store", filled.uri)
    by_trials, by_cost = said.split("Best score so far")[1:3]
    assert cells(by_trials, "sweep") == ["sweep", "1", "2", "final"]
    assert cells(by_trials, "a") == ["a", "0.1000", "0.3000", "0.3000"]
    assert cells(by_trials, "b") == ["b", "0.2500", "–", "0.2500"]
    assert cells(by_cost, "sweep")[-3:] == ["1 min", "2 min", "final"]
    assert cells(by_cost, "a")[-3:] == ["0.1000", "0.3000", "0.3000"]
    spaces = said.split("Search spaces")[1]
    assert cells(spaces, "tcn.depth") == ["tcn.depth", "narrowed in b", "0 – 5", "0 – 3"]
    assert "a:1" in spaces
    assert "b:0" in spaces
    assert "Different" not in said
    # Nothing is drawn where nobody looks.
    assert "│" not in said


def test_what_does_not_compare_is_said(filled: Store, capsys: pytest.CaptureFixture[str]) -> None:
    leave(filled, "c", [0.2], task=Task.EXPR, data="e")
    said = say(capsys, "trials", "a", "c", "--store", filled.uri)
    assert "Different tasks (va, expr)" in said
    assert "Different data (dataset)" in said


def test_several_sweeps_for_scripts(filled: Store, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(say(capsys, "trials", "a", "b", "--json", "--store", filled.uri))
    assert {name: [row["number"] for row in rows] for name, rows in found.items()} == {
        "a": [1, 3, 0, 2],
        "b": [0],
    }


def test_curves_are_drawn_on_a_terminal(filled: Store) -> None:
    screen = Screen()
    screen.console = Console(width=100, force_terminal=True, color_system=None)
    found = [load_sweep(filled, name) for name in ("a", "b")]
    with screen.console.capture() as captured:
        show_comparison(screen, found, compare(found))
    said = captured.get()
    assert said.count("━━ a") == 2
    assert "4 trials" in said
    assert max(map(len, said.splitlines())) <= 100


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ({"seconds": 0}, "just now"),
        ({"seconds": -30}, "just now"),
        ({"seconds": 59}, "just now"),
        ({"minutes": 3, "seconds": 59}, "3 min ago"),
        ({"hours": 23}, "23 h ago"),
        ({"days": 1}, "1 day ago"),
        ({"days": 40}, "40 days ago"),
    ],
)
def test_times_are_told_as_people_do(before: dict[str, Any], expected: str) -> None:
    assert ago((NOW - timedelta(**before)).isoformat(), NOW) == expected


def test_a_sweep_without_an_end_has_no_last_change() -> None:
    assert ago(None, NOW) == "–"


def test_another_host_is_warned_of(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    # An address that is kept for documentation: no machine has it.
    words = ["dashboard", "--host", "192.0.2.77", "--port", "0", "--store", store.uri]
    assert run(words) == 2
    said = capsys.readouterr()
    assert "Unauthenticated access" in said.out
    assert "Nothing can listen at 192.0.2.77" in said.err
