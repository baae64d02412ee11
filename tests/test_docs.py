"""The guides name files, verbs and tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
GUIDES = [
    "README.md",
    "CONTRIBUTING.md",
    "docs/architecture.md",
    "docs/paper.md",
    "cluster/README.md",
]
PLACES = [ROOT, ROOT / "raffect"]


def text(guide: str) -> str:
    return (ROOT / guide).read_text(encoding="utf-8")


@pytest.mark.parametrize("guide", GUIDES)
def test_links_lead_to_files(guide: str):
    links = re.findall(r"\]\(([^)#:]+)\)", text(guide))
    folder = (ROOT / guide).parent
    assert [link for link in links if not (folder / link).exists()] == []


@pytest.mark.parametrize("guide", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_named_files_exist(guide: str):
    named = re.findall(r"`([\w./-]+(?:\.py|\.toml|\.md|\.cff|/))`", text(guide))
    names = [name for name in named if "/" in name]
    assert len(names) > 5
    assert [n for n in names if not any((place / n).exists() for place in PLACES)] == []


def test_verbs_of_make_exist():
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    named = re.findall(r"`make ([\w-]+)", text("CONTRIBUTING.md"))
    assert named
    assert set(named) <= set(targets)


def test_one_version_everywhere():
    import raffect

    version = raffect.__version__
    assert f"version: {version}\n" in text("CITATION.cff")
    assert f"## [{version}]" in text("CHANGELOG.md")
