"""The Ray that a command starts for itself: quiet, and closed to everybody else."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raffect import engine
from raffect.errors import RaffectError, SettingsError
from tests.nodes import two_nodes

START = """
from raffect.engine import connect
connect(None)
connect(None)
import ray, time

def fail():
    raise ValueError("nobody asks for this")

failed = ray.remote(fail).remote()
print(ray.get_runtime_context().gcs_address, flush=True)
input()
ray.get(ray.remote(lambda: None).remote())
del failed
time.sleep(0.5)
"""
JOIN = """
import sys, ray
from raffect.engine import connect
connect(sys.argv[1])
print(ray.get(ray.remote(lambda: 'inside').remote()))
"""
TOKEN = "a1" * 32
LONG = pytest.mark.long


def environment(**more: str) -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | more


@pytest.fixture(scope="module")
def started():
    process = subprocess.Popen(
        [sys.executable, "-c", START], env=environment(RAY_AUTH_TOKEN=TOKEN), text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    yield process, process.stdout.readline().strip()
    if process.poll() is None:
        process.communicate("\n", timeout=60)


@pytest.mark.ray
@pytest.mark.parametrize(("token", "said"), [(TOKEN, "inside"), ("0" * 64, "wants a token")])
def test_who_has_the_token_joins_and_a_stranger_is_refused(started, token, said):
    """Contract: a cluster's head answers the question that comes before ray.init()."""
    _, address = started
    access = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    before = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", JOIN, address], env=environment(**access),
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert said in done.stdout + done.stderr
    assert (done.returncode == 0) is (said == "inside")
    # Ray itself asks for 20 s.
    assert token == TOKEN or time.monotonic() - before < 15


@pytest.mark.ray
def test_it_starts_without_a_word_and_leaves_errors_to_who_asks(started):
    process, address = started
    assert address
    _, said = process.communicate("\n", timeout=60)
    assert said == ""


OUTSIDE = """
from raffect.engine import connect
connect(None)
import ray

def place():
    from raffect import __file__, __version__
    from raffect.store import Store
    return __file__

print(place(), ray.get(ray.remote(place).remote()), sep="\\n")
"""


@pytest.mark.ray
def test_what_lies_in_the_current_folder_is_not_imported_by_workers(tmp_path: Path):
    """Another checkout of raffect, and files that are named as libraries are."""
    script = tmp_path / "elsewhere" / "script.py"
    script.parent.mkdir()
    script.write_text(OUTSIDE)
    here = Path(os.fsdecode(bytes(tmp_path) + b"/caf\xe9"))
    (here / "raffect").mkdir(parents=True)
    for name in ("raffect/__init__.py", "fsspec.py", "pydantic.py"):
        (here / name).write_text("raise ImportError('the wrong one')")
    done = subprocess.run(
        [sys.executable, str(script)], cwd=here, env=environment(),
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(Path(engine.__file__).with_name("__init__.py"))] * 2


@pytest.mark.long
@pytest.mark.ray
def test_workers_find_raffect_from_the_folder_that_holds_its_clone(tmp_path: Path):
    """Ray puts the driver's folder first on their path, and `raffect/` there is no package.

    What is tested is the installation: pyproject.toml, package-dir.
    """
    script = tmp_path / "elsewhere" / "script.py"
    for folder in (script.parent, tmp_path / "home" / "raffect"):
        folder.mkdir(parents=True)
    (tmp_path / "home" / "raffect" / "pyproject.toml").touch()
    script.write_text(OUTSIDE)
    for driver in ([str(script)], ["-c", OUTSIDE]):
        done = subprocess.run(
            [sys.executable, *driver], cwd=tmp_path / "home", capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        here = str(Path(engine.__file__).with_name("__init__.py"))
        assert done.stdout.split() == [here, here]


@pytest.mark.long
@pytest.mark.ray
def test_an_installed_wheel_is_used_beside_a_clone_and_in_it(tmp_path: Path):
    """By the driver and the workers; the search spaces come with it."""
    root, source, site = Path(engine.__file__).parents[1], tmp_path / "source", tmp_path / "v"
    for name in ("raffect", "tune_spaces"):
        shutil.copytree(root / name, source / name)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, source)
    build = ["pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", tmp_path, source]
    subprocess.run([sys.executable, "-m", *build], check=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", site], check=True)
    (packages,) = site.glob("lib/python*/site-packages")
    (wheel,) = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(packages)
    # The editable raffect is named by a .pth there, which is not read.
    (packages / "others.pth").write_text(sysconfig.get_path("purelib"))
    clone = tmp_path / "home" / "raffect"
    for name in ("raffect", "tune_spaces"):
        (clone / name).mkdir(parents=True)
        (clone / name / "__init__.py").write_text("raise ImportError('the clone')")
    script = tmp_path / "script.py"
    spaces = "    import tune_spaces.va\n    return __file__"
    script.write_text(OUTSIDE.replace("    return __file__", spaces))
    variables = {name: of for name, of in environment().items() if name != "PYTHONPATH"}
    for here in (clone.parent, clone):
        done = subprocess.run(
            [site / "bin/python", script], cwd=here, env=variables,
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == [str(packages / "raffect/__init__.py")] * 2


@pytest.mark.parametrize(
    ("device", "workers", "there", "asked"),
    [
        ("cpu", 1, 4, False),
        ("auto", 2, 2, True),
        ("auto", 2, 1, False),
        ("auto", 1, 0, False),
        # Nodes with GPUs may be yet to come.
        ("cuda", 2, 0, True),
    ],
)
def test_who_asks_for_gpus(monkeypatch, device: str, workers: int, there: int, asked: bool):
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 8, "GPU": there})
    assert engine.asks_for_gpus(device, workers) is asked


