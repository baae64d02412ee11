"""A shell's TAB: names of the store, tasks and commands, and nothing where nothing answers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from raffect.store import Store


def complete(line: str, **more: str) -> list[str]:
    words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
    environment = {**os.environ, **words, "_RAFFECT_COMPLETE": "complete_bash", **more}
    code = "import sys; sys.argv[0] = 'raffect'; from raffect.cli.app import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert not done.stderr
    return done.stdout.split()


@pytest.fixture
def filled(tmp_path: Path) -> Store:
    store = Store(str(tmp_path / "store"))
    for name in ("sweeps/va", "sweeps/va-ablation", "sweeps/au", "models/mine", "features/clip"):
        store.write_bytes(f"{name}/plan.json", b"{}")
    return store


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("raffect tun", ["tune"]),
        ("raffect tune e", ["expr"]),
        ("raffect trials ", ["au", "va", "va-ablation"]),
        ("raffect report va-", ["va-ablation"]),
        ("raffect predict m", ["mine"]),
        ("raffect train va --features c", ["clip"]),
    ],
)
def test_names_are_completed(filled: Store, line: str, found: list[str]) -> None:
    assert sorted(complete(line, RAFFECT_STORE=filled.uri)) == found


def test_the_store_is_that_of_the_line(filled: Store) -> None:
    assert complete(f"raffect trials --store {filled.uri} a") == ["au"]


def test_where_there_is_no_store_nothing_is_completed(tmp_path: Path) -> None:
    assert complete("raffect trials ", RAFFECT_STORE=str(tmp_path / "none")) == []
    assert complete("raffect trials ", RAFFECT_STORE="nosuch://x") == []
