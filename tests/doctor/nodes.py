"""A cluster of nodes with something wrong each, in a process of its own.

`python -m tests.doctor.nodes [FOLDER]` prints a line of JSON with the address and the nodes,
and obeys `harm` and `end` on its standard input. FOLDER holds another raffect, for one node.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[2]
WRONG_SECRET = "planted-wrong-secret"
# A node that is killed is found dead within some seconds, one that hangs is not.
QUICK = {"RAY_health_check_period_ms": "500", "RAY_health_check_initial_delay_ms": "0"}
SMALL = 100 << 20
"""Bytes of the small object store."""


def main(folder: str | None) -> None:
    """Start the nodes, and end them when told, or when nobody is left to tell."""
    from ray.cluster_utils import Cluster

    cluster: Any = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
    )
    nodes = {}
    if folder is not None:
        nodes["odd"] = cluster.add_node(
            num_cpus=64,
            num_gpus=1,
            object_store_memory=SMALL,
            env_vars={"AWS_SECRET_ACCESS_KEY": WRONG_SECRET, "AWS_REGION": "elsewhere-1"},
        )
        nodes["stale"] = cluster.add_node(num_cpus=1, env_vars={"PYTHONPATH": folder})
    names = {name: node.node_id for name, node in nodes.items()}
    print(json.dumps({"address": cluster.address, **names}), flush=True)
    for line in sys.stdin:
        if line.strip() == "end":
            break
        os.kill(raylet(nodes["odd"]), signal.SIGSTOP)
        os.kill(raylet(nodes["stale"]), signal.SIGKILL)
        while all(entry["Alive"] for entry in cluster.global_state.node_table()):
            time.sleep(0.2)
        print("harmed", flush=True)
    if "odd" in nodes:
        os.kill(raylet(nodes["odd"]), signal.SIGCONT)
    cluster.shutdown()


def raylet(node: Any) -> int:
    """The process that is the node, for the cluster."""
    pid: int = node.all_processes["raylet"][0].process.pid
    return pid


class Running:
    """A started cluster.

    Attributes:
        facts: `address`, and the nodes' identities.
        environment: Of the cluster, and of a driver that may join.
    """

    def __init__(self, process: subprocess.Popen[str], environment: Mapping[str, str]) -> None:
        assert process.stdout is not None
        self.environment = dict(environment)
        self._process = process
        self._out: IO[str] = process.stdout
        self.facts: dict[str, str] = json.loads(self._out.readline())

    def harm(self) -> None:
        """The odd node hangs and is not dead; the stale one dies. Returns when that is known."""
        self._say("harm")
        assert self._out.readline() == "harmed\n"

    def end(self) -> None:
        """Take it down."""
        self._say("end")
        self._process.wait(timeout=60)

    def _say(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()


@contextmanager
def running(variables: Mapping[str, str], folder: Path | None = None) -> Iterator[Running]:
    """A cluster for the time of a block.

    Args:
        variables: Of its environment, beside this process's without Ray's.
        folder: Of another raffect, for one of the nodes with something wrong; None: head alone.
    """
    plain = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment = {**plain, **QUICK, **variables}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.doctor.nodes", *([str(folder)] if folder else [])],
        cwd=ROOT, env=environment, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        cluster = Running(process, environment)
        yield cluster
        cluster.end()
    finally:
        process.kill()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
