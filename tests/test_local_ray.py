"""A Ray that is started here: what it starts, and what it leaves."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from raffect.local_ray import replaced

SWEEP = """
import sys
from pathlib import Path
from raffect.engine import connect

connect("local")
import ray

def kind(pid):
    words = Path(f"/proc/{pid}/cmdline").read_text().split("\\0")
    return next((Path(word).stem for word in words if word.endswith(".py")), Path(words[0]).name)

def below(pid):
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield child
            yield from below(child)

assert ray.get(ray.remote(lambda: 1).remote()) == 1
for pid in below("self"):
    print(pid, kind(pid).split()[0])
"""


@pytest.mark.ray
def test_it_starts_what_runs_tasks_and_leaves_nothing() -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", SWEEP], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    found = dict(line.split() for line in done.stdout.splitlines())
    kinds = set(found.values())
    assert {"gcs_server", "raylet"} <= kinds
    assert not kinds & {"monitor", "log_monitor", "dashboard"}
    until = time.monotonic() + 10
    while left := [pid for pid in found if Path(f"/proc/{pid}/cwd").exists()]:
        assert time.monotonic() < until, [found[pid] for pid in left]
        time.sleep(0.05)


def test_a_name_that_this_ray_does_not_have_is_left_out() -> None:
    of = SimpleNamespace(there=1)
    with replaced(of, there=2, gone=3):
        assert vars(of) == {"there": 2}
    assert vars(of) == {"there": 1}
