"""The Ray that a command starts for itself: quiet, and closed to everybody else."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raffect import engine
from raffect.errors import SettingsError
from tests.nodes import two_nodes

START = """
from raffect.engine import connect
connect(None)
connect(None)
import ray
print(ray.get_runtime_context().gcs_address, flush=True)
input()
"""
KNOCK = """
import sys, ray
ray.init(address=sys.argv[1], log_to_driver=False)
print(ray.get(ray.remote(lambda: 'inside').remote()))
"""


@pytest.fixture
def started():
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    process = subprocess.Popen(
        [sys.executable, "-c", START], env=environment, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    yield process, process.stdout.readline().strip()
    if process.poll() is None:
        process.communicate("\n", timeout=60)


@pytest.mark.ray
def test_a_stranger_is_refused(started):
    _, address = started
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", KNOCK, address],
        env={
            **environment, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64,
            "RAY_NUM_REDIS_GET_RETRIES": "1",
        },
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert "inside" not in done.stdout
    assert done.returncode != 0
    assert "ray-security/token-auth" in done.stderr


@pytest.mark.ray
def test_it_starts_without_a_word(started):
    process, address = started
    assert address
    _, said = process.communicate("\n", timeout=60)
    assert said == ""


@pytest.mark.parametrize(
    ("device", "workers", "there", "asked"),
    [
        ("cpu", 1, 4, False),
        ("auto", 2, 2, True),
        ("auto", 2, 1, False),
        ("auto", 1, 0, False),
        # Nodes with GPUs may be yet to come.
        ("cuda", 2, 0, True),
    ],
)
def test_who_asks_for_gpus(monkeypatch, device: str, workers: int, there: int, asked: bool):
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 8, "GPU": there})
    assert engine.asks_for_gpus(device, workers) is asked


def test_gpus_that_will_never_come_are_refused_on_this_machine_only(monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 8})
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(SettingsError, match="takes 2 GPUs here; this machine has 0"):
        engine.check_gpus("cuda", 2)
    engine.check_gpus("cuda", 2, "head:6379")
    engine.check_gpus("auto", 2)


class Where:
    def node(self) -> str:
        return ray.get_runtime_context().get_node_id()


@pytest.mark.ray
def test_an_actor_beside_its_caller_is_not_on_a_node_that_may_die(monkeypatch):
    with two_nodes(monkeypatch):
        asked = [engine.beside_caller(Where) for _ in range(4)]
        found = {ray.get(one.node.remote()) for one in asked}
        assert found == {ray.get_runtime_context().get_node_id()}


@pytest.mark.ray
@pytest.mark.long
def test_ray_still_heeds_no_soft_affinity_of_an_actor_without_resources(monkeypatch):
    """When this fails, `beside_caller` may ask softly, which a lost node does not make fail."""
    with two_nodes(monkeypatch):
        home = ray.get_runtime_context().get_node_id()
        soft = NodeAffinitySchedulingStrategy(home, soft=True)
        kind = ray.remote(Where).options(num_cpus=0, scheduling_strategy=soft)
        asked = [kind.remote() for _ in range(8)]
        assert {ray.get(one.node.remote()) for one in asked} != {home}
