"""prometheus.yml, and the head's command of the launchers, on a real Ray with a token."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from raffect.testing.ports import free_ports
from tests.cluster.files import CLUSTER, read_yaml
from tests.cluster.test_image import program

TOKEN = "f" * 40


def scrape_config() -> dict[str, Any]:
    (job,) = yaml.safe_load((CLUSTER / "prometheus.yml").read_text())["scrape_configs"]
    (found,) = job["http_sd_configs"]
    return dict(found)


def promtool(folder: Path, text: str) -> int:
    (folder / "prometheus.yml").write_text(text)
    (folder / "auth_token").write_text(TOKEN)
    command = [program("promtool"), "check", "config", str(folder / "prometheus.yml")]
    return subprocess.run(command, capture_output=True).returncode


def test_prometheus_accepts_it(tmp_path: Path):
    text = (CLUSTER / "prometheus.yml").read_text()
    assert promtool(tmp_path, text) == 0
    assert promtool(tmp_path, text.replace("credentials_file", "credential_file")) != 0


@dataclass
class Head:
    """A head that the launchers' command started, on other ports."""

    port: int
    metrics: int

    def get(self, path: str, token: str | None = TOKEN) -> tuple[int, str]:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    """aws.yaml's command, but for the ports, the size and the cloud; ended by its process."""
    (line,) = [
        line for line in read_yaml("aws.yaml")["head_start_ray_commands"] if "--head" in line
    ]
    gcs, dashboard, metrics, client, agent = free_ports(5)
    replaced = {"port": gcs, "dashboard-port": dashboard, "metrics-export-port": metrics}
    words = [word for word in shlex.split(line) if not word.startswith("--autoscaling-config")]
    for name, port in {**replaced, "object-store-memory": 100_000_000}.items():
        words = [f"--{name}={port}" if word.startswith(f"--{name}=") else word for word in words]
    # Another head may run on this machine, and both would want Ray's own.
    others = ("ray-client-server-port", "dashboard-agent-listen-port")
    words = [word for word in words if not word.startswith(tuple(f"--{name}" for name in others))]
    words += [f"--{name}={port}" for name, port in zip(others, (client, agent), strict=True)]
    # Sockets of Ray have long names.
    folder = Path("/tmp") / f"raffect-test-{os.getpid()}"
    token = tmp_path_factory.mktemp("token") / "auth_token"
    token.write_text(TOKEN)
    # What other tests of this process have told their own Ray is no part of it.
    kept = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    environment = {
        **kept,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "2",
    }
    log = token.parent / "head.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "ray.scripts.scripts", *words[1:], "--block",
             f"--temp-dir={folder}"],
            env=environment,
            stdout=output,
            stderr=output,
        )  # fmt: skip
    found = Head(dashboard, metrics)
    try:
        wait_for(found, process, log)
        yield found
    finally:
        process.terminate()
        process.wait(timeout=60)
        shutil.rmtree(folder, ignore_errors=True)


def wait_for(head: Head, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            status, text = head.get("/api/prometheus/sd")
            if status == 200 and json.loads(text):
                return
        except OSError:
            pass
        time.sleep(0.5)
    raise RuntimeError(f"Ray's head did not start:\n{log.read_text()}")


@pytest.mark.ray
def test_the_heads_dashboard_asks_for_the_token(head: Head):
    assert head.get("/api/jobs/", token=None)[0] == 401
    assert head.get("/api/jobs/", token="0" * 40)[0] == 403
    assert head.get("/api/jobs/")[0] == 200


@pytest.mark.ray
def test_the_heads_dashboard_listens_on_loopback_only(head: Head):
    own = subprocess.run(["hostname", "-I"], capture_output=True, text=True).stdout.split()
    if not own:
        pytest.skip("this machine has no address but loopback")
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((own[0], head.port), timeout=5)


@pytest.mark.ray
def test_prometheus_finds_the_nodes_where_it_asks(head: Head):
    asked = scrape_config()
    path = asked["url"].removeprefix("http://127.0.0.1:8265")
    assert asked["authorization"]["type"] == "Bearer"
    assert head.get(path, token=None)[0] == 401
    node = f":{head.metrics}"
    deadline = time.monotonic() + 30
    while not (found := [t for t in targets(head, path) if t.endswith(node)]):
        assert time.monotonic() < deadline
        time.sleep(1)
    assert b"ray_" in scraped(f"http://{found[0]}/metrics", b"ray_")


def targets(head: Head, path: str) -> list[str]:
    status, text = head.get(path)
    assert status == 200
    return [target for group in json.loads(text) for target in group["targets"]]


def scraped(url: str, wanted: bytes) -> bytes:
    """A node's metrics, as soon as they hold what is wanted: Ray sends them now and then."""
    deadline = time.monotonic() + 30
    while True:
        with urllib.request.urlopen(url, timeout=10) as answer:
            found: bytes = answer.read()
        if wanted in found or time.monotonic() > deadline:
            return found
        time.sleep(1)
