"""What stands in the way of training a trial's configuration again."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest
import ray

from raffect.affwild2.tasks import Task
from raffect.errors import ConflictError, SettingsError
from raffect.store import Store
from raffect.sweep.retrain import Retraining, plan_retraining, retrain
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


def test_a_trial_is_not_trained_again_on_features_that_were_replaced(tmp_path: Path):
    with tarfile.open(Path(__file__).parents[1] / "data/store-0.1.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    store = Store(str(tmp_path / "store"))
    assert plan_retraining(store, "va").features == "clip"
    path = tmp_path / "store/features/clip/manifest.json"
    manifest = json.loads(path.read_text())
    manifest["counts"]["dim"] += 1
    path.write_text(json.dumps(manifest))
    with pytest.raises(ConflictError, match="not those that this model was trained on"):
        plan_retraining(store, "va")
