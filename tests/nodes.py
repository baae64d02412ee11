"""Ray nodes with processes of their own on this machine, one of which can be lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import ray

from raffect import engine

WORKER = "RayTrainWorker"


@contextmanager
def joined(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """This process as a driver on the cluster, as a job on its head is."""
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    engine.connect()
    try:
        yield cluster
    finally:
        ray.shutdown()


@contextmanager
def two_nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head without CPUs, and two nodes with one each; this process is a driver on the head."""
    from ray.cluster_utils import Cluster

    ray.shutdown()
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        for _ in range(2):
            nodes.add_node(num_cpus=1)
        with joined(nodes, monkeypatch):
            yield nodes
    finally:
        nodes.shutdown()


def actor_nodes(kind: str) -> set[str]:
    """The nodes that have living actors of a class."""
    return {actor["Address"]["NodeID"] for actor in actors(kind) if actor["State"] == "ALIVE"}


def actors(kind: str) -> list[dict[str, Any]]:
    """All actors of a class that there have been."""
    known = ray._private.state.actors().values()
    return [actor for actor in known if kind in actor["ActorClassName"]]


class Loss:
    """A node with a worker of Ray Train that dies, all its processes with it, and its replacement.

    To be called in the main thread: Ray's cluster_utils handles signals there.
    """

    def __init__(self, cluster: Any) -> None:
        self._cluster = cluster
        self._before = 0

    def strike(self) -> None:
        """Lose the node and start another."""
        at_work = actor_nodes(WORKER)
        victim = next(node for node in self._cluster.worker_nodes if node.node_id in at_work)
        self._before = len(actors(WORKER))
        self._cluster.remove_node(victim, allow_graceful=False)
        self._cluster.add_node(num_cpus=1)

    @property
    def workers_since(self) -> int:
        """How many workers were started after the loss."""
        return len(actors(WORKER)) - self._before
