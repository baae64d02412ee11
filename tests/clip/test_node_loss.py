"""Fine-tuning over nodes, one of which dies with all its processes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest

from raffect.clip.finetune import finetune
from raffect.store import Store
from tests.clip.clip_data import tiny_config
from tests.nodes import Loss, two_nodes

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.long]
EPOCHS = 12
# With half a core each there would be no core left to decode their images.
WORKERS = 3


def test_fine_tuning_goes_on_after_the_loss_of_a_node(monkeypatch, dataset: Store):
    told: list[int] = []
    second, lost = Event(), Event()

    def on_epoch(facts: dict[str, Any]) -> None:
        told.append(facts["epoch"])
        if facts["epoch"] == 2:
            second.set()
            lost.wait(60)

    with two_nodes(monkeypatch) as cluster, ThreadPoolExecutor(1) as beside:
        config = tiny_config(epochs=EPOCHS)
        run = beside.submit(finetune, dataset, "clip", config, workers=WORKERS, on_epoch=on_epoch)
        assert second.wait(120)
        loss = Loss(cluster)
        loss.strike()
        lost.set()
        run.result(timeout=300)
        assert loss.workers_since == WORKERS
    metrics = dataset.read_json("encoders/clip/metrics.json")
    assert [facts["epoch"] for facts in metrics["history"]] == list(range(1, EPOCHS + 1))
    assert told == list(range(1, EPOCHS + 1))
