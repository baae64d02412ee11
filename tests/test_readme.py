"""Every command of the README, typed in its order, on a synthetic tree and a real S3 server.

What is real stays: each command is told where the bucket is by its environment only. What is too
large for a test gets smaller settings, listed in SMALLER. `make test` runs the commands in one
process with one Ray, which saves each of them seconds of start; the test marked `long` runs all
of them in processes of their own.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import ray

from raffect.cli.app import run
from raffect.engine import connect
from raffect.synthetic.tree import write_synthetic
from raffect.testing.s3 import S3Server
from raffect.testing.s3 import environment as changed_environment
from tests.e2e_settings import SMALL_FINETUNE, SMALL_TEMPORAL
from tests.video.videos import make_video

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
# The chapter on clusters is typed by tests/jobs/test_chapter.py, on a cluster.
HERE = re.sub(r"## On a Ray cluster\n.*?\n## ", "## ", README, flags=re.DOTALL)


def lines(text: str) -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


LINES = lines(README)
COMMANDS = [line for line in lines(HERE) if line.startswith("raffect ")]
SMALLER = {
    "finetune": SMALL_FINETUNE,
    "train": SMALL_TEMPORAL,
    "tune": [*SMALL_TEMPORAL, "--trials", "2", "--concurrent", "1"],
    "ablate": [*SMALL_TEMPORAL, "--seeds", "2"],
    # The tree has too few validation videos to choose weights by.
    "ensemble": ["--top", "2", "--method", "mean"],
    "retrain": ["--seeds", "2"],
    "synth": ["--videos", "8", "--frames", "16"],
}
# Run by tests/test_demo.py and tests/web/test_optuna_dashboard.py, which look closer.
ELSEWHERE = {"demo", "dashboard"}
TYPED = [line for line in COMMANDS if line.split()[1] not in ELSEWHERE]
# CI has no time for them: tests/sweep/test_abilities.py has
# warm starts, limits, several objectives and other seeds, tests/sweep/test_ablate.py ablations.
LEFT = (
    "raffect tune expr", "raffect tune au", "raffect retrain", "raffect tune va --branch",
    "raffect tune va --postprocess", "raffect ablate",
)  # fmt: skip
REPEATED = [line for line in TYPED if line.startswith(LEFT) or "va-wide" in line]


def test_the_readme_names_only_make_targets_that_exist():
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    named = [line.split()[1] for line in LINES if line.startswith("make ")]
    assert named
    assert set(named) <= set(targets)


def test_the_readme_holds_nothing_but_commands():
    known = ("raffect ", "make ", "export ", "cluster/local.sh ", "source ")
    assert [line for line in LINES if not line.startswith(known)] == []


@pytest.fixture(scope="module")
def affwild2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("readme") / "Aff-Wild2"
    # Four validation videos of VA: what --postprocess fits needs as many.
    write_synthetic(root, videos=14, frames=40, seed=1)
    # The organisers' example file of the VA track lists the rows of a submission.
    crops = sorted((root / "cropped_aligned").glob("*/*.jpg"))[:200]
    rows = [f"{path.parent.name}/{path.name}," for path in crops]
    (root / "example.txt").write_text("image_location,valence,arousal\n" + "\n".join(rows) + "\n")
    sound = np.random.default_rng(0)
    (root / "audio").mkdir()
    for annotation in (root / "annotations").rglob("*.txt"):
        frames = len(annotation.read_text().splitlines()) - 1
        np.save(root / "audio" / f"{annotation.stem}.npy", sound.normal(size=(frames, 3)))
    (root / "cropped_aligned" / "454").mkdir(exist_ok=True)
    for path in sorted(crops[0].parent.glob("*.jpg")):
        shutil.copy(path, root / "cropped_aligned" / "454" / path.name)
    return root


@pytest.fixture(scope="module")
def environment(
    s3_server: S3Server, affwild2: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    return {
        **os.environ,
        **s3_server.environment(),
        "AFFWILD2": str(affwild2),
        "RAFFECT_STORE": f"s3://{s3_server.new_bucket()}/aff-wild2",
        "OMP_NUM_THREADS": "1",
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the commands are typed; it has the spaces, as a clone has, and a video."""
    place = tmp_path_factory.mktemp("typed")
    shutil.copytree(ROOT / "tune_spaces", place / "tune_spaces")
    make_video(place / "clip.mp4", frames=30)
    return place


@pytest.mark.long
@pytest.mark.ray
@pytest.mark.timeout(1800)
def test_the_readme_from_its_top_to_its_end(environment: dict[str, str], folder: Path):
    assert len(REPEATED) == 9
    for line in TYPED:
        type_in(line, environment, folder)


@pytest.fixture(scope="module")
def ray_with_bucket(environment: dict[str, str]) -> Iterator[None]:
    """A Ray whose workers inherit the bucket's credentials, as those of one command do."""
    was_there = ray.is_initialized()
    ray.shutdown()
    with changed_environment(environment):
        connect(None)
        yield
        ray.shutdown()
    if was_there:
        connect(None)


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.parametrize("line", [line for line in TYPED if line not in REPEATED])
def test_a_command_of_the_readme(
    line: str,
    ray_with_bucket: None,
    environment: dict[str, str],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(folder)
    words = words_of(line, environment)
    code = run(words[1:])
    said = capfd.readouterr()
    check(words, code, said.out, said.err, folder)


def type_in(line: str, environment: dict[str, str], folder: Path) -> None:
    words = words_of(line, environment)
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=folder, env=environment,
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    check(words, done.returncode, done.stdout, done.stderr, folder)


def words_of(line: str, environment: dict[str, str]) -> list[str]:
    words = shlex.split(os.path.expandvars(line.replace("$AFFWILD2", environment["AFFWILD2"])))
    return [*words, *SMALLER.get(words[1], [])]


def check(words: list[str], code: int, out: str, err: str, folder: Path) -> None:
    assert code == 0, out + err
    assert "Traceback" not in err
    if "--json" in words:
        assert json.loads(out)
    if "--out" in words:
        assert (folder / words[words.index("--out") + 1]).stat().st_size > 0
