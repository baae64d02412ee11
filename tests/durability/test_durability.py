"""A node and the S3 server killed at random moments; `make durability` kills all kinds, often.

A killed driver is in tests/sweep/test_tune.py, a killed actor in test_narrow_windows.py.
"""

from __future__ import annotations

import pytest

from tests.durability.case import run_case
from tests.durability.faults import Kind

pytestmark = [pytest.mark.long, pytest.mark.ray]


@pytest.mark.parametrize("kind", ["node", "s3"])
def test_a_sweep_that_was_hit_and_given_again_lost_and_doubled_nothing(kind: Kind) -> None:
    outcome = run_case(kind, seed=3)
    assert outcome.problems == []
    assert outcome.verdict is not None
    assert outcome.running > 0
    assert outcome.exits[-1] == 0
