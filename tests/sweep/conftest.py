"""Fixtures of the sweep's tests: a store with features, and a space in a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from raffect.store import Store
from tests.sweep import tiny
from tests.sweep.sweeps import SPACE
from tests.sweep.tracked_runs import plan


@pytest.fixture
def filled(store: Store) -> Store:
    """A store with labels of all tasks and the features `clip`."""
    return tiny.fill(store)


@pytest.fixture
def space(tmp_path: Path) -> str:
    """A space that searches the learning rate."""
    path = tmp_path / "space.py"
    path.write_text(SPACE)
    return str(path)


@pytest.fixture
def planned(store: Store) -> Store:
    return plan(store)


@pytest.fixture
def told() -> list[str]:
    return []
