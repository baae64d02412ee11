"""The Ray that a command starts for itself: quiet, and closed to everybody else."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

START = """
from raffect.engine import connect
connect(None)
connect(None)
import ray
print(ray.get_runtime_context().gcs_address, flush=True)
input()
"""
KNOCK = """
import sys, ray
ray.init(address=sys.argv[1], log_to_driver=False)
print(ray.get(ray.remote(lambda: 'inside').remote()))
"""


@pytest.fixture
def started():
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    process = subprocess.Popen(
        [sys.executable, "-c", START], env=environment, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    yield process, process.stdout.readline().strip()
    if process.poll() is None:
        process.communicate("\n", timeout=60)


@pytest.mark.ray
def test_a_stranger_is_refused(started):
    _, address = started
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", KNOCK, address],
        env={**environment, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert "inside" not in done.stdout
    assert done.returncode != 0


@pytest.mark.ray
def test_it_starts_without_a_word(started):
    process, address = started
    assert address
    _, said = process.communicate("\n", timeout=60)
    assert said == ""
