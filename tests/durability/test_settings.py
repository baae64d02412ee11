"""The whole fuzz of settings; `make test` has a sample."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.settings_fuzz import attack


@pytest.mark.long
def test_three_thousand_hostile_settings(tmp_path: Path):
    counts = attack(3_000, 14, tmp_path)
    assert min(counts["accepted"], counts["refused"]) > 300
