"""Processes that a killed command leaves end by themselves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from raffect.reaper import _find

CHILDREN = """
import os, subprocess, sys, time
from raffect import reaper
with reaper.marked():
    mark = os.environ[reaper.MARK]
    child = subprocess.Popen(["sh", "-c", "sleep 600 & sleep 600"])
other = subprocess.Popen(["sleep", "600"])
print(mark, child.pid, other.pid, flush=True)
time.sleep(600)
"""
# Ray's agents would go on for a minute, and the actor that stands still for ever.
ON_RAY = """
import os, sys, time
import ray
from raffect import engine, reaper
engine.connect()
with reaper.marked():
    mark = os.environ[reaper.MARK]
@ray.remote(num_cpus=0)
class Actor:
    def pid(self):
        return os.getpid()
actor = Actor.remote()
print(mark, ray.get(actor.pid.remote()), 0, flush=True)
time.sleep(600)
"""


def wait_for(what: Callable[[], bool], within_s: float) -> bool:
    until = time.monotonic() + within_s
    while not what():
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


@pytest.mark.parametrize(
    ("script", "least"),
    [
        (CHILDREN, 3),
        pytest.param(ON_RAY, 5, marks=[pytest.mark.long, pytest.mark.ray, pytest.mark.slow]),
    ],
)
@pytest.mark.slow
def test_what_a_killed_command_leaves_ends_within_30_s(script: str, least: int):
    driver = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    mark, stopped, other = driver.stdout.readline().split()
    # A child may still be on its way from fork to exec.
    assert wait_for(lambda: len(_find(mark)) >= least, 30)
    os.kill(int(stopped), signal.SIGSTOP)
    driver.kill()
    driver.wait()
    assert wait_for(lambda: not _find(mark), 30)
    if int(other):
        assert Path(f"/proc/{other}").exists(), "what the user's own script started"
        os.kill(int(other), signal.SIGKILL)


def test_nothing_waits_for_it_after_an_orderly_end():
    script = "from raffect import reaper\nwith reaper.marked(): pass"
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", script], check=True, timeout=30)
    assert time.monotonic() - began < 5
