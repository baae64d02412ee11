"""What a running sweep tells, and what goes over the wire of it."""

from __future__ import annotations

import json

import pytest

from raffect.sweep.progress import Glance, RunningSweep
from tests.jobs.studies import progress


def test_nothing_is_seen_before_anything_has_happened() -> None:
    assert RunningSweep().glance() is None


def test_running_trials_are_those_that_began_and_have_not_ended() -> None:
    watch = RunningSweep()
    watch.add(progress(trial=0))
    watch.add(progress(trial=1))
    watch.add(progress(event="epoch", trial=0, epoch=2, score=0.5))
    watch.add(progress(event="finished", trial=1, state="PRUNED"))
    glance = watch.glance()
    assert glance is not None
    assert [(one.trial, one.epoch, one.score) for one in glance.running] == [(0, 2, 0.5)]
    assert glance.last.event == "finished"


def test_a_screen_holds_eight_of_them() -> None:
    watch = RunningSweep()
    for trial in range(20):
        watch.add(progress(trial=trial))
    glance = watch.glance()
    assert glance is not None
    assert [one.trial for one in glance.running] == list(range(8))
    assert glance.more == 12


def test_a_glance_comes_through_as_text() -> None:
    watch = RunningSweep()
    params = {"optimiser.lr": 1.5e-4, "model.tcn.depth": 3, "loss": "ccc", "channels": [16, 16]}
    for trial in range(9):
        watch.add(
            progress(trial=trial, score=0.123456789, best=0.5, best_trial=2, best_params=params)
        )
    glance = watch.glance()
    assert glance is not None
    assert Glance.from_json(glance.to_json()) == glance
    assert len(glance.to_json()) < 2000


def test_messages_stay_where_they_are() -> None:
    watch = RunningSweep()
    watch.add(progress(event="finished", state="FAIL", reason="exception: secret", note="secret"))
    glance = watch.glance()
    assert glance is not None
    assert "secret" not in glance.to_json()


@pytest.mark.parametrize("text", ["", "1", "{}", json.dumps({"last": {}, "running": []})])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="Glance"):
        Glance.from_json(text)
