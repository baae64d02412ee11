"""A store's credentials stay in the environment: Ray logs what is sent with a task."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ray
from ray.tune.execution import class_cache

from raffect.store import Store
from raffect.sweep.leaderboard import load_sweep
from raffect.testing.s3 import S3Server
from tests.sweep import tiny

pytestmark = pytest.mark.ray
LONG = pytest.mark.long

SWEEP = """
import sys
from raffect.store import Store
from tests.sweep.sweeps import sweep
sweep(Store(sys.argv[1]), sys.argv[2], 2, workers_per_trial=int(sys.argv[3]))
"""


@pytest.fixture
def ray_folder() -> Iterator[Path]:
    # Not pytest's: a socket's path holds about a hundred characters.
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


# The test server knows no session tokens, and is asked at its own address.
OTHERS = {
    name: f"marker-of-{name}"
    for name in ("AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN", "WANDB_API_KEY", "HF_TOKEN")
} | {
    name: f"http://user:marker-of-{name}@127.0.0.1:9"
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "MLFLOW_TRACKING_URI")
}


@pytest.mark.parametrize(
    ("where", "workers"), [("store", 1), ("s3_store", 1), pytest.param("s3_store", 2, marks=LONG)]
)
def test_a_local_sweep_leaves_no_credentials_in_rays_files(
    request: pytest.FixtureRequest,
    s3_server: S3Server,
    space: str,
    ray_folder: Path,
    where: str,
    workers: int,
) -> None:
    """In a bucket the trials write with them: the server refuses who has none."""
    store: Store = tiny.fill(request.getfixturevalue(where))
    secrets = {
        "AWS_ACCESS_KEY_ID": s3_server.access_key,
        "AWS_SECRET_ACCESS_KEY": s3_server.secret_key,
        **(OTHERS if store.is_local else {}),
    }
    done = subprocess.run(
        [sys.executable, "-c", SWEEP, store.uri, space, str(workers)],
        env={**os.environ, **secrets, "RAY_TMPDIR": str(ray_folder)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert [row.state for row in load_sweep(store, "s").rows] == ["COMPLETE"] * 2

    files = [path for path in ray_folder.rglob("*") if path.is_file()]
    assert any(path.name == "runtime_env_agent.log" for path in files)
    found = {
        (name, path.name)
        for path in files
        for name, secret in secrets.items()
        if secret.encode() in path.read_bytes()
    }
    assert found == set()


def test_tune_still_copies_them_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """When this fails, see whether execution.py still has to keep Tune from it, and still does."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "marker")
    asked: list[dict[str, dict[str, str]]] = []

    def remote(runtime_env: dict[str, dict[str, str]]) -> Callable[[type], type]:
        asked.append(runtime_env)
        return lambda kind: kind

    monkeypatch.setattr(ray, "remote", remote)
    class_cache._ActorClassCache().get(object)
    assert asked[0]["env_vars"]["AWS_SECRET_ACCESS_KEY"] == "marker"
    assert isinstance(class_cache.ENV_VARS_TO_PROPAGATE, set)
