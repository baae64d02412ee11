"""A Ray cluster as the doctor meets it: may one join, which nodes are there, what each answers.

The actors on the nodes take no CPU, so that a busy cluster can be examined, and every call to one
has a time limit, so that a node that hangs is a finding.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import ray
import ray.cloudpickle
import ray.core.generated.common_pb2
import ray.exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raffect.doctor import node_actor
from raffect.doctor.facts import Access, Offset
from raffect.doctor.findings import one_line
from raffect.doctor.node_actor import Code
from raffect.doctor.timeouts import Reply, ScriptError, late, run_script
from raffect.engine import SEES_ALL_GPUS, connect, knock

T = TypeVar("T")
_PINGS, _PING_S = 7, 5.0
_ACCESS_SCRIPT = Path(__file__).with_name("access_script.py")
_TOKENS = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
_HEAD = "node:__internal_head__"
# Neither protocol buffers nor the pickler have types.
_MESSAGES: Any = ray.core.generated.common_pb2
_PICKLER: Any = ray.cloudpickle
_UNEXPECTED = _MESSAGES.NodeDeathInfo.UNEXPECTED_TERMINATION


def ask_for_access(address: str, seconds: float, as_stranger: bool = False) -> Access:
    """Ask a cluster for its versions, in a process of its own, before this one tries to join.

    As a stranger: without a token.
    """
    environment = {**os.environ, "RAY_BACKEND_LOG_LEVEL": "fatal"}
    if as_stranger:
        environment = {k: v for k, v in environment.items() if k not in _TOKENS}
        environment["RAY_AUTH_MODE"] = "disabled"
    try:
        knock(address)
        found = run_script(_ACCESS_SCRIPT, seconds, address, environment=environment)
    except subprocess.TimeoutExpired:
        return Access("silent", late(seconds))
    except (OSError, ScriptError) as error:
        return Access("silent", one_line(error if isinstance(error, OSError) else str(error)))
    return Access(**{name: one_line(str(value)) for name, value in found.items()})


@dataclass(frozen=True)
class Node:
    """A live node as Ray counts it; `session` is Ray's folder there, where it also spills."""

    identity: str
    name: str
    cpus: float
    gpus: float
    object_store: int
    session: str


class Cluster:
    """A cluster that this process has joined, with an actor on each node, by its identity.

    `nodes` are the live ones, the head first; `lost` the reasons of unmeant deaths by node's name.
    """

    def __init__(self) -> None:
        table = ray.nodes()  # type: ignore[no-untyped-call]
        alive = [entry for entry in table if entry["Alive"]]
        alive.sort(key=lambda entry: (_HEAD not in entry["Resources"], entry["NodeID"]))
        self.nodes = [_node(entry) for entry in alive]
        self.lost = {
            _name(entry): one_line(entry.get("DeathReasonMessage") or "no reason is known")
            for entry in table
            if not entry["Alive"] and entry.get("DeathReason") == _UNEXPECTED
        }
        self.actors: dict[str, Any] = {}

    def start(self, seconds: float) -> dict[str, Reply[Code]]:
        """Start an actor on each node; replies with the code there, by the node's identity."""
        # By value: the node may have no raffect, or an older one.
        _PICKLER.register_pickle_by_value(node_actor)
        try:
            actor = ray.remote(node_actor.NodeActor)
            for node in self.nodes:
                there = NodeAffinitySchedulingStrategy(node.identity, soft=False)
                options = actor.options(
                    num_cpus=0,
                    scheduling_strategy=there,
                    runtime_env={"env_vars": SEES_ALL_GPUS},
                )
                self.actors[node.identity] = options.remote()
        finally:
            _PICKLER.unregister_pickle_by_value(node_actor)
        return _gather({key: one.code.remote() for key, one in self.actors.items()}, seconds)

    def call(
        self,
        function: Callable[..., T],
        arguments: Mapping[str, tuple[object, ...]],
        seconds: float,
    ) -> dict[str, Reply[T]]:
        """Call a function, importable there, on several nodes at once; arguments by identity."""
        asked = {key: self.actors[key].run.remote(function, *of) for key, of in arguments.items()}
        return _gather(asked, seconds)

    def clock_offset(self, identity: str) -> Reply[Offset]:
        """How far a node's clock is ahead, by the quickest of some round trips (as NTP does)."""
        offsets = []
        try:
            for _ in range(_PINGS):
                before = time.time()
                there = ray.get(self.actors[identity].run.remote(time.time), timeout=_PING_S)
                after = time.time()
                offsets.append(Offset(there - (before + after) / 2, (after - before) / 2))
        except ray.exceptions.GetTimeoutError:
            return Reply(problem=late(_PING_S))
        except ray.exceptions.RayError as error:
            return Reply(problem=one_line(error))
        return Reply(min(offsets, key=lambda one: one.error))


@contextmanager
def joined(address: str) -> Iterator[Cluster]:
    """The cluster at an address, for the time of a block; a RaffectError if it can't be joined."""
    connect(address)
    cluster = Cluster()
    try:
        yield cluster
    finally:
        # Kills also those that hang.
        for actor in cluster.actors.values():
            ray.kill(actor)


def _gather(asked: dict[str, Any], seconds: float) -> dict[str, Reply[Any]]:
    if not asked:
        return {}
    ready, _ = ray.wait(list(asked.values()), num_returns=len(asked), timeout=seconds)
    came = set(ready)
    return {
        key: _take(reference) if reference in came else Reply(problem=late(seconds))
        for key, reference in asked.items()
    }


def _take(reference: Any) -> Reply[Any]:
    try:
        return Reply(ray.get(reference))
    except Exception as error:
        # Ray raises a class that is both its own error and that of the function.
        return Reply(problem=one_line(getattr(error, "cause", None) or error))


def _node(entry: dict[str, Any]) -> Node:
    resources: dict[str, float] = entry["Resources"]
    return Node(
        identity=entry["NodeID"],
        name=_name(entry),
        cpus=resources.get("CPU", 0.0),
        gpus=resources.get("GPU", 0.0),
        object_store=int(resources.get("object_store_memory", 0)),
        # .../session_X/sockets/plasma_store
        session=str(Path(entry["ObjectStoreSocketName"]).parent.parent),
    )


def _name(entry: dict[str, Any]) -> str:
    kind = "head" if _HEAD in entry.get("Resources", {}) else "node"
    host, address = entry["NodeManagerHostname"], entry["NodeManagerAddress"]
    return f"{kind} {host}, {address}, {entry['NodeID'][:8]}"
