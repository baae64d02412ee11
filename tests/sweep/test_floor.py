"""The linear floor's task on a real Ray: recorded once, and a failure ends nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from raffect.affwild2.tasks import Task
from raffect.store import Store
from raffect.sweep.attributes import LINEAR_FLOOR
from raffect.sweep.execution import share
from raffect.sweep.floor import FloorTask
from raffect.temporal.data import load_task_data
from raffect.temporal.linear import linear_floor
from tests.sweep import tiny
from tests.sweep.drivers import open_driver

pytestmark = pytest.mark.ray


@pytest.mark.parametrize("is_local", [True, False])
def test_a_floor_is_recorded_once_and_a_failure_is_told(
    ray_local: None, filled: Store, told: list[str], tmp_path: Path, is_local: bool
) -> None:
    data = load_task_data(filled, "clip", Task.VA)
    labels = data.train.labels[Task.VA]
    without = {Task.VA: replace(labels, valid=np.zeros_like(labels.valid))}
    unusable = share(replace(data, train=replace(data.train, labels=without)))

    study = open_driver(filled, 1, tiny.base())
    FloorTask(study, share(data), told.append, is_local).look(wait=True)
    FloorTask(study, unusable, told.append, is_local).look(wait=True)
    expected = linear_floor(data)
    floor = {"score": expected.score.value, "parts": expected.score.parts}
    assert study.facts[LINEAR_FLOOR] == {**floor, "half_width": expected.half_width}
    assert not told

    other = open_driver(Store(str(tmp_path / "other")), 1, tiny.base())
    FloorTask(other, unusable, told.append, is_local).look(wait=True)
    FloorTask(other, share(data), told.append, is_local).look(wait=True)
    assert other.facts[LINEAR_FLOOR] is None
    assert len(told) == 1
    assert told[0].startswith("The linear floor is unknown, as it failed: exception: ")
