"""Data-parallel training over nodes, one of which dies with all its processes."""

from __future__ import annotations

import json
import time
from itertools import pairwise

import pytest

from raffect.affwild2.tasks import Task
from raffect.temporal.train import train
from tests.nodes import WORKER, Loss, actor_nodes, two_nodes
from tests.temporal.builders import NO_DROPOUT, small_config

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.long]
EPOCHS = 60


def test_training_goes_on_after_the_loss_of_a_node(monkeypatch, small_store):
    config = small_config(Task.VA, **NO_DROPOUT, optimiser__epochs=EPOCHS)
    told: list[int] = []
    times: list[float] = []
    with two_nodes(monkeypatch) as cluster:
        loss = Loss(cluster)

        def on_epoch(result, total):
            told.append(result.epoch)
            times.append(time.monotonic())
            if result.epoch == 3:
                assert len(actor_nodes(WORKER)) == 2
                loss.strike()
                times.append(time.monotonic())

        train(small_store, config, "clip", "m", workers=2, on_epoch=on_epoch)
        assert loss.workers_since == 2
    metrics = json.loads(small_store.read_bytes("models/m/metrics.json"))
    epochs = [epoch["epoch"] for epoch in metrics["history"]]
    assert epochs == list(range(1, EPOCHS + 1))
    # Rank 0 keeps a checkpoint of each epoch before it tells of it: none is told twice.
    assert told == epochs
    print(f"the longest wait was {max(b - a for a, b in pairwise(times)):.1f} s")
