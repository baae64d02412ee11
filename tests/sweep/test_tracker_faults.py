"""Trackers that fail, hang or are not there: said once, and nothing else fails."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from raffect.errors import NotThereError, SettingsError
from raffect.store import Store
from raffect.sweep import tracker_clients, trackers
from raffect.sweep.tracker_clients import TensorBoard, TrackedSweep, WandB
from raffect.sweep.trackers import TrackerThread, make_callbacks
from tests.sweep.tracked_runs import SCORES, Driver, events, sweep


class Failing(TensorBoard):
    """Raises at one of its calls."""

    at = ""
    calls = 0

    def _maybe(self, name: str) -> None:
        if name == self.at:
            self.calls += 1
            raise ConnectionError(f"no server at {name}\nwith a second line")

    def setup(self) -> None:
        self._maybe("setup")
        super().setup()

    def start(self, *of: Any) -> None:
        self._maybe("start")
        super().start(*of)

    def epochs(self, *of: Any) -> None:
        self._maybe("epochs")
        super().epochs(*of)

    def end(self, *of: Any) -> None:
        self._maybe("end")
        super().end(*of)

    def finish(self) -> None:
        self._maybe("finish")
        super().finish()


@pytest.mark.parametrize("at", ["setup", "start", "epochs", "end", "finish"])
def test_a_tracker_that_fails_is_said_once_and_left_out(
    planned: Store, told: list[str], at: str
) -> None:
    logger = Failing(TrackedSweep(planned, "s", "va"))
    logger.at = at
    driver = Driver([TrackerThread("Mine", logger, told.append)])
    for number in (0, 1):
        driver.start(number)
        driver.result(number, SCORES[0][:1])
        driver.result(number, SCORES[0][:2])
        driver.complete(number)
    driver.end()
    assert logger.calls == 1
    assert told == [
        f"Mine is left out from here on, the trials go on: ConnectionError: no server at {at}"
    ]


@pytest.mark.ray
def test_no_trial_fails_by_a_tracker(
    ray_local: None, planned: Store, tmp_path: Path, told: list[str]
) -> None:
    planned.delete("sweeps/s/plan.json")
    callbacks = make_callbacks(["tensorboard"], planned, "s", "va", told.append)
    assert sweep(callbacks, tmp_path / "tune") == {0: None, 1: None, 2: None}
    assert len(told) == 1
    assert "NotThereError" in told[0]


def test_the_end_of_a_sweep_does_not_wait_for_ever(
    planned: Store, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers, "FINISH_S", 0.5)
    released = threading.Event()

    class Hanging(TensorBoard):
        def start(self, *of: Any) -> None:
            released.wait(60)

    driver = Driver(
        [TrackerThread("Mine", Hanging(TrackedSweep(planned, "s", "va")), told.append)]
    )
    driver.start(0)
    before = time.monotonic()
    driver.end()
    assert time.monotonic() - before < 10
    assert len(told) == 1
    assert "does not keep up" in told[0]
    released.set()


class OtherProcess(WandB):
    """W&B with another client process."""

    def __init__(self, planned: Store, code: str) -> None:
        super().__init__(TrackedSweep(planned, "s", "va"))
        self.command = ("-c", code)


def test_a_client_process_that_does_not_end_is_ended(
    planned: Store, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracker_clients, "UPLOAD_S", 0.5)
    logger = OtherProcess(planned, "import time; time.sleep(60)")
    driver = Driver([TrackerThread("Mine", logger, told.append)])
    driver.start(0)
    driver.result(0, SCORES[0])
    driver.end()
    assert len(told) == 1
    assert "timed out" in told[0]
    assert logger._process is not None
    assert logger._process.wait(10) != 0


def test_what_a_client_process_says_at_its_end_is_the_reason(
    planned: Store, told: list[str]
) -> None:
    logger = OtherProcess(planned, "print('Note'); print('UsageError: no key'); input(); exit(1)")
    driver = Driver([TrackerThread("Mine", logger, told.append)])
    driver.start(0)
    driver.settle()
    assert logger._process is not None
    assert logger._process.wait(10) == 1
    driver.start(1)
    driver.end()
    assert told == ["Mine is left out from here on, the trials go on: UsageError: no key"]


@pytest.mark.slow
def test_servers_that_are_not_there_are_said_once(
    planned: Store, tmp_path: Path, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("mlflow", "wandb"):
        pytest.importorskip(package)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    names = ["tensorboard", "mlflow", "wandb"]
    driver = Driver(make_callbacks(names, planned, "s", "va", told.append))
    driver.start(0)
    driver.result(0, SCORES[0])
    driver.complete(0)
    driver.end()
    assert sorted(line.split()[0] for line in told) == ["MLflow", "W&B"]
    assert events(planned, 0)["score"] == list(enumerate(SCORES[0], start=1))


def test_an_unknown_tracker_and_a_missing_package_are_the_users_to_mend(
    store: Store, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SettingsError, match="no tracker 'visdom'") as unknown:
        make_callbacks(["tensorboard", "visdom"], store, "s", "va", told.append)
    assert unknown.value.allowed == "tensorboard, mlflow, wandb"
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(NotThereError, match="--track mlflow needs mlflow, which is not"):
        make_callbacks(["mlflow"], store, "s", "va", told.append)
    assert make_callbacks([], store, "s", "va", told.append) == []
