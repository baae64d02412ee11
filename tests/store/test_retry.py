"""The store waits for a server that is away, once it has answered."""

from __future__ import annotations

import pickle
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from raffect.errors import StoreAwayError, StoreError
from raffect.store import Store
from raffect.store.retry import OUTAGE, patiently
from raffect.testing.s3 import DurableS3Server, S3Server, environment, start_durable_s3_server
from tests.durability.proxy import wire_to


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


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a command's user is told."""
    notes: list[str] = []
    monkeypatch.setattr(OUTAGE, "on_note", notes.append)
    monkeypatch.setattr(OUTAGE, "_is_told", False)
    return notes


AWAY = re.compile(r"The store does not answer \(.+\); trying again until \d\d:\d\d:\d\d\.")


def test_a_wait_is_told_once_and_its_end(
    slept: list[float], told: list[str], s3_store: Store
) -> None:
    for _ in range(2):
        patiently(failing(3, StoreAwayError("down").because("Connection refused")))
    assert len(told) == 1
    assert AWAY.fullmatch(told[0])
    assert "(Connection refused)" in told[0]
    assert s3_store.names("") == []
    assert s3_store.names("") == []
    assert told[1:] == ["The store answers again."]
    with pytest.raises(StoreAwayError):
        patiently(failing(1), 0)
    assert len(told) == 2


@pytest.mark.slow
def test_a_server_that_is_silent_is_told_of(
    monkeypatch: pytest.MonkeyPatch, told: list[str], s3_server: S3Server, s3_store: Store
) -> None:
    """Also in the midst of a body, whose bytes have stopped coming; not where they come slowly."""
    monkeypatch.setattr("raffect.store.retry._SILENCE_S", 0.5)
    s3_store.write_bytes("a", b"1234567890")
    with wire_to(s3_server.endpoint) as wire, environment({"AWS_ENDPOINT_URL": wire.endpoint}):
        store = Store(s3_store.uri)
        wire.drip_s = 0.2
        wire.inject("drip")
        assert store.read_bytes("a") == b"1234567890"
        assert told == []
        wire.stall_s = 1.5
        wire.inject("stall")
        assert store.read_bytes("a") == b"1234567890"
    assert len(told) == 2
    assert AWAY.fullmatch(told[0])
    assert told[1] == "The store answers again."


@pytest.mark.slow
def test_words_for_an_outage_are_the_systems(
    monkeypatch: pytest.MonkeyPatch, s3_environment: dict[str, str]
) -> None:
    for endpoint, why in [
        ("http://127.0.0.1:9", "Connection refused"),
        ("http://nobody.invalid", "Name or service not known"),
    ]:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        with pytest.raises(StoreAwayError) as away:
            Store("s3://bucket/store").read_bytes("a")
        assert away.value.why == why
