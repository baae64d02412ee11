"""What is killed, and how: each fault returns when its damage is done, with what it did."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args

from raffect.testing.s3 import DurableS3Server, environment
from tests.durability import processes
from tests.durability.place import Place

Kind = Literal["driver", "actor", "node", "s3"]
KINDS: tuple[Kind, ...] = get_args(Kind)
OUTAGE_S = (1.0, 15.0)
"""How long the S3 server is away."""
_ACTOR_TIMEOUT_S = 90.0
Fault = Callable[[Place, random.Random], str]


def kill_driver(place: Place, rng: random.Random) -> str:
    """The machine of the command dies and its disk is lost; or the command alone dies."""
    process = place.commands[-1].process
    if rng.random() < 0.7:
        processes.kill([process.pid])
        processes.kill_marked(place.mark)
        process.wait()
        place.lose_disk()
        return "head and its disk"
    # What it started is left alone, and may still be at work when the next command begins.
    processes.kill([process.pid])
    process.wait()
    return "driver alone"


def kill_actor(place: Place, rng: random.Random) -> str:
    """One of the processes that run trials, or do a command's work, dies."""
    found = _wait_for_workers(place)
    if not found:
        return "none: it ended"
    processes.kill([rng.choice(found)])
    return f"1 of {len(found)} {'workers' if place.command else 'actors'}"


def kill_s3(place: Place, rng: random.Random) -> str:
    """The store's server dies, and comes back after a while."""
    assert isinstance(place.server, DurableS3Server)
    seconds = rng.uniform(*OUTAGE_S)
    place.server.kill()
    time.sleep(seconds)
    place.server.start()
    return f"away for {seconds:.1f} s"


class Nodes:
    """A Ray cluster whose head runs no trial, and whose nodes run one each.

    Args:
        number: Nodes beside the head.
    """

    def __init__(self, number: int) -> None:
        from ray.cluster_utils import Cluster

        self._cluster: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
        self._nodes = [self._cluster.add_node(num_cpus=1) for _ in range(number)]
        self.address: str = self._cluster.address

    def kill(self, place: Place, rng: random.Random) -> str:
        """A node that runs a trial dies with all its processes; a new one comes after a while."""
        _wait_for_workers(place)
        busy = [n for n in self._nodes if place.workers(processes.descendants(_raylet(n)))]
        node = rng.choice(busy or self._nodes)
        before = len(self._nodes)
        if rng.random() < 0.7:
            raylet = _raylet(node)
            processes.kill([raylet, *processes.descendants(raylet)])
            how = "node"
        else:
            # Its workers notice by themselves that they are alone, and may be late.
            how = "node's raylet"
        self._cluster.remove_node(node, allow_graceful=False)
        self._nodes.remove(node)
        time.sleep(rng.uniform(0, 5))
        self._nodes.append(self._cluster.add_node(num_cpus=1))
        return f"1 {how} of {before}"

    def end(self) -> None:
        """Take the cluster down."""
        self._cluster.shutdown()


@contextmanager
def cluster(place: Place, number: int) -> Iterator[Nodes]:
    """A cluster for the place's commands."""
    # Before anything starts: the nodes' environment is that of the trials.
    place.address = "to come"
    with environment(place.variables()):
        nodes = Nodes(number)
        place.address = nodes.address
        try:
            yield nodes
        finally:
            nodes.end()


def _raylet(node: Any) -> int:
    pid: int = node.all_processes["raylet"][0].process.pid
    return pid


def _wait_for_workers(place: Place) -> list[int]:
    """Processes that work; they begin some seconds after the command. None if it ends before."""
    until = time.monotonic() + _ACTOR_TIMEOUT_S
    while time.monotonic() < until and place.commands[-1].process.poll() is None:
        found = place.workers(processes.marked(place.mark))
        if found:
            return found
        time.sleep(0.1)
    return []
