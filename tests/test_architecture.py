"""The house rules that a reader relies on, and that each of them catches a breach.

Layers, circles and Ray's adapters are contracts of import-linter, dependencies are deptry's; both
are settings in pyproject.toml and run in `make lint` too.
"""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house import LONGEST, figures, sources

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
LINT = [str(BIN / "lint-imports"), "--no-logo", "--no-cache"]
DEPENDENCIES = [str(BIN / "deptry"), "raffect", "tune_spaces"]


def check(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the packages, to plant breaches in."""
    for package in ("raffect", "tune_spaces"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, tmp_path / package, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def plant(folder: Path, module: str, line: str) -> None:
    path = sources(folder)[module]
    path.write_text(f"{path.read_text(encoding='utf-8')}\n\n{line}\n", encoding="utf-8")


def test_the_contracts_on_imports_are_kept():
    done = check(LINT, ROOT)
    assert done.returncode == 0, done.stdout


def test_what_is_imported_is_declared_and_what_is_declared_is_used():
    done = check(DEPENDENCIES, ROOT)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("raffect.store.stage", "from raffect.sweep.tune import tune", "floors"),
        ("raffect.clip.images", "from raffect.temporal.model import TemporalModel", "floors"),
        ("raffect.engine", "from raffect.affwild2.tasks import Task", "floors"),
        ("raffect.affwild2.prepare", "import raffect.synthetic.tree", "floors"),
        (
            "raffect.settings",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n"
            "    from raffect.cli.screen import Screen",
            "floors",
        ),
        ("raffect.affwild2.tasks", "def late():\n    import raffect.affwild2.scan", "circles"),
        ("raffect.temporal.segments", "import ray", "ray"),
        ("raffect.affwild2.scores", "def late():\n    from ray import data", "ray"),
        ("raffect.sweep.space", "from tune_spaces import va", "spaces"),
    ],
)
@pytest.mark.slow
def test_a_breach_of_a_contract_on_imports_is_caught(
    copy: Path, module: str, line: str, contract: str
):
    before = check([*LINT, "--contract", contract], copy)
    assert before.returncode == 0, before.stdout
    plant(copy, module, line)
    done = check([*LINT, "--contract", contract], copy)
    assert done.returncode == 1, done.stdout
    assert "BROKEN" in done.stdout


@pytest.mark.parametrize(
    ("line", "code"), [("import networkx", "DEP003"), ("import nonesuch", "DEP001")]
)
def test_an_undeclared_dependency_is_caught(copy: Path, line: str, code: str):
    plant(copy, "raffect.text", line)
    done = check(DEPENDENCIES, copy)
    assert done.returncode == 1
    assert code in done.stderr


def test_an_unused_dependency_is_caught(copy: Path):
    project = copy / "pyproject.toml"
    text = project.read_text(encoding="utf-8")
    project.write_text(text.replace('    "jinja2>=3.1",', '    "jinja2>=3.1",\n    "networkx",'))
    done = check(DEPENDENCIES, copy)
    assert done.returncode == 1
    assert "'networkx' defined as a dependency but not used" in done.stderr


@pytest.mark.slow
def test_the_house_is_as_small_as_it_was_made():
    found = figures(ROOT)
    assert found[f"files over {LONGEST} lines"] == "none"
    assert found["circles of files"] == "0"
    assert found["circles of folders"] == "0"
    assert int(found["dict[str, Any]"]) < 100


@pytest.mark.slow
def test_figures_see_circles_and_long_files(copy: Path):
    plant(copy, "raffect.affwild2.tasks", "from raffect.affwild2.scan import scan")
    plant(copy, "raffect.text", "from raffect.sweep.tune import tune")
    plant(copy, "raffect.errors", "\n".join(["# long"] * LONGEST))
    found = figures(copy)
    assert found["circles of files"] != "0"
    assert found["circles of folders"] != "0"
    assert found[f"files over {LONGEST} lines"] == "raffect.errors"


def test_help_answers_at_once_and_loads_nothing_heavy():
    code = (
        "import sys; from raffect.cli.app import run; run(['--help']);"
        "heavy = {'torch', 'ray', 'optuna', 'pandas', 'pyarrow', 'numpy', 'open_clip'};"
        "sys.exit(','.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_commands_whose_workers_compute_load_no_pytorch_themselves():
    code = (
        "import sys, raffect.sweep.tune, raffect.clip.extract;"
        "sys.exit(','.join({'torch', 'open_clip'} & set(sys.modules)) or 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_help_takes_half_a_second_at_most():
    """Of processor time, which other tests beside it don't lengthen; the best of five."""
    times = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-m", "raffect", "--help"], capture_output=True, check=True
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(times) < 0.5