def test_gpus_that_will_never_come_are_refused_on_this_machine_only(monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 8})
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(SettingsError, match="takes 2 GPUs here; this machine has 0"):
        engine.check_gpus("cuda", 2)
    engine.check_gpus("cuda", 2, "head:6379")
    engine.check_gpus("auto", 2)


@pytest.mark.parametrize(
    ("workers", "cpus", "share"),
    [(1, 1, 0.5), (2, 2, 0.5), (4, 2, 0.25), (3, 2, 0.333), (2, 64, 0.5)],
)
def test_workers_leave_half_of_the_cores_to_what_feeds_them(
    workers: int, cpus: float, share: float
):
    assert engine.cpus_per_worker(workers, cpus) == share
    assert workers * share <= 0.5 * cpus + 0.001


def test_a_share_is_of_the_cluster_and_is_told_if_it_has_to_wait(monkeypatch):
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2, "GPU": 1})
    there = [{"Alive": True, "Resources": {"CPU": 2.0, "GPU": 1.0}}]
    monkeypatch.setattr(ray, "nodes", lambda: there)
    told: list[str] = []
    assert engine.share_of(1, "auto", told.append) == engine.Share(0.5, 1)
    assert engine.share_of(4, "auto", told.append) == engine.Share(0.25, 0)
    assert engine.share_of(1, "auto", told.append, cpus=1) == engine.Share(1, 1)
    assert told == []
    assert engine.share_of(2, "cuda", told.append) == engine.Share(0.5, 1)
    assert "1 of 2 x (0.5 CPU, 1 GPU)" in told[0]
    assert engine.share_of(2, "cuda", None) == engine.Share(0.5, 1)
    assert len(told) == 1


@pytest.mark.parametrize("form", ["{}", "ray://{}"])
def test_where_nobody_listens_a_knock_fails_at_once(form: str):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        engine.knock(form.format(address))
    with pytest.raises(OSError, match="refused"):
        engine.knock(form.format(address))
    engine.knock("auto")


@pytest.mark.parametrize(
    "address",
    ["head", "head:", ":6379", "head:0", "head:65536", "head:6379/", "::1:6379", "[::1]", "[::1:1",
     "http://head:8265", "redis://head:6379", "user:secret@head:6379", "head:six", " head:6379"],
)  # fmt: skip
def test_what_is_no_address_of_a_cluster_is_refused(address: str, monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(SettingsError, match="is not the address of a Ray cluster's head") as said:
        engine.connect(address)
    assert "secret" not in str(said.value)


def test_ipv6_is_an_address_and_local_is_this_machine(monkeypatch):
    assert engine._place("[::1]:6379") == ("::1", 6379)
    assert engine._place("ray://[fd00::1]:10001") == ("fd00::1", 10001)
    monkeypatch.setenv("RAY_ADDRESS", "local")
    assert engine.is_local()
    assert not engine.is_local("head:6379")


@contextmanager
def other_server(says: bytes | None) -> Iterator[str]:
    """A server that is no Ray: it says something and hangs up, or keeps silent."""
    kept = []

    def serve() -> None:
        with suppress(OSError):
            while True:
                caller, _ = server.accept()
                kept.append(caller)
                if says is not None:
                    caller.sendall(says)
                    caller.close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("form", ["{}", "ray://{}"])
@pytest.mark.parametrize(
    ("says", "why"),
    [
        (None, "no answer within 0.5 s"),
        (b"", "no Ray there: "),
        (b"SSH-2.0-OpenSSH_9.9\r\n", "no Ray there: "),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "no Ray there: "),
    ],
)
def test_another_server_is_told_from_a_cluster(monkeypatch, form, says, why):
    """ray.init() would wait 826 s for its answer, and hear no Ctrl-C."""
    monkeypatch.setattr(engine, "_ANSWER_S", 0.5)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with other_server(says) as address, pytest.raises(RaffectError, match=why) as raised:
        engine.connect(form.format(address))
    assert f"No Ray cluster answers at {form.format(address)}" in str(raised.value)


