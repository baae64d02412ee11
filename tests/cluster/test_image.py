"""The Dockerfile, by hadolint and taken apart; it can't be built here, there is no Docker."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.cluster.files import CLUSTER, LAUNCHERS, ROOT, read_yaml

DOCKERFILE = CLUSTER / "Dockerfile"
# What KubeRay's probes and Ray's launcher call in the container.
NEEDED = {"wget", "rsync", "openssh-client"}


def program(name: str) -> str:
    """The path of a program of this environment or of the system; skips where there is none."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def instructions(text: str) -> list[tuple[str, str]]:
    """Instructions and their arguments; comments left out, continued lines put together."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    whole = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    found = [line.split(None, 1) for line in whole.splitlines() if line.strip()]
    return [(name.upper(), rest) for name, rest in found]


def arguments(name: str) -> list[str]:
    return [rest for found, rest in instructions(DOCKERFILE.read_text()) if found == name]


def hadolint(text: str) -> list[str]:
    done = subprocess.run(
        [program("hadolint"), "--format", "json", "-"], input=text, capture_output=True, text=True
    )
    assert done.stdout, done.stderr
    return [found["code"] for found in json.loads(done.stdout)]


def test_hadolint_finds_nothing():
    assert hadolint(DOCKERFILE.read_text()) == []


@pytest.mark.parametrize(
    ("right", "wrong", "code"),
    [
        ("FROM python:3.11.14-slim-bookworm", "FROM python:latest", "DL3007"),
        ("USER ${RAY_UID}", "USER root", "DL3002"),
        ("WORKDIR /home/ray", "WORKDIR home", "DL3000"),
        (" --no-install-recommends", "", "DL3015"),
    ],
)
def test_hadolint_finds(right: str, wrong: str, code: str):
    text = DOCKERFILE.read_text()
    assert right in text
    assert code in hadolint(text.replace(right, wrong))


def test_the_base_is_pinned_and_has_the_python_that_raffect_needs():
    (base,) = arguments("FROM")
    assert re.fullmatch(r"python:3\.11\.\d+-slim-[a-z]+", base)


def test_nobody_is_root():
    """By number, which Kubernetes can check (runAsNonRoot) without looking into the image."""
    assert arguments("USER") == ["${RAY_UID}"]
    assert "RAY_UID=1000" in arguments("ARG")
    assert any('useradd --create-home --uid "${RAY_UID}"' in line for line in arguments("RUN"))
    head = read_yaml("kuberay/raycluster.yaml")["spec"]["headGroupSpec"]
    assert head["template"]["spec"]["securityContext"]["runAsUser"] == 1000


def test_everything_is_installed_by_the_constraints():
    installs = [line for line in arguments("RUN") if "pip install" in line]
    assert len(installs) >= 3
    assert all("--constraint constraints.txt" in line for line in installs)


def test_what_is_added_to_the_requirements_agrees_with_the_constraints():
    """pip would refuse at build time what the constraints forbid; said here before that."""
    from packaging.requirements import Requirement

    pins = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().split() if "==" in line
    )
    (line,) = [line for line in arguments("RUN") if "boto3" in line]
    wanted = [Requirement(word) for word in re.findall(r'"([^"]+)"', line)]
    assert {requirement.name for requirement in wanted} & set(pins)
    for requirement in wanted:
        if requirement.name in pins:
            assert pins[requirement.name] in requirement.specifier


def test_what_changes_seldom_comes_first():
    """Source that changes must not make the layer with PyTorch anew."""
    names = [(name, rest) for name, rest in instructions(DOCKERFILE.read_text())]
    heavy = next(i for i, (n, r) in enumerate(names) if n == "RUN" and "requirements.txt" in r)
    source = next(i for i, (n, r) in enumerate(names) if n == "COPY" and r.startswith("raffect"))
    assert heavy < source
    before = [rest for name, rest in names[:heavy] if name == "COPY"]
    assert before == ["pyproject.toml constraints.txt ./"]


def test_the_requirements_are_those_of_the_project(tmp_path: Path):
    """The Dockerfile's own line, run."""
    (line,) = [line for line in arguments("RUN") if "tomllib" in line]
    code = re.search(r'python -c "(.*?)" >', line)
    assert code is not None
    done = subprocess.run(
        [sys.executable, "-c", code[1].replace("\\n", "\n").replace("sep='\n'", "sep='\\n'")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["cluster"], *extras["dashboard"]]
    assert done.stdout.split("\n")[:-1] == wanted


def test_probes_and_launcher_find_their_programs():
    packages = " ".join(line for line in arguments("RUN") if "apt-get install" in line)
    assert set(packages.split()) >= NEEDED


def test_the_launchers_user_and_home_are_the_images():
    environment = dict(re.findall(r"(\w+)=(\S+)", " ".join(arguments("ENV"))))
    for name in LAUNCHERS:
        (mount,) = read_yaml(name)["file_mounts"]
        assert mount.startswith(f"{environment['HOME']}/")
        # Docker would make a missing folder as root's.
        assert any(mount in line for line in arguments("RUN"))
    assert environment["RAY_AUTH_MODE"] == "token"
    assert environment["NVIDIA_VISIBLE_DEVICES"] == "all"


def test_the_build_is_sent_only_what_it_copies():
    lines = (CLUSTER / "Dockerfile.dockerignore").read_text().splitlines()
    allowed = {line[1:] for line in lines if line.startswith("!")}
    copied = {word for line in arguments("COPY") for word in line.split()[:-1]}
    assert "*" in lines
    assert allowed == copied
    assert all((ROOT / name).exists() for name in allowed)
