"""A sample of the fuzz; tests/durability has the whole."""

from __future__ import annotations

from pathlib import Path

from raffect.affwild2.tasks import Task
from raffect.cli.options import settings
from raffect.config import recipe
from tests.settings_fuzz import DOCUMENTS, attack


def test_hostile_settings_are_told_and_none_is_misread(tmp_path: Path):
    counts = attack(300, 1, tmp_path)
    assert min(counts["accepted"], counts["refused"]) > 30


def test_the_documents_are_right_before_they_are_mutated(tmp_path: Path):
    for document in DOCUMENTS:
        path = tmp_path / "settings.yaml"
        path.write_text(document)
        assert settings(recipe(Task.VA), path, []) != recipe(Task.VA)
