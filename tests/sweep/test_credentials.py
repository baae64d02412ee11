"""A store's credentials stay in the environment: Ray logs what is sent with a task."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
import ray
from ray.tune.execution import class_cache

from raffect.store import Store
from raffect.sweep.leaderboard import load_sweep
from raffect.testing.s3 import S3Server
from tests.e2e_settings import SMALL_TEMPORAL
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


OTHERS = {
    name: f"marker-of-{name}" for name in ("WANDB_API_KEY", "HF_TOKEN", "MLFLOW_TRACKING_PASSWORD")
} | {"MLFLOW_TRACKING_URI": "http://user:marker-of-MLFLOW_TRACKING_URI@127.0.0.1:9"}
# The test server refuses session tokens, and is asked at its own address.
OTHERS_OF_AWS = {
    name: f"marker-of-{name}" for name in ("AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN")
} | {
    name: f"http://user:marker-of-{name}@127.0.0.1:9"
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")
}


def secrets_for(store: Store, server: S3Server) -> dict[str, str]:
    """Variables with secrets: those of the server, and marks."""
    keys = {
        "AWS_ACCESS_KEY_ID": server.access_key,
        "AWS_SECRET_ACCESS_KEY": server.secret_key,
    }
    return {**keys, **OTHERS, **(OTHERS_OF_AWS if store.is_local else {})}


def holding(
    secrets: dict[str, str], contents: Iterable[tuple[str, bytes]]
) -> set[tuple[str, str]]:
    """Which secret is where."""
    marks = {
        name: re.sub(r"http://user:(.*)@.*", r"\1", secret).encode()
        for name, secret in secrets.items()
    }
    return {
        (name, where) for where, data in contents for name, mark in marks.items() if mark in data
    }


def files_of_ray(folder: Path) -> list[tuple[str, bytes]]:
    """All that Ray wrote, by file."""
    found = [(path.name, path.read_bytes()) for path in folder.rglob("*") if path.is_file()]
    assert any(name == "runtime_env_agent.log" for name, _ in found)
    return found


@pytest.mark.parametrize(
    ("where", "workers"),
    [("store", 1), *(pytest.param("s3_store", workers, marks=LONG) for workers in (1, 2))],
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
    secrets = secrets_for(store, s3_server)
    done = subprocess.run(
        [sys.executable, "-c", SWEEP, store.uri, space, str(workers)],
        env={**os.environ, **secrets, "RAY_TMPDIR": str(ray_folder)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert [row.state for row in load_sweep(store, "s").rows] == ["COMPLETE"] * 2

    assert holding(secrets, files_of_ray(ray_folder)) == set()


@LONG
def test_no_secret_is_in_anything_that_commands_write_or_say(
    s3_server: S3Server, s3_store: Store, space: str, ray_folder: Path
) -> None:
    """Of a cluster with its jobs: tests/jobs/test_chapter.py."""
    store = tiny.fill(s3_store)
    secrets = secrets_for(store, s3_server)
    said = []
    for command in (
        ["tune", "va", "--name", "s", "--space", space, "--trials", "2", *SMALL_TEMPORAL],
        ["train", "va", "--name", "m", "--workers", "2", *SMALL_TEMPORAL],
        ["report", "s"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "raffect", *command, "--store", store.uri],
            env={**os.environ, **secrets, "RAY_TMPDIR": str(ray_folder)},
            capture_output=True,
        )
        assert done.returncode == 0, done.stderr.decode()
        said.append((command[0], done.stdout + done.stderr))
    written = [(key, store.read_bytes(key)) for key in store.files("")]
    assert {"models/m/manifest.json", "sweeps/s/report.html"} <= {key for key, _ in written}
    assert holding(secrets, [*said, *written, *files_of_ray(ray_folder)]) == set()


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
