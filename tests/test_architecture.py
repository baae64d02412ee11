"""The house rules that a reader relies on, checked on the source itself."""

from __future__ import annotations

import ast
import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "raffect").rglob("*.py"))
RAY_ADAPTERS = {
    "engine.py",
    "affwild2/prepare.py",
    "clip/finetune.py",
    "clip/ingest.py",
    "clip/mail.py",
    "clip/workers.py",
    "clip/extract.py",
    "temporal/distributed.py",
    "sweep/searcher.py",
    "sweep/scheduler.py",
    "sweep/trial.py",
    "sweep/execution.py",
    "sweep/room.py",
    "jobs/doctor/cluster.py",
    "jobs/doctor/knock.py",
    "jobs/board_job.py",
    "jobs/client.py",
    "jobs/metrics.py",
    "sweep/workers.py",
    "sweep/retrain.py",
    "sweep/trackers.py",
    "sweep/loggers.py",
}
LAYERS = {
    "errors": 0,
    "config": 0,
    "store": 0,
    "engine": 1,
    "affwild2": 1,
    "testing": 1,
    "clip": 2,
    "temporal": 2,
    "sweep": 3,
    "predict": 4,
    "report": 4,
    "jobs": 5,
    "demo": 6,
    "cli": 7,
    "__main__": 8,
}
# The names and labels of the tasks are settled before anything else, settings among them.
LEAVES = {"raffect.affwild2.tasks"}


def imports(path: Path) -> list[str]:
    """Modules imported anywhere in a file, without those for type checkers only."""
    found: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append(node.module)
    return found


def name(path: Path) -> str:
    return path.relative_to(ROOT / "raffect").as_posix()


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_only_the_adapters_import_ray(path: Path):
    uses_ray = any(module.split(".")[0] == "ray" for module in imports(path))
    assert not uses_ray or name(path) in RAY_ADAPTERS


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_imports_point_one_way(path: Path):
    own = LAYERS.get(path.relative_to(ROOT / "raffect").parts[0].removesuffix(".py"), 0)
    for module in imports(path):
        parts = module.split(".")
        assert parts[0] != "tune_spaces", "spaces are loaded by name, never imported"
        if parts[0] == "raffect" and len(parts) > 1 and module not in LEAVES:
            assert LAYERS[parts[1]] <= own, f"{name(path)} imports {module}"


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_files_are_small_enough_to_read(path: Path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 500


def test_help_answers_at_once_and_loads_nothing_heavy():
    code = (
        "import sys; from raffect.cli.app import run; run(['--help']);"
        "heavy = {'torch', 'ray', 'optuna', 'pandas', 'pyarrow', 'numpy', 'open_clip'};"
        "sys.exit(','.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


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
