"""The tests marked `long` are dealt out whole: nothing is run by no commit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.thirds import THIRDS, third_of, third_of_commit

ROOT = Path(__file__).parent.parent


def commit(folder: Path) -> int:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
    command = ["git", "-C", str(folder), *who, "commit", "-q", "--allow-empty", "-m", "more"]
    subprocess.run(command, check=True)
    return third_of_commit(folder)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 50])
def test_three_thirds_are_all(count: int):
    items = list(range(count))
    dealt = [third_of(items, third) for third in range(THIRDS)]
    assert sorted(item for third in dealt for item in third) == items
    assert max(map(len, dealt)) - min(map(len, dealt)) <= 1


def test_three_commits_in_a_row_run_all_thirds(tmp_path: Path):
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    for _ in range(2):
        assert {commit(tmp_path) for _ in range(THIRDS)} == set(range(THIRDS))


def test_a_shallow_clone_has_a_third_too(tmp_path: Path):
    whole, shallow = tmp_path / "whole", tmp_path / "shallow"
    subprocess.run(["git", "init", "-q", str(whole)], check=True)
    commit(whole)
    commit(whole)
    clone = ["git", "clone", "-q", "--depth", "1", f"file://{whole}", str(shallow)]
    subprocess.run(clone, check=True)
    head = subprocess.run(
        ["git", "-C", str(whole), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    )
    assert third_of_commit(shallow) == int(head.stdout, 16) % THIRDS


@pytest.mark.slow
def test_an_option_of_pytest_deals_them_out():
    def collected(*options: str) -> list[str]:
        # Where long tests are few modules' to import.
        here = ["tests/jobs", "tests/test_engine.py", "tests/test_demo.py"]
        command = [sys.executable, "-m", "pytest", "--collect-only", "-m", "long"]
        command += [*here, *options]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
        return [line for line in done.stdout.splitlines() if "::" in line]

    every = collected()
    assert len(every) >= THIRDS
    assert collected("--third", "1") == third_of(every, 1)
