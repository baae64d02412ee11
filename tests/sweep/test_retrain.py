"""What stands in the way of training a trial's configuration again."""

from __future__ import annotations

import pytest
import ray

from raffect.affwild2.tasks import Task
from raffect.errors import SettingsError
from raffect.store import Store
from raffect.sweep.retrain import Retraining, retrain
from tests.report.views import row
from tests.sweep import tiny


def test_a_trial_of_a_gpu_is_refused_where_there_will_never_be_one(
    monkeypatch: pytest.MonkeyPatch, store: Store
):
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 8.0})
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    wanted = Retraining(row(3), "clip", tiny.base(Task.VA, run__device="cuda"), "s")
    with pytest.raises(SettingsError, match="takes 1 GPU here; this machine has 0"):
        retrain(store, wanted, [0, 1])
    assert store.names("models") == []
