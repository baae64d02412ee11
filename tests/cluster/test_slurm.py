"""slurm.sh and its neighbours by ShellCheck; and slurm.sh run, with a stand-in for Slurm alone.

Slurm itself is not needed for what the script does between srun and raffect: `srun` here drops
its own options and runs the command, `scontrol` names one node. Ray, the token, raffect, the
store and the signals are real.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from raffect.store import Store
from tests.cluster.files import CLUSTER, parse_raffect
from tests.cluster.test_image import program
from tests.sweep import tiny
from tests.sweep.sweeps import SPACE

SCRIPT = CLUSTER / "slurm.sh"
SCRIPTS = sorted(CLUSTER.glob("*.sh"))
STAND_INS = {
    "srun": """#!/usr/bin/env bash
while [ "${1:0:1}" = - ]; do shift; done
exec "$@"
""",
    "scontrol": """#!/usr/bin/env bash
echo node1
""",
}


def shellcheck(path: Path) -> list[int]:
    done = subprocess.run(
        [program("shellcheck"), "--format", "json", str(path)], capture_output=True, text=True
    )
    return [found["code"] for found in json.loads(done.stdout)]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_finds_nothing(path: Path):
    assert shellcheck(path) == []


@pytest.mark.parametrize(
    ("right", "wrong"),
    [('raffect "$@"', "raffect $@"), ('rm -f "$token"', "rm -f $tokens")],
)
def test_shellcheck_finds(tmp_path: Path, right: str, wrong: str):
    text = SCRIPT.read_text()
    assert right in text
    (tmp_path / "wrong.sh").write_text(text.replace(right, wrong))
    assert shellcheck(tmp_path / "wrong.sh")


def test_its_default_is_a_command_of_raffect():
    found = re.search(r"set -- (tune .*)", SCRIPT.read_text())
    assert found is not None
    parse_raffect([*shlex.split(found[1]), "--address", "10.0.0.1:6379"])


def test_sbatch_sees_its_options_and_signals_the_script_before_the_end():
    """sbatch stops reading options at the first command."""
    text = SCRIPT.read_text()
    head = text.partition("set -euo pipefail")[0]
    options = dict(re.findall(r"^#SBATCH --([\w-]+)=?(.*)$", head, flags=re.MULTILINE))
    assert text.count("#SBATCH") == len(options)
    who, _, seconds = options["signal"].partition("@")
    assert who == "B:USR1"
    assert int(seconds) >= 60
    assert re.search(r"^trap stop USR1 TERM INT$", text, flags=re.MULTILINE)
    assert "exclusive" in options


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The folder where sbatch is called, with a home and a store beside it."""
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name, text in STAND_INS.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    for name in ("ray", "raffect"):
        (programs / name).symlink_to(program(name))
    (tmp_path / "home").mkdir()
    (tmp_path / "space.py").write_text(SPACE)
    tiny.fill(Store(str(tmp_path / "store")))
    return tmp_path


@pytest.fixture
def job(place: Path) -> Iterator[subprocess.Popen[str]]:
    """The script, as sbatch would start it, with more trials than it will come to."""
    environment = {
        **os.environ,
        "HOME": str(place / "home"),
        "RAFFECT_STORE": str(place / "store"),
        "SLURM_SUBMIT_DIR": str(place),
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_JOB_NODELIST": "node1",
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_CPUS_PER_TASK": "2",
        # srun would end Ray at once.
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "2",
    }
    command = ["bash", str(SCRIPT), "tune", "va", "--trials", "500"]
    command += ["--space", str(place / "space.py")]
    for key, value in tiny.SIZES.items():
        command += ["--set", f"{key}={json.dumps(value)}"]
    process = subprocess.Popen(
        command,
        env=environment,
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    yield process
    # Whatever is left of it when the test has failed.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for number in rays_of_the_job():
        with suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)


def rays_of_the_job() -> list[int]:
    """Processes that have this job's temporary folder in their arguments."""
    mark = f"/tmp/raffect-{os.getpid()}".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if mark in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.long
def test_it_stops_in_order_before_the_limit_and_leaves_nothing(
    place: Path, job: subprocess.Popen[str]
):
    study = place / "store" / "sweeps" / "va"
    deadline = time.monotonic() + 240
    while not list(study.glob("trials/*")) and time.monotonic() < deadline:
        assert job.poll() is None, job.communicate()[0]
        time.sleep(0.5)
    (token,) = (place / "home").glob(".raffect-token-*")
    assert token.stat().st_mode & 0o777 == 0o600
    assert rays_of_the_job()
    job.send_signal(signal.SIGUSR1)
    said, _ = job.communicate(timeout=240)
    assert job.returncode == 130, said
    assert "it continues" in said
    assert not token.exists()
    assert rays_of_the_job() == []
    assert not Path(f"/tmp/raffect-{os.getpid()}").exists()
    # The lease is given back: the same command may continue at once.
    assert list((study / "lease").glob("*")) == []
