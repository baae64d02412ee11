"""What the board tells, when, and that it never stands in the sweep's way."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from raffect.jobs import publish
from raffect.jobs.publish import Place, SweepPublisher, find_job, links, without_login
from raffect.store import Store
from raffect.sweep.leaderboard import load_sweep
from raffect.sweep.progress import Glance, RunningSweep, Standing
from tests.jobs.studies import Sweep, progress
from tests.sweep import tiny
from tests.sweep.sweeps import sweep

JOB_CONFIG = "RAY_JOB_CONFIG_JSON_ENV_VAR"


@pytest.fixture
def filled(store: Store) -> Store:
    return tiny.fill(store)


class Written:
    """A place that keeps what it is told; `hinder` may fail or take its time."""

    def __init__(self, hinder: Callable[[], None] = lambda: None) -> None:
        self.name = "the notebook"
        self.told: list[Standing] = []
        self.hinder = hinder

    def show(self, standing: Standing, glance: Glance | None) -> None:
        self.hinder()
        self.told.append(standing)

    def open(self, store: str, sweep: str, task: str) -> list[Place]:
        return [self]


def assert_set(event: threading.Event) -> None:
    assert event.wait(30)


def wait(for_what: Callable[[], bool], seconds: float = 10.0) -> bool:
    until = time.monotonic() + seconds
    while not for_what() and time.monotonic() < until:
        time.sleep(0.01)
    return for_what()


def standing(live: RunningSweep) -> Standing:
    found = live.standing()
    assert found is not None
    return found


def test_a_live_sweep_knows_states_and_the_time_of_epochs() -> None:
    now = [0.0]
    live = RunningSweep(clock=lambda: now[0])
    live.add(progress(trial=0))
    now[0] = 50.0
    live.add(progress(event="epoch", trial=0, epoch=1, score=0.1))
    assert standing(live).epoch_seconds is None, "the first epoch also waits for a process"
    now[0] = 54.0
    live.add(progress(event="epoch", trial=0, epoch=3, score=0.2))
    now[0] = 58.0
    states = {"COMPLETE": 1, "RUNNING": 1}
    live.add(
        progress(event="finished", trial=0, epoch=4, score=0.4, state="COMPLETE", states=states)
    )
    found = standing(live)
    assert found.epoch_seconds == pytest.approx(3.0)
    assert found.states == {"COMPLETE": 1, "PRUNED": 0, "FAIL": 0, "RUNNING": 1}


def test_a_failed_trial_s_last_epoch_says_nothing_about_time() -> None:
    now = [0.0]
    live = RunningSweep(clock=lambda: now[0])
    live.add(progress(event="epoch", epoch=1, score=0.1))
    now[0] = 500.0
    live.add(progress(event="finished", epoch=2, state="FAIL"))
    assert standing(live).epoch_seconds is None


def test_what_runs_when_the_command_ends_is_left_to_be_continued() -> None:
    live = RunningSweep()
    live.add(progress(states={"COMPLETE": 3, "RUNNING": 2}))
    live.end()
    assert standing(live).states["RUNNING"] == 0
    assert standing(live).left == 2


def test_the_last_state_is_told_when_the_block_ends(store: Store) -> None:
    written = Written()
    with SweepPublisher(store, "s", "va", every_s=60, places=written.open) as out:
        out.update(progress())
        assert wait(lambda: len(written.told) == 1)
        out.update(progress(event="finished", state="COMPLETE", score=0.5, best=0.5, seconds=40))
    assert [standing.best for standing in written.told] == [None, 0.5]


def test_many_updates_are_told_rarely_but_again_and_again(store: Store) -> None:
    """Ray drops a gauge that is not set again, also when nothing has happened."""
    written = Written()
    with SweepPublisher(store, "s", "va", every_s=0.2, places=written.open) as out:
        for number in range(500):
            out.update(progress(trial=number))
        time.sleep(1.0)
    assert 4 <= len(written.told) <= 7


def test_a_place_that_hangs_does_not_hold_up_the_sweep(store: Store) -> None:
    go = threading.Event()
    written = Written(lambda: assert_set(go))
    with SweepPublisher(store, "s", "va", every_s=0.01, places=written.open) as out:
        began = time.monotonic()
        for number in range(1000):
            out.update(progress(trial=number))
        assert time.monotonic() - began < 1.0
        go.set()


def test_a_place_that_fails_is_noted_once_and_tried_again(store: Store) -> None:
    broken = [True]

    def hinder() -> None:
        if broken[0]:
            raise ConnectionError("nobody\nis there")

    written, notes = Written(hinder), []
    with SweepPublisher(store, "s", "va", notes.append, every_s=0.01, places=written.open) as out:
        out.update(progress())
        assert wait(lambda: len(notes) == 1)
        time.sleep(0.1)
        broken[0] = False
        assert wait(lambda: bool(written.told))
    assert notes == [
        "Note: the notebook can't be kept current (ConnectionError: nobody). The sweep goes on."
    ]


def test_places_that_can_t_be_opened_are_noted(store: Store) -> None:
    def refuse(store: str, sweep: str, task: str) -> list[Place]:
        raise ImportError("no such module in this Ray")

    notes: list[str] = []
    with SweepPublisher(store, "s", "va", notes.append, places=refuse) as out:
        out.update(progress())
    assert len(notes) == 1
    assert "no such module" in notes[0]


def test_a_board_without_news_tells_nothing(store: Store) -> None:
    written = Written()
    with SweepPublisher(store, "s", "va", places=written.open):
        pass
    assert written.told == []


def test_a_sweep_that_needed_no_trial_is_told_of_by_a_job_only(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = Sweep(store, "s")
    sweep.study.clock = lambda: 3600.0
    for scores in ((0.1, 0.6), (0.3, 0.2)):
        sweep.complete(*scores)
    written, connected = Written(), [0]

    def connect() -> None:
        connected[0] += 1

    monkeypatch.delenv("RAFFECT_JOB", raising=False)
    monkeypatch.delenv(JOB_CONFIG, raising=False)
    with SweepPublisher(store, "s", "va", places=written.open) as out:
        out.publish_finished(load_sweep(store, "s"), connect)
    assert (connected, written.told) == ([0], [])
    monkeypatch.setenv("RAFFECT_JOB", "mine")
    with SweepPublisher(store, "s", "va", places=written.open) as out:
        out.publish_finished(load_sweep(store, "s"), connect)
    last = written.told[-1]
    assert connected == [1]
    assert (last.best, last.best_trial, last.states["COMPLETE"]) == (0.6, 0, 2)
    assert (last.hours, last.top, last.target) == (pytest.approx(1.0), (0.6, 0.3), 8)
    assert last.best_params == load_sweep(store, "s").rows[0].params
    assert last.expected == load_sweep(store, "s").evidence.expected


@pytest.mark.parametrize(
    ("environment", "job"),
    [
        ({}, None),
        ({"RAFFECT_JOB": "mine"}, "mine"),
        ({JOB_CONFIG: '{"metadata": {"job_submission_id": "rays"}}', "RAFFECT_JOB": "x"}, "rays"),
        ({JOB_CONFIG: '{"metadata": {}}', "RAFFECT_JOB": "mine"}, "mine"),
        ({JOB_CONFIG: "not json"}, None),
        ({JOB_CONFIG: "[]"}, None),
    ],
)
def test_a_driver_knows_its_job(environment: dict[str, str], job: str | None) -> None:
    assert find_job(environment) == job


def test_addresses_are_shown_without_anybody_s_login() -> None:
    assert without_login("https://me:secret@host:1/a") == "https://host:1/a"
    assert without_login("s3://bucket/a") == "s3://bucket/a"
    assert without_login("/a/folder") == "/a/folder"
    assert links("s3://b/p", "va", "http://127.0.0.1:8266/") == {
        "page": "http://127.0.0.1:8266/sweeps/va",
        "report": "http://127.0.0.1:8266/sweeps/va/report",
    }
    assert links("s3://b/p", "va", "")["report"].startswith("s3://b/p/sweeps/va/report.html")


def test_ray_still_has_what_the_board_uses() -> None:
    """Private to Ray: when this fails, look at JobInfoStorageClient, and mend publish.py."""
    from dataclasses import fields
    from inspect import iscoroutinefunction, signature

    from ray._private.runtime_env.constants import RAY_JOB_CONFIG_JSON_ENV_VAR
    from ray._raylet import GcsClient
    from ray.dashboard.modules.job.common import JobInfo, JobInfoStorageClient, JobStatus
    from ray.runtime_context import RuntimeContext

    assert RAY_JOB_CONFIG_JSON_ENV_VAR == JOB_CONFIG == publish.JOB_CONFIG
    assert next(iter(signature(JobInfoStorageClient).parameters)) == "gcs_client"
    for name, first in (("get_info", ["job_id"]), ("put_info", ["job_id", "job_info"])):
        method = getattr(JobInfoStorageClient, name)
        assert iscoroutinefunction(method)
        assert list(signature(method).parameters)[1 : 1 + len(first)] == first
        assert "timeout" in signature(method).parameters
    assert {"status", "metadata"} <= {one.name for one in fields(JobInfo)}
    assert not JobStatus.RUNNING.is_terminal()
    assert hasattr(RuntimeContext, "gcs_address")
    assert callable(GcsClient)


@pytest.mark.ray
def test_a_sweep_that_nobody_can_be_told_of_goes_on(
    ray_local: None, filled: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Ray without a dashboard, and a job that it has never heard of."""
    monkeypatch.setenv("RAFFECT_JOB", "of-another-cluster")
    notes: list[str] = []
    with SweepPublisher(filled, "s", "va", notes.append, every_s=0.05) as out:
        view = sweep(filled, "tune_spaces.va", 3, on_update=out.update)
    assert sum(view.counts.values()) == 3
    assert notes == [
        "Note: the job in Ray's dashboard can't be kept current (LookupError: the cluster knows "
        "no job of-another-cluster). The sweep goes on."
    ]
