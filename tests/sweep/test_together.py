"""Processes that begin for a sweep while the one before ends, on a real Ray."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from raffect.sweep.together import Together
from raffect.temporal.rows import read_features


@pytest.mark.ray
def test_the_next_sweeps_processes_begin_once_where_nothing_is_left_to_run(
    ray_local: None,
) -> None:
    together = Together(read_features)
    busy = SimpleNamespace(live={"a": 1}, study=SimpleNamespace(remaining=1))
    idle = SimpleNamespace(live={}, study=SimpleNamespace(remaining=0))
    for ledger in (busy, idle):
        together.look_ahead(ledger, 1)
    assert together._begun is None, "none follows"
    together.ahead = True
    together.look_ahead(busy, 1)
    assert together._begun is None, "all slots are busy"
    for _ in range(2):
        together.look_ahead(idle, 1)
    begun = together._begun
    assert together.take(1) is begun
    assert begun is not None
    begun.wait()
    with begun._stub() as stub:
        assert len(begun._known(stub) - begun._before) == 1
