"""The store waits for a server that is away, once it has answered."""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from raffect.errors import StoreAwayError, StoreError
from raffect.store import Store
from raffect.store.retry import patiently
from raffect.testing.s3 import DurableS3Server, environment, start_durable_s3_server


def failing(times: int, error: StoreError | None = None) -> Callable[[], int]:
    calls = []

    def action() -> int:
        calls.append(1)
        if len(calls) <= times:
            raise error or StoreAwayError("down")
        return len(calls)

    return action


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses, which take no time."""
    pauses: list[float] = []
    now = time.monotonic()
    monkeypatch.setattr("raffect.store.retry.time.sleep", pauses.append)
    monkeypatch.setattr("raffect.store.retry.time.monotonic", lambda: now + sum(pauses))
    return pauses


def test_an_action_is_tried_again_after_growing_pauses(slept: list[float]) -> None:
    assert patiently(failing(0)) == 1
    assert slept == []
    assert patiently(failing(5)) == 6
    assert slept == [1, 2, 4, 4, 4]


def test_it_is_given_up_within_its_time(slept: list[float]) -> None:
    with pytest.raises(StoreAwayError):
        patiently(failing(1000), 60)
    assert 50 < sum(slept) <= 60
    slept.clear()
    with pytest.raises(StoreAwayError):
        patiently(failing(1), 0)
    assert slept == []


def test_other_errors_are_not_waited_for(slept: list[float]) -> None:
    for error in (StoreError("denied"), StoreError("full")):
        with pytest.raises(StoreError):
            patiently(failing(1, error))
    assert slept == []


@pytest.fixture
def server(tmp_path: Path) -> Iterator[DurableS3Server]:
    server = start_durable_s3_server(tmp_path)
    with environment(server.environment()):
        yield server
    server.stop()


@pytest.mark.long
def test_every_method_outlives_a_server_that_is_away(server: DurableS3Server) -> None:
    store = Store(f"s3://{server.new_bucket()}/a")
    for key in ("x", "y", "z"):
        store.write_bytes(f"f/{key}", b"1")
    calls = [
        lambda of: of.read_bytes("f/x"),
        lambda of: of.write_bytes("f/w", b"2"),
        lambda of: of.create("f/v", b"3"),
        lambda of: of.exists("f/x"),
        lambda of: of.names("f"),
        lambda of: of.files("f"),
        lambda of: of.delete("f/y"),
        lambda of: of.delete_keys(["f/z"]),
    ]
    server.kill()
    stranger = Store(store.uri)
    began = time.monotonic()
    for hasty in (stranger, store.hurried()):
        with pytest.raises(StoreAwayError):
            hasty.read_bytes("f/x")
    assert time.monotonic() - began < 30
    # As a worker gets it.
    waiting = pickle.loads(pickle.dumps(store))
    errors: list[BaseException] = []

    def call(action: Callable[[Store], object]) -> None:
        try:
            action(waiting)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=call, args=(action,)) for action in calls]
    for thread in threads:
        thread.start()
    time.sleep(5)
    assert all(thread.is_alive() for thread in threads)
    server.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert store.names("f") == ["v", "w", "x"]
