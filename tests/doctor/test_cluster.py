"""`raffect doctor` against real clusters: what is wrong with which node, and nothing told."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raffect.doctor.cluster import ask_for_access
from raffect.store import Store, features_folder
from raffect.store.manifest import FileEntry, make_manifest, write_manifest
from raffect.testing.s3 import S3Server, environment
from tests.doctor.nodes import SMALL, Running, running

pytestmark = pytest.mark.ray
TOKEN = "planted-token-planted-token-planted"
PLANTED = {"WANDB_API_KEY": "planted-key-of-wandb", "MY_PASSWORD": "planted-password"}
STEPS = [
    "store connect",
    "store write",
    "store read",
    "store list",
    "store conditional",
    "store delete",
]
IMPATIENT = """
import json, sys
from raffect.doctor.timeouts import Timeouts
from raffect.doctor.examine import examine
found = examine(sys.argv[1], sys.argv[2], timeouts=Timeouts(start=8))
print(json.dumps([[one.place, one.check, str(one.state), one.found] for one in found]))
"""


@pytest.fixture(scope="module")
def store(s3_server: S3Server) -> Iterator[Store]:
    """A bucket with features that are too large for the small object store."""
    with environment(s3_server.environment()):
        bucket = Store(f"s3://{s3_server.new_bucket()}")
        file = FileEntry(name="00000.parquet", size=2 * SMALL, sha256="0")
        manifest = make_manifest("features", {}, {}, [file])
        write_manifest(bucket, features_folder("clip"), manifest)
        yield bucket


@pytest.fixture(scope="module")
def cluster(
    store: Store, s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """A head and two nodes with something wrong, behind a token."""
    old = tmp_path_factory.mktemp("old")
    (old / "raffect").mkdir()
    (old / "raffect" / "__init__.py").write_text('__version__ = "0.0.9"\n')
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
    with running({**s3_server.environment(), **token, **PLANTED}, old) as started:
        yield started


def doctor(
    arguments: list[str], variables: dict[str, str], folder: Path
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], env=variables, cwd=folder,
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip


@pytest.fixture(scope="module")
def report(
    cluster: Running, store: Store, tmp_path_factory: pytest.TempPathFactory
) -> subprocess.CompletedProcess[str]:
    arguments = ["-m", "raffect", "doctor", "--json", "--store", store.uri]
    address = ["--address", cluster.facts["address"]]
    folder = tmp_path_factory.mktemp("work")
    return doctor([*arguments, *address], cluster.environment, folder)


@pytest.fixture(scope="module")
def findings(
    report: subprocess.CompletedProcess[str], cluster: Running
) -> dict[str, dict[str, dict[str, Any]]]:
    """By place (driver, cluster, head, odd, stale) and check."""
    names = {cluster.facts[name][:8]: name for name in ("odd", "stale")}
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for one in json.loads(report.stdout):
        place = one["place"]
        short = names.get(place[-8:], "head" if place.startswith("head ") else place)
        found.setdefault(short, {})[one["check"]] = one
    return found


def states(found: dict[str, dict[str, Any]], checks: list[str]) -> list[str]:
    return [found[check]["state"] for check in checks]


def test_every_place_is_examined_and_something_fails(report: Any, findings: Any):
    assert report.returncode == 2
    assert set(findings) == {"driver", "cluster", "head", "odd", "stale"}


def test_the_driver_and_the_head_are_well(findings: Any):
    assert states(findings["driver"], ["python", "packages", "token"]) == ["pass"] * 3
    well = [
        "python",
        "packages",
        "raffect",
        "as on driver",
        "clock",
        "S3 clock",
        "same store",
        "environment",
    ]
    assert states(findings["head"], well) == ["pass"] * 8
    # A busy machine may take its time.
    assert "fail" not in states(findings["driver"], STEPS) + states(findings["head"], STEPS)


def test_the_cluster_answers_and_refuses_strangers(findings: Any):
    assert states(findings["cluster"], ["reach", "strangers", "nodes"]) == ["pass"] * 3
    assert "lost nodes" not in findings["cluster"]


def test_a_node_that_lies_about_itself_and_has_a_wrong_key(findings: Any):
    odd = findings["odd"]
    assert states(odd, ["cores", "object store", "store connect"]) == ["warn", "warn", "fail"]
    assert "Ray counts 64" in odd["cores"]["found"]
    assert "'clip' take 200 MiB" in odd["object store"]["found"]
    assert "refuses access" in odd["store connect"]["found"]
    assert "store write" not in odd
    assert "same store" not in odd
    assert "AWS_REGION is elsewhere-1" in odd["environment"]["found"]


@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="the GPU that is made up is there")
def test_a_node_with_a_gpu_that_torch_does_not_see(findings: Any):
    assert findings["odd"]["GPUs"]["state"] == "fail"
    assert "Ray counts 1, torch sees none" in findings["odd"]["GPUs"]["found"]


def test_a_node_with_another_raffect_is_named_and_asked_no_further(findings: Any):
    stale = findings["stale"]
    assert stale["raffect"]["state"] == "fail"
    assert "0.0.9" in stale["raffect"]["found"]
    assert stale["packages"]["state"] == "pass"
    assert stale["clock"]["state"] == "pass"
    assert "store write" not in stale


def test_no_secret_is_told_and_nothing_is_left(report: Any, store: Store, s3_server: S3Server):
    said = report.stdout + report.stderr
    for secret in ("planted", s3_server.secret_key, s3_server.access_key):
        assert secret not in said
    assert store.files("") == ["features/clip/manifest.json"]


def test_who_has_no_token_is_told_so_at_once(cluster: Running, store: Store, tmp_path: Path):
    without = {k: v for k, v in cluster.environment.items() if not k.startswith("RAY_AUTH")}
    variables = {**without, "RAY_AUTH_MODE": "disabled", "RAY_ADDRESS": cluster.facts["address"]}
    done = doctor(["-m", "raffect", "doctor", "--json", "--store", store.uri], variables, tmp_path)
    assert done.returncode == 2
    found = {one["check"]: one for one in json.loads(done.stdout)}
    assert found["reach"]["state"] == "fail"
    assert "refuses this token, or wants one" in found["reach"]["found"]
    assert "nodes" not in found


@pytest.mark.long
def test_nodes_that_hang_or_die_are_findings(cluster: Running, store: Store, tmp_path: Path):
    """Last of this cluster's tests: it is not well again afterwards."""
    cluster.harm()
    arguments = ["-c", IMPATIENT, cluster.facts["address"], store.uri]
    done = doctor(arguments, cluster.environment, tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    odd = [one for one in found if one[0].endswith(cluster.facts["odd"][:8])]
    assert [one[1:3] for one in odd] == [["answers", "fail"]]
    assert "no answer in 8 s" in odd[0][3]
    lost = [one for one in found if one[1] == "lost nodes"]
    assert [one[2] for one in lost] == ["warn"]
    assert cluster.facts["stale"][:8] in lost[0][3]


@pytest.mark.long
def test_a_cluster_without_a_token_lets_strangers_in():
    with running({"RAY_AUTH_MODE": "disabled"}) as started:
        assert ask_for_access(started.facts["address"], 60, as_stranger=True).answer == "open"
    closed = ask_for_access(started.facts["address"], 60)
    assert closed.answer == "silent"
    assert closed.text
