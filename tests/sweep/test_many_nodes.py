"""Sweeps on several nodes, each a Ray node with processes of its own on this machine."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from ray._private.internal_api import node_stats

from raffect import engine
from raffect.store import Store
from raffect.sweep.progress import SweepProgress
from tests.durability import processes
from tests.nodes import joined, two_nodes
from tests.sweep import tiny
from tests.sweep.sweeps import sweep

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.long]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    with two_nodes(monkeypatch) as nodes:
        yield nodes


def trial_nodes() -> dict[str, int]:
    """How many living processes of trials each node has."""
    found: dict[str, int] = defaultdict(int)
    for actor in ray._private.state.actors().values():
        if actor["State"] == "ALIVE" and "SweepTrial" in actor["ActorClassName"]:
            found[actor["Address"]["NodeID"]] += 1
    return found


class Watch:
    """Notes where trials run, and calls something once when so many have finished."""

    def __init__(self, after: int = 0, action: Callable[[], object] | None = None) -> None:
        self.nodes: set[str] = set()
        self.most = 0
        self._after = after
        self._action = action

    def __call__(self, progress: SweepProgress) -> None:
        now = trial_nodes()
        self.nodes |= set(now)
        self.most = max(self.most, sum(now.values()))
        if self._action is not None and progress.finished >= self._after:
            action, self._action = self._action, None
            action()


def test_trials_run_on_all_nodes_and_on_one_that_comes_later(
    cluster: Any, filled: Store, space: str
):
    alone = {node["NodeID"] for node in ray.nodes() if node["Resources"].get("CPU")}
    watch = Watch(after=1, action=lambda: cluster.add_node(num_cpus=1))
    # 0.1 s an epoch: a process takes seconds to start, and there must be trials left for it.
    slow = tiny.base(optimiser__epochs=40, segments__stride=1)
    view = sweep(filled, space, 16, concurrent=None, pruning="none", base=slow, on_update=watch)
    assert view.counts == {"COMPLETE": 16}
    assert alone < watch.nodes
    assert watch.most == 3


@pytest.mark.long
def test_a_node_that_dies_costs_its_trial_no_more_than_a_checkpoint_interval(
    cluster: Any, filled: Store, space: str
):
    victim = cluster.add_node(num_cpus=1)
    slow = tiny.base(optimiser__epochs=40, segments__stride=1)
    watch = Watch(2, lambda: cluster.remove_node(victim, allow_graceful=False))
    told: dict[int, list[int]] = defaultdict(list)

    def on_update(progress: SweepProgress) -> None:
        watch(progress)
        if progress.event == "epoch":
            told[progress.trial].append(progress.epoch)

    view = sweep(
        filled,
        space,
        9,
        concurrent=None,
        pruning="none",
        base=slow,
        checkpoint_seconds=0.0,
        on_update=on_update,
    )
    assert view.counts == {"COMPLETE": 9}
    assert all(row.epochs == 40 for row in view.rows)
    # No epoch is told twice, and each trial's own record has all of them once.
    assert all(epochs == sorted(set(epochs)) for epochs in told.values())
    assert all([epoch.epoch for epoch in row.curve] == list(range(1, 41)) for row in view.rows)


def test_features_travel_to_a_node_once_however_many_trials_it_runs(
    monkeypatch: pytest.MonkeyPatch, store: Store, space: str
):
    from ray.cluster_utils import Cluster

    ray.shutdown()
    monkeypatch.setattr(tiny, "DIM", 20_000)
    size = 360 * 20_000 * np.dtype(np.float16).itemsize
    tiny.fill(store)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    used: dict[str, int] = {}

    def measure(progress: SweepProgress) -> None:
        for node in ray.nodes():
            if not node["Alive"]:
                continue
            stats = node_stats(node["NodeManagerAddress"], node["NodeManagerPort"]).store_stats
            name = node["NodeID"]
            used[name] = max(used.get(name, 0), stats.object_store_bytes_used)

    try:
        node = cluster.add_node(num_cpus=2)
        with joined(cluster, monkeypatch):
            view = sweep(store, space, 4, concurrent=None, on_update=measure)
    finally:
        cluster.shutdown()
    assert sum(view.counts.values()) == 4
    found = [bytes_used for name, bytes_used in used.items() if name == node.node_id]
    assert len(found) == 1
    assert size <= found[0] < 1.5 * size


@pytest.mark.long
def test_a_cluster_that_has_no_room_yet_is_asked_for_it_and_waited_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory, filled: Store, space: str
):
    """Ray's own autoscaler, whose nodes are processes of this machine."""
    if is_taken(FAKE_NODES_PORT):
        pytest.skip(f"port {FAKE_NODES_PORT} is taken")
    ray.shutdown()
    watch = Watch()
    notes: list[str] = []
    slow = tiny.base(optimiser__epochs=40, segments__stride=1)
    with autoscaling_head(tmp_path_factory.mktemp("head"), most=2) as address:
        monkeypatch.setenv("RAY_ADDRESS", address)
        engine.connect()
        try:
            assert not ray.cluster_resources().get("CPU")
            view = sweep(
                filled, space, 8, concurrent=2, pruning="none", base=slow, on_update=watch,
                on_note=notes.append,
            )  # fmt: skip
        finally:
            ray.shutdown()
    assert view.counts == {"COMPLETE": 8}
    assert len(watch.nodes) == 2
    assert [note for note in notes if "hold 0 of 1 x (1 CPU): waiting for more" in note]


FAKE_NODES_PORT = 6379
"""Where the nodes that Ray's autoscaler makes up look for their head, wherever that is."""


def is_taken(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def autoscaling_head(folder: Path, most: int) -> Iterator[str]:
    """A head without CPUs that starts nodes of one CPU when they are asked for.

    Ray's AutoscalingCluster can't be used: it ends every Ray of the machine first, and wants a
    file that Ray's wheel does not have.
    """
    worker = {"resources": {"CPU": 1}, "node_config": {}, "min_workers": 0, "max_workers": most}
    head = {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0}
    nothing = {f"{name}_commands": [] for name in ("initialization", "setup", "head_setup",
               "worker_setup", "head_start_ray", "worker_start_ray")}  # fmt: skip
    config = {
        "cluster_name": "here",
        "max_workers": most,
        "provider": {
            "type": "fake_multinode",
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
        },
        "available_node_types": {"ray.head.default": head, "worker": worker},
        "head_node_type": "ray.head.default",
        "idle_timeout_minutes": 5,
        "upscaling_speed": 1.0,
        "auth": {},
        "docker": {},
        "file_mounts": {},
        "cluster_synced_files": [],
        "file_mounts_sync_continuously": False,
        "rsync_exclude": [],
        "rsync_filter": [],
        **nothing,
    }
    (folder / "config.json").write_text(json.dumps(config))
    mark = uuid.uuid4().hex
    with tempfile.TemporaryDirectory(prefix="ray-") as short:
        words = ["start", "--head", "--block", "--num-cpus=0", f"--port={FAKE_NODES_PORT}"]
        options = [f"--autoscaling-config={folder}/config.json", f"--temp-dir={short}"]
        faster = {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
        log = (folder / "log").open("w+")
        subprocess.Popen(
            [sys.executable, "-m", "ray.scripts.scripts", *words, *options],
            env={**os.environ, **faster, processes.MARK: mark},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            until = time.monotonic() + 120
            while "Ray runtime started" not in (folder / "log").read_text():
                assert time.monotonic() < until, (folder / "log").read_text()
                time.sleep(0.5)
            yield f"127.0.0.1:{FAKE_NODES_PORT}"
        finally:
            processes.kill_marked(mark)
            log.close()
