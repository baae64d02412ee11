"""Digests of code: what counts and what does not."""

from __future__ import annotations

import gc
import time
from pathlib import Path

import pytest

from raffect import code
from raffect.code import code_digest, locate, reach, read_source

PLAIN = '''
"""Words."""
import os

RATE = 0.5
"""More words."""

class Model:
    """Words."""

    def forward(self, x):
        """Words."""
        return x * RATE
'''


def digest(folder: Path, text: str) -> str | None:
    path = folder / "module.py"
    path.write_text(text)
    return read_source(path, "").digest


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        ('"""Words."""', '"""Other words."""', True),
        ('"""More words."""\n', "", True),
        ("RATE = 0.5", "RATE = 0.5  # by measurement", True),
        ("x * RATE", "(x *\n            RATE)", True),
        ("RATE = 0.5", "RATE = 0.25", False),
        ("x * RATE", "x + RATE", False),
        ("import os", "import sys", False),
        ("return x", "return None and x", False),
    ],
)
def test_words_and_layout_do_not_count(tmp_path: Path, before: str, after: str, same: bool):
    assert before in PLAIN
    one, other = (digest(tmp_path, text) for text in (PLAIN, PLAIN.replace(before, after)))
    assert one is not None
    assert (one == other) == same


@pytest.mark.parametrize("text", ["", '"""Words."""', "# nothing\n"])
def test_a_module_that_does_nothing_has_none(tmp_path: Path, text: str):
    assert digest(tmp_path, text) is None


def test_imports_are_followed_as_python_resolves_them(tmp_path: Path):
    files = {
        "top/__init__.py": "from . import a",
        "top/a.py": "import top.b.c\nfrom top.b import VALUE",
        "top/b/__init__.py": "VALUE = 1",
        "top/b/c.py": "def late():\n    from ..d import f",
        "top/d.py": "from .. import nothing",
        "top/unused.py": "1",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    entry = {"top": tmp_path / "top/__init__.py"}
    found = reach(entry, lambda name: locate(name, [str(tmp_path)]))
    assert set(found) == {"top", "top.a", "top.b", "top.b.c", "top.d"}


def test_what_makes_a_trials_numbers_counts_and_what_shows_them_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    root = tmp_path / "raffect"
    for path in code._ROOT.rglob("*.py"):
        copy = root / path.relative_to(code._ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())

    def now() -> dict[str, str]:
        code_digest.cache_clear()
        return {kind: code_digest(kind) for kind in code._ENTRIES}

    before = now()
    monkeypatch.setattr(code, "_ROOT", root)
    assert now() == before, "wherever it lies"

    def changed(name: str) -> set[str]:
        path = root / name
        text = path.read_text()
        path.write_text(f"{text}\nMORE = 1\n")
        found = {kind for kind, of in now().items() if of != before[kind]}
        path.write_text(text)
        return found

    every = set(before)
    assert changed("temporal/losses.py") == {"model", "sweep"}
    assert changed("sweep/trial.py") == {"sweep"}
    assert changed("clip/tower.py") == {"encoder", "features"}
    assert changed("settings.py") == every - {"dataset"}
    assert changed("affwild2/tasks.py") == every
    for name in ("cli/app.py", "sweep/leaderboard.py", "text.py", "report/page.py", "errors.py"):
        assert changed(name) == set(), name
    code_digest.cache_clear()


def test_it_is_soon_known():
    code_digest.cache_clear()
    code._read.cache_clear()
    # Of this thread, and without looking through what earlier tests have left in memory.
    gc.disable()
    try:
        began = time.thread_time()
        code_digest("sweep")
        assert time.thread_time() - began < 0.2
    finally:
        gc.enable()
