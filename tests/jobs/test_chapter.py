"""The README's chapter on clusters, typed top to bottom against a cluster of processes here."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from raffect.jobs.card import title_of
from raffect.synthetic.tree import write_synthetic
from tests.e2e_settings import SMALL_FINETUNE, SMALL_TEMPORAL
from tests.jobs.local import ROOT, SECRETS, LocalCluster, local_cluster

pytestmark = [pytest.mark.ray, pytest.mark.slow]
CHAPTER = re.search(r"## On a Ray cluster\n(.*?)\n## ", (ROOT / "README.md").read_text(), re.S)[1]
LINES = [
    line
    for block in re.findall(r"```bash\n(.*?)```", CHAPTER, flags=re.S)
    for line in block.splitlines()
    if line
]
SMALLER = {
    "-- finetune": SMALL_FINETUNE,
    "-- tune": [*SMALL_TEMPORAL, "--trials", "3"],
    # Long enough to be stopped.
    "--no-wait -- tune": [*SMALL_TEMPORAL, "--trials", "400"],
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    folder = tmp_path_factory.mktemp("chapter")
    write_synthetic(folder / "Aff-Wild2", videos=10, frames=40, seed=1)
    with local_cluster(folder) as place:
        place.variables["AFFWILD2"] = str(folder / "Aff-Wild2")
        up = place.type(LINES[0])
        assert up.returncode == 0, up.stdout + up.stderr
        yield place


def smaller(line: str) -> str:
    """The line, with the settings that make it small."""
    for part in sorted(SMALLER, key=len, reverse=True):
        if part in line:
            return " ".join([line, *(f"'{word}'" for word in SMALLER[part])])
    return line


def jobs(cluster: LocalCluster) -> list[dict]:
    return json.loads(cluster.type("raffect jobs --json").stdout)


@pytest.mark.long
def test_every_line_of_the_chapter_works(cluster: LocalCluster):
    assert LINES[0] == "cluster/local.sh up", "the fixture has typed it"
    for line in LINES[1 : LINES.index("cluster/local.sh down")]:
        if line.startswith("source"):
            continue
        if "JOB" in line:
            line = line.replace("JOB", jobs(cluster)[0]["id"])
        done = cluster.type(smaller(line))
        stopped = line.startswith("raffect jobs follow") or "jobs stop" in line
        assert done.returncode in ((0, 130) if stopped else (0,)), line + done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr, line
    found = {title_of(job["metadata"], job["id"]): job for job in jobs(cluster)}
    assert found["tune va"]["status"] == "SUCCEEDED"
    assert found["tune va"]["exit_code"] == 0
    assert found["tune expr"]["status"] == "STOPPED"
    assert "complete" in found["tune va"]["metadata"]["trials"]
    trials = json.loads(cluster.type("raffect trials va --json").stdout)
    best = max(trial["score"] for trial in trials)
    assert f"{best:.4f}" in found["tune va"]["metadata"]["best"]
    assert f"{best:.4f}" in found["tune va"]["metadata"]["job_name"]
    assert found["tune va"]["metadata"]["page"].endswith("/sweeps/va")


@pytest.mark.long
def test_a_sweep_that_a_job_is_at_is_refused_with_the_jobs_id_and_goes_on(cluster: LocalCluster):
    # The test above may be in another third; where it ran, these do nothing.
    for line in LINES:
        if re.search("-- (prepare|finetune|extract)", line):
            assert cluster.type(smaller(line)).returncode == 0, line
    command = f"raffect submit -- tune au --name twice {' '.join(SMALL_TEMPORAL)}"
    first = cluster.start(f"{command} --trials 400")
    running = wait_for(lambda: [job for job in jobs(cluster) if is_at_trials(job)])
    second = cluster.type(f"{command} --trials 400")
    assert second.returncode == 2
    assert f"(job {running[0]['id']}) is at sweeps/twice already" in second.stdout
    # Ctrl-C without a terminal leaves the job alone.
    first.send_signal(signal.SIGINT)
    said, _ = first.communicate(timeout=60)
    assert first.returncode == 0
    assert f"raffect jobs follow {running[0]['id']}" in said
    assert [j["status"] for j in jobs(cluster) if j["id"] == running[0]["id"]] == ["RUNNING"]
    stopped = cluster.type(f"raffect jobs stop {running[0]['id']}")
    assert stopped.returncode == 0, stopped.stderr
    trials = json.loads(cluster.type("raffect trials twice --json").stdout)
    ended = [trial for trial in trials if trial["state"] != "RUNNING"]
    # The same submission goes on where it was.
    again = cluster.type(f"{command} --trials {len(ended) + 2}")
    assert again.returncode == 0, again.stdout
    after = json.loads(cluster.type("raffect trials twice --json").stdout)
    assert {t["number"] for t in ended} <= {t["number"] for t in after if t["state"] != "RUNNING"}
    assert not [trial for trial in after if trial["state"] == "RUNNING"]


def test_mistakes_are_told_before_anything_is_sent(cluster: LocalCluster):
    before = len(jobs(cluster))
    for command, said in {
        "raffect submit -- tune va --trails 5": "No such option",
        "raffect submit -- fly": "'fly' is not a command that can be submitted",
        "raffect submit --env AWS_SECRET_ACCESS_KEY=x -- tune va": "looks like a secret",
        "raffect submit --address http://127.0.0.1:1 -- trials": "No job server answers",
        "RAY_AUTH_TOKEN_PATH=/dev/null raffect submit -- trials": "token",
        "raffect jobs stop nothing-like-it": "knows no job 'nothing-like-it'",
    }.items():
        done = cluster.type(command)
        assert done.returncode == 2, command + done.stdout + done.stderr
        assert said in done.stderr, command + done.stderr
        assert "Traceback" not in done.stderr
    assert len(jobs(cluster)) == before


def test_the_exit_code_is_the_jobs(cluster: LocalCluster):
    failed = cluster.type("raffect submit -- trials no-such-sweep")
    assert failed.returncode == 2
    assert "holds no sweep" in failed.stdout
    assert cluster.type("raffect submit -- trials").returncode == 0


def test_no_two_nodes_unpack_code_into_one_folder(cluster: LocalCluster):
    # Ray deletes what lies there first: a driver's folder was gone when its trials began.
    temporary = Path((cluster.folder / "raffect-cluster" / "temporary").read_text().strip())
    homes = {path.parent for path in temporary.glob("**/runtime_resources")}
    assert len({home.parent for home in homes}) == 3, homes


def test_no_secret_is_anywhere(cluster: LocalCluster):
    files = cluster.folder / "raffect-cluster"
    key = re.search(r"secret_access_key = (\w+)", (files / "credentials").read_text())[1]
    token = (files / "token").read_text().strip()
    assert len(key) == 64
    secrets = (*SECRETS, key, token)
    shown = cluster.type("raffect jobs --json").stdout
    for secret in secrets:
        assert secret not in shown
    holders = {files / "credentials", files / "token"}
    leaks = [
        path
        for path in cluster.files()
        if path not in holders and any(secret.encode() in path.read_bytes() for secret in secrets)
    ]
    assert leaks == []


def test_down_ends_what_up_started(cluster: LocalCluster):
    folder = cluster.folder / "raffect-cluster"
    numbers = [int(p.read_text().split()[0]) for p in (folder / "processes").iterdir()]
    assert len(numbers) >= 5
    temporary = Path((folder / "temporary").read_text().strip())
    done = cluster.type("cluster/local.sh down")
    assert done.returncode == 0, done.stderr
    assert not [number for number in numbers if is_alive(number)]
    assert not temporary.exists()
    assert not {"token", "env", "credentials", "temporary"} & {p.name for p in folder.iterdir()}
    left = [
        path.parent.name
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if str(temporary).encode() in read(path)
    ]
    assert left == []


def is_at_trials(job: dict) -> bool:
    return job["status"] == "RUNNING" and "running" in job["metadata"].get("trials", "")


def wait_for(found, seconds: float = 120):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if value := found():
            return value
        time.sleep(1)
    raise TimeoutError


def is_alive(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
