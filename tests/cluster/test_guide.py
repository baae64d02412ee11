"""cluster/README.md, and what holds for all files: names that exist, commands that parse."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.cluster.files import (
    CLUSTER,
    LAUNCHERS,
    PLACEHOLDER,
    ROOT,
    TEXTS,
    parse_raffect,
    parse_ray,
    read_documents,
    read_yaml,
    variables,
)

README = (CLUSTER / "README.md").read_text()
BLOCKS = re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL)
LINES = [line.strip() for block in BLOCKS for line in block.splitlines() if line.strip()]
SECRETS = {
    "an access key": re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "a long hexadecimal number": re.compile(r"\b[0-9a-f]{32,}\b"),
    "a key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "a value for a secret": re.compile(
        r"(?i)(?:password|secret_access_key|auth_token|api_key)\"?[ \t]*[:=][ \t]*"
        r"[\"']?[a-z0-9/+]{8,}"
    ),
}


def name(path: Path) -> str:
    return path.relative_to(CLUSTER).as_posix()


def commands(program: str) -> list[str]:
    return [line for line in LINES if line.startswith(f"{program} ")]


def secrets(text: str) -> list[str]:
    return [kind for kind, pattern in SECRETS.items() if pattern.search(text)]


@pytest.mark.parametrize("line", commands("raffect"))
def test_raffect_knows_the_command(line: str):
    parse_raffect(shlex.split(line)[1:])


@pytest.mark.parametrize("line", commands("ray"))
def test_ray_knows_the_command(line: str):
    words = shlex.split(line)
    parse_ray(words[1:])
    assert (ROOT / words[2]).is_file()


@pytest.mark.parametrize("line", commands("sbatch"))
def test_what_slurm_runs_is_a_command_of_raffect(line: str):
    words = shlex.split(line)
    place = words.index("cluster/slurm.sh")
    parse_raffect(words[place + 1 :])


def test_there_are_such_commands():
    assert len(commands("raffect")) >= 5
    assert len(commands("ray")) >= 8
    assert len(commands("sbatch")) >= 2


def test_every_file_that_is_named_exists():
    named = set(re.findall(r"(?<![\w-])cluster/[\w./-]*\w", "\n".join(LINES)))
    assert named >= {"cluster/aws.yaml", "cluster/kuberay/rayjob.yaml", "cluster/slurm.sh"}
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_every_placeholder_is_explained_and_none_that_is_not_there():
    rows = "\n".join(line for line in README.splitlines() if line.startswith("| `REPLACE"))
    used = {found for path in TEXTS for found in PLACEHOLDER.findall(path.read_text())}
    assert used == set(PLACEHOLDER.findall(rows))


@pytest.mark.parametrize("cloud", LAUNCHERS)
def test_each_chapter_explains_the_placeholders_of_its_file(cloud: str):
    title = {"aws.yaml": "AWS", "gcp.yaml": "Google Cloud"}[cloud]
    chapter = README.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    used = set(PLACEHOLDER.findall((CLUSTER / cloud).read_text()))
    assert used <= set(PLACEHOLDER.findall(chapter))


@pytest.mark.parametrize("path", TEXTS, ids=name)
def test_no_file_holds_a_secret(path: Path):
    assert secrets(path.read_text()) == []


@pytest.mark.parametrize(
    "text",
    [
        "aws_access_key_id = AKIAABCDEFGHIJKLMNOP",
        "--env RAY_AUTH_TOKEN=0123456789abcdef0123456789abcdef",
        "password: hunter2hunter2",
        '"secret_access_key": "abcdefgh/ijklmnop"',
        "-----BEGIN RSA PRIVATE KEY-----",
    ],
)
def test_a_planted_secret_is_found(text: str):
    assert secrets(f"first\n{text}\nlast")


def set_variables() -> set[str]:
    """Names of all variables that the clusters' nodes are given."""
    found = {key for cloud in LAUNCHERS for key in variables(read_yaml(cloud))}
    (config,) = [d for d in read_documents("kuberay/common.yaml") if d["kind"] == "ConfigMap"]
    found |= set(config["data"])
    for file in ("kuberay/raycluster.yaml", "kuberay/rayjob.yaml"):
        found |= set(re.findall(r"name: ([A-Z_]{4,})", (CLUSTER / file).read_text()))
    exported = re.findall(r"^export (.*)$", (CLUSTER / "slurm.sh").read_text(), flags=re.MULTILINE)
    return found | {pair.partition("=")[0] for line in exported for pair in line.split()}


def test_every_variable_that_is_set_is_one_that_is_read():
    import ray

    ours = "".join(p.read_text() for p in (ROOT / "raffect").rglob("*.py"))
    rays = "".join(p.read_text() for p in (Path(ray.__file__).parent / "_private").rglob("*.py"))
    sources = {"RAFFECT": ours, "AWS": ours, "RAY": rays, "SRUN": "SRUN_CPUS_PER_TASK"}
    names = set_variables()
    assert {"RAFFECT_STORE", "RAFFECT_BOARD", "RAY_AUTH_MODE"} <= names
    assert [n for n in names if f'"{n}"' not in f'"{sources[n.partition("_")[0]]}"'] == []
