"""A job's metadata: short words for people, and the table again for who follows the job."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from raffect.jobs.card import LONGEST, glance_of, title_of, to_metadata
from raffect.sweep.progress import STATES, Glance, RunningSweep, RunningTrial, Standing
from tests.jobs.studies import progress

BEFORE = {"job_name": "tune va", "store": "s3://b/p", "raffect": "0.3"}
STANDING = Standing(
    states={**dict.fromkeys(STATES, 0), "COMPLETE": 12, "PRUNED": 30, "FAIL": 1, "RUNNING": 2},
    target=200,
    best=0.6123,
    best_trial=17,
    best_params={"optimiser.lr": 1e-4, "model.tcn.channels": [16, 16], "a.b": "x, y"},
    hours=0.5,
    device_hours=1.25,
    rate=82.5,
)
RUNNING = (RunningTrial(43, 3, 30, 0.5), RunningTrial(44, 0, 30, None))
GLANCE = Glance(STANDING, 480.0, RUNNING, 3)


def test_the_jobs_page_is_a_leaderboard() -> None:
    told = to_metadata(BEFORE, STANDING, GLANCE)
    assert told == {
        "best": "0.6123 (trial 17)",
        "trials": "12 complete, 30 pruned, 1 failed, 2 running of 200",
        "hours": "0.50, 1.25 of device time",
        "best_params": 'optimiser.lr=0.0001, model.tcn.channels=[16, 16], a.b="x, y"',
        "running": "43: 3/30 0.5000, 44: 0/30, 3 more",
        "pace": "480 s, 82.5 trials/h",
        "job_name": "tune va · 0.6123 (trial 17) · 43/200",
        "store": "s3://b/p",
        "raffect": "0.3",
    }
    assert list(told)[:2] == ["best", "trials"], "what fits on the line of Ray's page"
    assert title_of(told, "id") == "tune va"
    assert title_of({}, "id") == "id"


@pytest.mark.parametrize(
    ("changes", "ending"),
    [
        ({"best": None, "best_trial": None}, "tune va · 43/200"),
        ({"expected": 0.6}, "tune va · 0.6123 (trial 17) · 43/200"),
    ],
)
def test_the_name_is_written_anew_each_time(changes: dict[str, Any], ending: str) -> None:
    told = to_metadata(BEFORE, STANDING, GLANCE)
    told = to_metadata(told, replace(STANDING, **changes), None)
    assert told["job_name"] == ending
    assert "running" not in told
    assert "pace" not in told
    assert told.get("expected") == ("0.6000 on new videos" if "expected" in changes else None)


def test_a_running_trial_that_is_ahead_is_the_best_so_far() -> None:
    ahead = replace(GLANCE, running=(RunningTrial(43, 3, 30, 0.7),))
    told = to_metadata(BEFORE, STANDING, ahead)
    assert told["job_name"] == "tune va · 0.7000 (trial 43, running) · 43/200"


def test_who_follows_gets_what_the_screen_needs() -> None:
    told = to_metadata(BEFORE, STANDING, GLANCE)
    found = glance_of(told)
    assert found is not None
    assert found == replace(GLANCE, standing=replace(STANDING, states=found.standing.states))
    assert found.standing.ended == STANDING.ended
    assert glance_of(to_metadata(told, STANDING, None)) is None


def test_a_sweep_that_has_just_begun_is_told_too() -> None:
    watch = RunningSweep()
    watch.add(progress())
    glance, standing = watch.glance(), watch.standing()
    assert glance is not None
    assert standing is not None
    found = glance_of(to_metadata(BEFORE, standing, glance))
    assert found is not None
    assert (found.standing.best, found.standing.best_params) == (None, {})
    assert [one.trial for one in found.running] == [0]


@pytest.mark.parametrize(
    "changes", [{"trials": "many"}, {"pace": "fast"}, {"running": "a: b"}, {"hours": "1"}]
)
def test_what_another_version_writes_is_left_alone(changes: dict[str, str]) -> None:
    assert glance_of({**to_metadata(BEFORE, STANDING, GLANCE), **changes}) is None


def test_long_parameters_are_cut() -> None:
    params: dict[str, Any] = {f"a.setting.{i}": "x" * 40 for i in range(100)}
    told = to_metadata(BEFORE, replace(STANDING, best_params=params), GLANCE)
    assert len(told["best_params"]) == LONGEST
    assert glance_of(told) is not None
    assert max(map(len, told.values())) <= LONGEST
