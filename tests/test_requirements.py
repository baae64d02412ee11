"""What raffect asks for: bounds, extras that are missing, and what a wheel brings along."""

from __future__ import annotations

import ast
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from raffect import requirements
from raffect.cli.app import run
from raffect.doctor.versions import read_pins

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
NEEDED = [
    Requirement(line)
    for line in (*PROJECT["dependencies"], *(one for of in EXTRAS.values() for one in of))
]
PINS = read_pins((ROOT / "constraints.txt").read_text())


def test_the_constraints_lie_within_the_bounds():
    assert len(PINS) > 100
    for one in NEEDED:
        if one.name != "raffect":
            pin = PINS[canonicalize_name(one.name)]
            assert one.specifier.contains(pin, prereleases=True), f"{one}, tested with {pin}"


def imported(tree: ast.Module) -> dict[str, str]:
    """What the names of a module come from, as dotted names."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for one in node.names:
                found[one.asname or one.name.split(".")[0]] = (
                    one.name if one.asname else one.name.split(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {one.asname or one.name: f"{node.module}.{one.name}" for one in node.names}
    return found


def inner(tree: ast.Module) -> set[str]:
    """The top-level packages whose classes are subclassed, or whose private names are imported."""
    names = imported(tree)
    private = {of.split(".")[0] for of in names.values() if "._" in of}
    bases = (
        base for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for base in node.bases
    )
    roots = (ast.unparse(base).split("[")[0].split(".")[0] for base in bases)
    return private | {names[root].split(".")[0] for root in roots if root in names}


def test_what_is_subclassed_or_private_has_an_upper_bound():
    found: set[str] = set()
    for path in sorted((ROOT / "raffect").rglob("*.py")):
        found |= inner(ast.parse(path.read_text()))
    of = packages_distributions()
    distributions = {
        canonicalize_name(name)
        for package in found - {"raffect"} - sys.stdlib_module_names
        for name in of[package]
    }
    assert {"ray", "optuna", "torch", "s3fs", "uvicorn"} <= distributions
    bounded = {
        canonicalize_name(one.name)
        for one in NEEDED
        if any(bound.operator in ("<", "==", "~=") for bound in one.specifier)
    }
    assert distributions - bounded == set()


def test_a_private_name_and_a_base_class_are_seen():
    assert inner(ast.parse("from a.b._c import d")) == {"a"}
    assert inner(ast.parse("import a.b\nclass D(a.b.C): pass")) == {"a"}
    assert inner(ast.parse("from a import B\nclass D(B[int]): pass")) == {"a"}
    assert inner(ast.parse("from a import B\nb = B()")) == set()


@pytest.mark.parametrize(
    ("command", "module", "extra"),
    [
        ("dashboard", "optuna_dashboard", "dashboard"),
        ("board", "uvicorn", "dashboard"),
    ],
)
def test_a_missing_extra_is_one_message_with_the_command_that_installs_it(
    command: str, module: str, extra: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
):  # fmt: skip
    monkeypatch.setitem(sys.modules, module, None)
    assert run([command]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[:-1] == [
        f"Error: `raffect {command}` needs {module}, which is not installed.",
        f"Allowed: an environment with raffect's extra [{extra}]",
    ]
    words = shlex.split(lines[-1])
    assert words[:5] == ["Next:", sys.executable, "-m", "pip", "install"]
    assert words[5:] == ["--constraint", str(ROOT / "constraints.txt"), *EXTRAS[extra]]


def test_python_versions_are_those_that_the_readme_and_the_makefile_name():
    classified = [
        line.rpartition(" ")[2] for line in PROJECT["classifiers"] if "Python :: 3." in line
    ]
    assert classified == ["3.11", "3.12", "3.13"]
    readme = (ROOT / "README.md").read_text()
    assert "Python 3.11, 3.12 or 3.13" in readme
    assert PROJECT["requires-python"] == ">=3.11"


def outside() -> dict[str, str]:
    """The environment without a path to a checkout."""
    return {name: of for name, of in os.environ.items() if name != "PYTHONPATH"}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with raffect's wheel; the other packages are this one's."""
    place = tmp_path_factory.mktemp("wheel")
    source = place / "source"
    ignored = shutil.ignore_patterns(
        ".git", ".venv", "build", "*.egg-info", "__pycache__", "tests"
    )
    shutil.copytree(ROOT, source, ignore=ignored)
    build = ["pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", place, source]
    subprocess.run([sys.executable, "-m", *build], check=True)
    (wheel,) = place.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place / "v"], check=True)
    (packages,) = (place / "v").glob("lib/python*/site-packages")
    install = ["install", "-q", "--no-deps", "--no-index", wheel]
    python = place / "v" / "bin" / "python"
    command = [sys.executable, "-m", "pip", "--python", python, *install]
    subprocess.run(command, check=True, env=outside())
    # The editable raffect is named by a .pth there, which is not read.
    (packages / "others.pth").write_text(sysconfig.get_path("purelib"))
    return place


@pytest.mark.long
def test_a_wheel_has_the_constraints_and_the_clusters_files(installed: Path):
    (wheel,) = installed.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name.partition(".data/data/")[2] for name in archive.namelist()}
    listed = ["git", "ls-files", "cluster", "constraints.txt"]
    tracked = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True)
    assert {f"share/raffect/{name}" for name in tracked.stdout.split()} - names == set()


@pytest.mark.long
def test_an_installed_raffect_works_without_a_clone(installed: Path, tmp_path: Path):
    def call(*words: str) -> str:
        done = subprocess.run(
            [installed / "v/bin/raffect", *words], cwd=tmp_path, env=outside(),
            capture_output=True, text=True, timeout=100,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "Start here" in call("--help")
    files = Path(call("--files").strip())
    assert files == installed / "v/share/raffect"
    assert (files / "constraints.txt").read_text() == (ROOT / "constraints.txt").read_text()
    script = files / "cluster/local.sh"
    usage = subprocess.run([script], capture_output=True, text=True)
    assert "local.sh up" in usage.stdout
    assert "optimiser.lr" in call("settings", "train")
    call("synth", "tree", "--videos", "8", "--frames", "16")
    told = call("doctor", "--verbose", "--store", "store")
    assert "in the versions tested" in told


def test_where_only_the_code_is_there_the_extras_name_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr(requirements, "_root", lambda: tmp_path)
    monkeypatch.setattr(requirements, "_from_metadata", lambda: None)
    monkeypatch.setattr(requirements.importlib.metadata, "files", lambda name: None)
    assert requirements.find_files() is None
    assert requirements.install_command("wandb").endswith("pip install 'raffect[wandb]'")
