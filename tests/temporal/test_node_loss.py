"""Data-parallel training over nodes, one of which dies with all its processes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
import ray

from raffect.affwild2.tasks import Task
from raffect.temporal.train import train
from tests.temporal.builders import NO_DROPOUT, small_config

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.long]
EPOCHS = 60


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head without CPUs, and two nodes with room for one worker each."""
    from ray.cluster_utils import Cluster

    ray.shutdown()
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    monkeypatch.setenv("RAY_ADDRESS", nodes.address)
    try:
        yield nodes
    finally:
        ray.shutdown()
        nodes.shutdown()


def test_training_goes_on_after_the_loss_of_a_node(cluster: Any, small_store):
    config = small_config(Task.VA, **NO_DROPOUT, optimiser__epochs=EPOCHS)
    victim = [cluster.add_node(num_cpus=1) for _ in range(2)][1]
    replaced: list[float] = []
    told: list[int] = []
    times: list[float] = []

    def replace() -> None:
        # In the main thread: Ray's cluster_utils handles signals there.
        cluster.remove_node(victim, allow_graceful=False)
        cluster.add_node(num_cpus=1)
        replaced.append(time.monotonic())

    def on_epoch(result, total):
        told.append(result.epoch)
        times.append(time.monotonic())
        if result.epoch == 3:
            replace()

    train(small_store, config, "clip", "m", workers=2, on_epoch=on_epoch)
    metrics = json.loads(small_store.read_bytes("models/m/metrics.json"))
    epochs = [epoch["epoch"] for epoch in metrics["history"]]
    assert epochs == list(range(1, EPOCHS + 1))
    assert replaced[0] < max(times)
    # Rank 0 keeps a checkpoint of each epoch before it tells of it: none is told twice.
    assert told == sorted(set(told))
    first = next(moment for moment in times if moment > replaced[0])
    print(f"the first epoch came {first - replaced[0]:.1f} s after the new node")
