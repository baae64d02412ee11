"""The cluster's nodes, each with a witness on it; the doctor's only meeting with Ray.

Witnesses take no CPU, so that a busy cluster can be examined, and whatever is asked of them has a
time limit, so that a node that hangs is a finding.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.cloudpickle
import ray.core.generated.common_pb2
import ray.exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raffect.doctor import node_actor as witness
from raffect.doctor.facts import Offset
from raffect.doctor.findings import one_line
from raffect.doctor.timeouts import Answer, late
from raffect.engine import connect

PINGS = 7
PING_S = 5.0
_HEAD = "node:__internal_head__"
# Neither protocol buffers nor the pickler have types.
_MESSAGES: Any = ray.core.generated.common_pb2
_PICKLER: Any = ray.cloudpickle
_UNEXPECTED = _MESSAGES.NodeDeathInfo.UNEXPECTED_TERMINATION


@dataclass(frozen=True)
class Node:
    """A node that lives.

    Attributes:
        identity: Ray's.
        name: For people.
        cpus: Ray's count.
        gpus: Ray's count.
        object_store: Bytes.
        session: Folder of Ray's session there, where it also spills.
    """

    identity: str
    name: str
    cpus: float
    gpus: float
    object_store: int
    session: str


class Cluster:
    """A cluster that this process has joined.

    Attributes:
        nodes: Those that live, the head first.
        lost: Those that died and were not meant to, by name, with the reason.
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
        self._witnesses: dict[str, Any] = {}

    def call(self, seconds: float) -> dict[str, Answer[dict[str, Any]]]:
        """Put a witness on each node and ask what would run there.

        Returns:
            By the node's identity: the fields of `facts.Code`.
        """
        # By value: the node may have no raffect, or an older one.
        _PICKLER.register_pickle_by_value(witness)
        try:
            actor = ray.remote(witness.Witness)
            for node in self.nodes:
                there = NodeAffinitySchedulingStrategy(node.identity, soft=False)
                self._witnesses[node.identity] = actor.options(
                    num_cpus=0, scheduling_strategy=there
                ).remote()
        finally:
            _PICKLER.unregister_pickle_by_value(witness)
        asked = {key: actor.code.remote() for key, actor in self._witnesses.items()}
        return _wait(asked, seconds)

    def ask(
        self,
        arguments: Mapping[str, tuple[Any, ...]],
        function: Callable[..., Any],
        seconds: float,
    ) -> dict[str, Answer[Any]]:
        """Call one of raffect's functions on nodes, all at the same time.

        Args:
            arguments: By the node's identity.
            function: Importable on the nodes.
            seconds: How long to wait.
        """
        asked = {
            key: self._witnesses[key].run.remote(function, *of) for key, of in arguments.items()
        }
        return _wait(asked, seconds)

    def offset(self, identity: str) -> Answer[Offset]:
        """How far a node's clock is ahead: by the quickest of some round trips."""
        best: Offset | None = None
        try:
            for _ in range(PINGS):
                before = time.time()
                there = ray.get(self._witnesses[identity].now.remote(), timeout=PING_S)
                after = time.time()
                offset = Offset(there - (before + after) / 2, (after - before) / 2)
                best = offset if best is None or offset.error < best.error else best
        except ray.exceptions.GetTimeoutError:
            return Answer(problem=late(PING_S))
        except ray.exceptions.RayError as error:
            return Answer(problem=one_line(error))
        return Answer(best)

    def dismiss(self) -> None:
        """End the witnesses, also those that hang."""
        for actor in self._witnesses.values():
            ray.kill(actor)


@contextmanager
def joined(address: str) -> Iterator[Cluster]:
    """The cluster at an address, for the time of a block.

    Raises:
        RaffectError: It can't be joined.
    """
    connect(address)
    cluster = Cluster()
    try:
        yield cluster
    finally:
        cluster.dismiss()


def _wait(asked: dict[str, Any], seconds: float) -> dict[str, Answer[Any]]:
    if not asked:
        return {}
    ready, _ = ray.wait(list(asked.values()), num_returns=len(asked), timeout=seconds)
    came = set(ready)
    return {
        key: _take(reference) if reference in came else Answer(problem=late(seconds))
        for key, reference in asked.items()
    }


def _take(reference: Any) -> Answer[Any]:
    try:
        return Answer(ray.get(reference))
    except Exception as error:
        # What a function raised is Ray's error and its own at the same time.
        return Answer(problem=one_line(getattr(error, "cause", None) or error))


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
