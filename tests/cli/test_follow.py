"""A job of a cluster on a terminal: its log by lines, and the table that the sweep has here."""

from __future__ import annotations

import io
import time
from typing import Any, cast

import pytest
from rich.console import Console

from raffect.cli.follow import JobView
from raffect.cli.jobs import _finish
from raffect.cli.progress import SweepTable
from raffect.cli.screen import Screen
from raffect.errors import RaffectError
from raffect.jobs.card import to_metadata
from raffect.jobs.client import Job, JobServer
from raffect.sweep.progress import RunningSweep
from tests.jobs.studies import progress


class Server:
    """A job server's answers, the last one again and again."""

    def __init__(self, *answers: Job | None) -> None:
        self.answers = list(answers)
        self.asked = 0

    def follow(self, job_id: str, on_text: Any) -> Job:
        return self.job(job_id)

    def job(self, job_id: str) -> Job:
        self.asked += 1
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if found is None:
            raise RaffectError("No job server answers.")
        return found


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Screen:
    screen = Screen()
    screen.console = Console(width=100, file=io.StringIO(), force_terminal=True)
    monkeypatch.setattr("raffect.cli.follow._ASK_EVERY_S", 0.01)
    return screen


def job(**metadata: str) -> Job:
    return Job("raffect-tune-va-1", "RUNNING", {"job_name": "tune va", **metadata})


def shown(view: JobView | SweepTable) -> list[str]:
    console = Console(width=100, file=io.StringIO(), record=True)
    console.print(view.render())
    return [line.rstrip()[2:] for line in console.export_text().splitlines()]


def follow(screen: Screen, server: Server) -> JobView:
    return JobView(screen, cast(JobServer, server), "raffect-tune-va-1")


def wait(server: Server, times: int) -> None:
    until = time.monotonic() + 10
    while server.asked < times and time.monotonic() < until:
        time.sleep(0.01)
    assert server.asked >= times


def events() -> list[Any]:
    at_work: dict[str, Any] = {"finished": 3, "best": 0.61, "best_trial": 1, "rate": 80.0}
    params = {"best_params": {"model.tcn.depth": 3}, "states": {"COMPLETE": 3, "RUNNING": 2}}
    return [
        progress(trial=4, event="epoch", epoch=1, score=0.2, **at_work, **params),
        progress(trial=5, **at_work, **params),
    ]


def test_a_sweep_looks_as_it_does_on_this_machine(terminal: Screen) -> None:
    table, watch = SweepTable(Screen(quiet=True), "tune va"), RunningSweep()
    for event in events():
        table.update(event)
        watch.add(event)
    standing = watch.standing()
    assert standing is not None
    server = Server(job(**to_metadata(job().metadata, standing, watch.glance())))
    with follow(terminal, server) as view:
        wait(server, 2)
        *lines, last = shown(view)
    assert lines == shown(table)
    assert len(lines) == 5
    assert last == "job raffect-tune-va-1: running"


def test_a_job_without_a_sweep_has_its_name_and_its_state(terminal: Screen) -> None:
    server = Server(job())
    with follow(terminal, server) as view:
        wait(server, 2)
        assert shown(view) == ["tune va", "job raffect-tune-va-1: running"]


@pytest.mark.parametrize("told", ["fast", ""])
def test_what_another_version_tells_is_left_out(terminal: Screen, told: str) -> None:
    server = Server(job(pace=told))
    with follow(terminal, server) as view:
        wait(server, 2)
        assert shown(view)[0] == "tune va"


def test_a_server_that_is_away_for_a_moment_is_asked_again(terminal: Screen) -> None:
    server = Server(None, None, job())
    with follow(terminal, server) as view:
        wait(server, 4)
        assert shown(view)[0] == "tune va"


def test_the_log_comes_by_whole_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(job())
    with follow(Screen(), server) as view:
        view.text("one\ntw")
        assert capsys.readouterr().out == "one\n"
        view.text("o\nthe last")
        assert capsys.readouterr().out == "two\n"
    assert capsys.readouterr().out == "the last\n"
    assert server.asked == 0, "without a terminal there is nothing to draw"


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [("SUCCEEDED", 0, ""), ("STOPPED", 130, ""), ("FAILED", 1, "Job raffect-tune-va-1 failed.\n")],
)
def test_the_command_ends_as_the_job_did(
    capfd: pytest.CaptureFixture[str], status: str, code: int, said: str
) -> None:
    server = cast(JobServer, Server(Job("raffect-tune-va-1", status)))
    with pytest.raises(SystemExit) as stop:
        _finish(Screen(), server, "raffect-tune-va-1", as_json=False)
    assert stop.value.code == code
    found = capfd.readouterr()
    assert (found.out, found.err) == (said, "")
