"""What a running sweep tells."""

from __future__ import annotations

from raffect.sweep.progress import RunningSweep
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


def test_a_screen_holds_eight_of_them() -> None:
    watch = RunningSweep()
    for trial in range(20):
        watch.add(progress(trial=trial))
    glance = watch.glance()
    assert glance is not None
    assert [one.trial for one in glance.running] == list(range(8))
    assert glance.more == 12
