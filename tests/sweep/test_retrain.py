"""What stands in the way of training a trial's configuration again."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest
import ray

from raffect import engine
from raffect.affwild2.tasks import Task
from raffect.errors import ConflictError, SettingsError, StoreError
from raffect.store import Store
from raffect.sweep.retrain import Retraining, plan_retraining, retrain
from raffect.sweep.settings import SweepSettings
from raffect.sweep.tune import tune
from raffect.testing.s3 import S3Server, environment
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


@pytest.mark.parametrize("command", ["tune", "retrain"])
@pytest.mark.slow
def test_a_key_that_may_not_delete_is_refused_before_ray_starts(
    monkeypatch: pytest.MonkeyPatch, s3_server: S3Server, s3_store: Store, space: str, command: str
):
    tiny.fill(s3_store)
    monkeypatch.setattr(engine, "connect", lambda address: pytest.fail("Ray is started"))
    before = s3_store.files("")
    rights = s3_server.user_who_may("s3:GetObject", "s3:PutObject", "s3:ListBucket")
    store, settings = Store(s3_store.uri), SweepSettings(space=space, trials=1)
    run = {
        "tune": lambda: tune(store, Task.VA, "clip", "s", settings, tiny.base()),
        "retrain": lambda: retrain(store, Retraining(row(3), "clip", tiny.base(), "s"), [0]),
    }
    with environment(rights), pytest.raises(StoreError) as told:
        run[command]()
    assert "needs s3:DeleteObject" in told.value.got
    assert told.value.got.endswith("Nothing was done.")
    assert s3_store.files("") == before
