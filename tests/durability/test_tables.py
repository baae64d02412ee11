"""Samples of the tables that `make durability` prints whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from raffect.store import Store
from tests.durability import filled, mutation, stored, texts
from tests.durability.faults import Kind
from tests.durability.kills import run_hit
from tests.durability.line import References
from tests.durability.wires import run_wired
from tests.sweep import tiny


def test_mutated_texts_are_refused_or_taken_for_what_they_say() -> None:
    assert mutation.show(texts.run_texts(600, seed=5))


@pytest.mark.long
@pytest.mark.ray
def test_damaged_files_are_noticed(ray_local: None, tmp_path: Path) -> None:
    filled.fill(tmp_path)
    assert mutation.show(stored.run_stored(90, seed=5, base=tmp_path))


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """What `prepare` and `train` are given."""
    filled.draw(tmp_path)
    tiny.fill(Store(str(tmp_path / filled.STORE)), (filled.TASK,))
    return tmp_path


@pytest.mark.long
@pytest.mark.ray
@pytest.mark.parametrize(("step", "kind"), [("prepare", "driver"), ("train", "s3")])
def test_a_command_that_was_hit_and_given_again_leaves_the_same(
    base: Path, step: str, kind: Kind
) -> None:
    hit = run_hit(step, kind, seed=2, references=References(base))
    assert hit.problems == []
    assert hit.judged is not None
    assert hit.exits[-1] == 0


@pytest.mark.long
def test_a_command_whose_requests_come_to_harm_leaves_the_same(base: Path) -> None:
    wired = run_wired("train", 0.05, seed=2, references=References(base))
    assert wired.problems == []
    assert wired.injected > 0