PLACE = """
import os, sys
sys.argv = ["raffect"]
from raffect.engine import connect
connect(None)
import ray
print(ray.get_runtime_context().get_session_name(), end=" ")
print(ray._private.worker.global_worker.node.get_session_dir_path())
"""


@pytest.mark.ray
@pytest.mark.parametrize("folder", ["t" * 60, pytest.param("none/there", marks=LONG)])
def test_ray_starts_where_its_sockets_fit(tmp_path: Path, folder: str):
    """With such a TMPDIR, Ray itself ends in a traceback: "AF_UNIX path length ..."."""
    place = tmp_path / folder
    if "/" not in folder:
        place.mkdir()
    else:
        place.parent.touch()
    done = subprocess.run(
        [sys.executable, "-c", PLACE], env=environment(RAY_TMPDIR=str(place)),
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[1].startswith("/tmp/ray")


def test_a_folder_that_can_not_hold_ray_is_named(monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(engine, "_holds_sockets", lambda folder: False)
    monkeypatch.setenv("RAY_TMPDIR", "/dev/null")
    with pytest.raises(RaffectError, match="can't be started on this machine, in /dev/null/ray"):
        engine.connect(None)


NONE_YET: list[dict[str, float]] = []
SMALL = [{"CPU": 1.0}, {"CPU": 1.0}]
GPUS = [{"CPU": 8.0, "GPU": 1.0}, {"CPU": 8.0, "GPU": 1.0}]


@pytest.mark.parametrize(
    ("nodes", "parts", "cpus", "gpus", "held"),
    [
        (SMALL, 1, 1, 0, None),
        (SMALL, 2, 0.5, 0, None),
        (SMALL, 3, 0.333, 0, None),
        (GPUS, 2, 0.5, 1, None),
        (GPUS, 8, 1, 0.25, None),
        (GPUS, 6, 1, 0.3, None),
        (NONE_YET, 1, 1, 0, "0 of 1 x (1 CPU):"),
        (SMALL, 1, 1, 1, "0 of 1 x (1 CPU, 1 GPU):"),
        # Each part has to fit on one node.
        (SMALL, 1, 2, 0, "0 of 1 x (2 CPU):"),
        (GPUS, 1, 1, 2, "0 of 1 x (1 CPU, 2 GPU):"),
        (GPUS, 4, 0.5, 1, "2 of 4 x (0.5 CPU, 1 GPU):"),
    ],
)
def test_what_has_to_wait_for_nodes_is_told(
    monkeypatch,
    nodes: list[dict[str, float]],
    parts: int,
    cpus: float,
    gpus: float,
    held: str | None,
):
    lost = {"Alive": False, "Resources": {"CPU": 99.0, "GPU": 99.0}}
    there = [{"Alive": True, "Resources": node} for node in nodes]
    monkeypatch.setattr(ray, "nodes", lambda: [*there, lost])
    told: list[str] = []
    engine.tell_waiting(told.append, parts, cpus, gpus)
    if held is None:
        assert told == []
    else:
        assert len(told) == 1
        assert f"nodes hold {held} waiting for more." in told[0]
        assert "Ctrl-C" in told[0]


class Where:
    def node(self) -> str:
        return ray.get_runtime_context().get_node_id()


@pytest.mark.long
@pytest.mark.ray
def test_an_actor_beside_its_caller_is_not_on_a_node_that_may_die(monkeypatch):
    with two_nodes(monkeypatch):
        asked = [engine.beside_caller(Where) for _ in range(3)]
        found = {ray.get(one.node.remote()) for one in asked}
        assert found == {ray.get_runtime_context().get_node_id()}


@pytest.mark.ray
@pytest.mark.long
def test_ray_still_heeds_no_soft_affinity_of_an_actor_without_resources(monkeypatch):
    """When this fails, `beside_caller` may ask softly, which a lost node does not make fail."""
    with two_nodes(monkeypatch):
        home = ray.get_runtime_context().get_node_id()
        soft = NodeAffinitySchedulingStrategy(home, soft=True)
        kind = ray.remote(Where).options(num_cpus=0, scheduling_strategy=soft)
        asked = [kind.remote() for _ in range(8)]
        assert {ray.get(one.node.remote()) for one in asked} != {home}


@pytest.mark.ray
def test_a_process_that_took_no_gpu_sees_none(ray_local: None) -> None:
    @ray.remote(num_cpus=0)
    def visible() -> str | None:
        return os.environ.get("CUDA_VISIBLE_DEVICES")

    assert ray.get(visible.remote()) == ""
    one_that_looks = visible.options(runtime_env={"env_vars": engine.SEES_ALL_GPUS})
    assert ray.get(one_that_looks.remote()) == os.environ.get("CUDA_VISIBLE_DEVICES")
