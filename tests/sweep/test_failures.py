from __future__ import annotations

import pytest
import torch

from raffect.errors import SettingsError
from raffect.sweep.failures import kind_of, reason_of, reason_of_loss, summarise
from raffect.training.loop import NotFiniteError


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (NotFiniteError("The loss is nan."), "nan: The loss is nan."),
        (SettingsError("heads = 3\n  and width", "x", "y"), "bad-config: heads = 3 and width"),
        (torch.OutOfMemoryError("CUDA out of memory."), "oom: CUDA out of memory."),
        (MemoryError(), "oom"),
        (KeyError("x"), "exception: KeyError: 'x'"),
    ],
)
def test_a_trials_own_errors(error: Exception, reason: str) -> None:
    assert reason_of(error) == reason


def test_lost_processes() -> None:
    assert reason_of_loss("The actor died unexpectedly") == (
        "lost-actor: The actor died unexpectedly"
    )
    killed = "Task was killed due to the node running low on memory."
    assert kind_of(reason_of_loss(killed)) == "oom"
    assert len(reason_of_loss("x" * 1000)) < 400


def test_reasons_are_counted_by_kind_with_an_example() -> None:
    assert summarise(["oom: a", "nan: first", "nan: second"]) == "  2 x nan: first\n  1 x oom: a"
