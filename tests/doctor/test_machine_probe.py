"""What the doctor sees of this very machine, and what it hides."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from raffect.doctor import gpu_script
from raffect.doctor import machine_probe as machine
from raffect.doctor.facts import Token
from raffect.doctor.findings import one_line, redact
from raffect.doctor.machine_probe import disk_of, find_token, look_at_gpus, look_at_machine
from raffect.doctor.timeouts import within


def test_this_machine_has_what_it_has(tmp_path: Path):
    found = look_at_machine((str(tmp_path / "not" / "there"),))
    assert 0 < found.usable <= found.cores == os.cpu_count()
    assert found.memory > 1 << 20
    assert 0 < found.disks[0].free <= found.disks[0].total
    assert found.disks[0].path.endswith("not/there")
    assert found.disks[0].total == disk_of(str(tmp_path)).total


def test_affinity_limits_the_cores():
    one = next(iter(os.sched_getaffinity(0)))
    code = "from raffect.doctor.machine_probe import usable_cores; print(usable_cores())"
    done = subprocess.run(
        ["taskset", "-c", str(one), sys.executable, "-c", code],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "1.0"


@pytest.fixture
def container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A control group's folder, as the kernel shows a limited container."""
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    monkeypatch.setattr(machine, "_groups", lambda: iter([tmp_path]))
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("700000\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 200000\n")
    return tmp_path


def test_a_containers_limits_count(container: Path):
    assert machine.usable_cores() == 0.5
    assert machine.free_memory() == 500_000
    (container / "cpu.max").write_text("max 100000\n")
    (container / "memory.max").write_text("max\n")
    assert machine.usable_cores() == len(os.sched_getaffinity(0))
    assert machine.free_memory() > 500_000


@pytest.fixture
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without Ray's token, and no variables about one."""
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_the_token_is_looked_for_in_rays_order(nobody: Path, monkeypatch: pytest.MonkeyPatch):
    assert find_token() == Token("", "")
    home = nobody / ".ray" / "auth_token"
    home.parent.mkdir()
    home.write_text("planted-secret")
    home.chmod(0o644)
    assert find_token() == Token("", str(home), 0o644)
    named = nobody / "named"
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(named))
    assert find_token().problem == "there is no such file"
    named.write_text("")
    named.chmod(0o600)
    assert find_token() == Token("", str(named), 0o600, "the file is empty")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "planted-secret")
    monkeypatch.setenv("RAY_AUTH_MODE", "TOKEN")
    assert find_token() == Token("token", "RAY_AUTH_TOKEN")


@pytest.mark.slow
def test_torch_is_asked_in_a_process_of_its_own():
    import torch

    found = look_at_gpus(120)
    assert found.torch == torch.__version__
    assert len(found.devices) == torch.cuda.device_count()
    assert bool(found.problem) == (not found.devices)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("import time; time.sleep(60)", "did not answer in 1 s"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "exit code -11"),
        ("raise SystemExit('libcudart is missing')", "libcudart is missing"),
    ],
)
def test_a_driver_that_hangs_or_kills_is_a_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, text: str
):
    script = tmp_path / "cuda.py"
    script.write_text(code)
    monkeypatch.setattr(machine, "GPU_SCRIPT", script)
    assert text in look_at_gpus(1).problem


def test_a_torch_that_cannot_be_imported_is_a_finding(tmp_path: Path):
    (tmp_path / "torch.py").write_text("raise ImportError('libc10.so')")
    done = subprocess.run(
        [sys.executable, "-P", gpu_script.__file__],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "libc10.so" in json.loads(done.stdout)["problem"]


def test_what_hangs_or_raises_is_an_answer():
    ended = threading.Event()
    assert within(0.05, ended.wait).problem == "no answer in 0 s"
    ended.set()
    assert within(5, int, "7").value == 7
    assert "ValueError" in within(5, int, "x").problem


SECRETS = {
    "AWS_SECRET_ACCESS_KEY": "planted/secret",
    "AWS_SESSION_TOKEN": "planted-session",
    "RAY_AUTH_TOKEN": "planted-token",
    "WANDB_API_KEY": "planted-wandb",
    "DB_PASSWORD": "planted-word",
    "RAY_AUTH_TOKEN_PATH": "/a/path/of/a/token",
    "SHORT_TOKEN": "a",
    "HOME": "/home/planted",
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("key planted/secret, planted-session.", "key ***, ***."),
        ("Bearer planted-token planted-wandb planted-word", "Bearer *** *** ***"),
        ("/a/path/of/a/token in /home/planted", "/a/path/of/a/token in /home/planted"),
        (
            "http://me:word@host:80/x and s3://bucket/a@b",
            "http://***@host:80/x and s3://bucket/a@b",
        ),
    ],
)
def test_secrets_are_taken_out(text: str, expected: str):
    assert redact(text, SECRETS) == expected


def test_an_error_is_one_short_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SOME_SECRET", "planted")
    assert one_line(ValueError("a\n  b planted")) == "ValueError: a b ***"
    assert len(one_line("x" * 1000)) == 300
