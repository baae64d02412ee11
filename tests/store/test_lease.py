from __future__ import annotations

import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from raffect.errors import ConflictError
from raffect.store import Store, lease
from raffect.store.lease import Lease, held
from raffect.testing.s3 import S3Server, environment
from tests.durability.proxy import wire_to

FOLDER = "sweeps/s/lease"
HOLDER = """
import sys, time
from raffect.store import Store
from raffect.store.lease import Lease
Lease(Store(sys.argv[1]), "sweeps/s/lease", renew_s=0.1, ttl_s=1).acquire()
print("held", flush=True)
time.sleep(60)
"""


def holder(uri: str) -> subprocess.Popen[str]:
    """Another process that holds the lease."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, uri], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_command_is_refused_until_the_first_gives_the_lease_back(store: Store) -> None:
    with held(store, FOLDER):
        with pytest.raises(ConflictError, match="is at sweeps/s already"):
            Lease(store, FOLDER).acquire()
        assert store.names(FOLDER) == ["00000001.json"]
    assert store.names(FOLDER) == []
    with held(store, FOLDER):
        pass


def test_a_killed_holder_of_this_machine_is_followed_at_once(store: Store) -> None:
    process = holder(store.uri)
    with pytest.raises(ConflictError, match=str(process.pid)):
        Lease(store, FOLDER).acquire()
    process.kill()
    process.wait()
    began = time.monotonic()
    with held(store, FOLDER):
        assert time.monotonic() - began < 1
        assert store.names(FOLDER) == ["00000002.json"]


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every holder takes every other for one on another machine."""
    monkeypatch.setattr(lease, "_boot", lambda: uuid.uuid4().hex)


def test_a_holder_elsewhere_is_believed_dead_when_its_counter_stands_still(
    store: Store, elsewhere: None
) -> None:
    process = holder(store.uri)
    told: list[str] = []
    with pytest.raises(ConflictError):
        Lease(store, FOLDER, 0.1, 1.0).acquire(told.append)
    assert len(told) == 1
    process.kill()
    process.wait()
    began = time.monotonic()
    taker = Lease(store, FOLDER, 0.1, 1.0)
    taker.acquire(told.append)
    assert 0.9 < time.monotonic() - began < 3
    taker.release()


def test_a_holder_that_was_followed_neither_renews_nor_frees_the_others_lease(
    store: Store, elsewhere: None
) -> None:
    first = Lease(store, FOLDER, 60.0, 0.3)
    first.acquire()
    second = Lease(store, FOLDER, 0.1, 0.3)
    second.acquire()
    first.release()
    assert store.names(FOLDER) == ["00000002.json"]
    second.release()


def test_of_two_that_wait_one_gets_it(s3_store: Store, elsewhere: None) -> None:
    dead = Lease(s3_store, FOLDER, 60.0, 2.0)
    dead.acquire()

    def take(_: int) -> bool:
        try:
            Lease(s3_store, FOLDER, 0.1, 2.0).acquire()
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(take, range(4))) == 1


def test_a_renewal_is_one_request(s3_server: S3Server) -> None:
    with (
        wire_to(s3_server.endpoint) as wire,
        environment({**s3_server.environment(), "AWS_ENDPOINT_URL": wire.endpoint}),
    ):
        one = Lease(Store(f"s3://{s3_server.new_bucket()}/a"), FOLDER, renew_s=0.1)
        one.acquire()
        before, until = len(wire.requests), time.monotonic() + 20
        with wire.counting() as requests:
            while len(wire.requests) < before + 3 and time.monotonic() < until:
                time.sleep(0.1)
        one.release()
    assert len(requests) > 1
    assert all(request.startswith("PUT") for request in requests)


def test_a_damaged_lease_is_a_doubt_and_no_end(store: Store, elsewhere: None) -> None:
    first = Lease(store, FOLDER, renew_s=0.1, ttl_s=0.05)
    first.acquire()
    key = f"{FOLDER}/00000001.json"
    for damage in (b"", b"\xff{", b"{}"):
        store.write_bytes(key, damage)
        time.sleep(0.3)
        assert first._thread is not None
        assert first._thread.is_alive()
        assert not first.is_sure
    assert "unknown machine" in str(first.holder)
    told: list[str] = []
    second = Lease(store, FOLDER, ttl_s=1.0)
    second.acquire(told.append)
    assert store.names(FOLDER) == ["00000002.json"]
    second.release()
    assert "unknown machine" in told[0]
    first.release()


def test_who_may_have_been_followed_is_not_sure_any_more(store: Store) -> None:
    slow = Lease(store, FOLDER, renew_s=0.4, ttl_s=0.2)
    slow.acquire()
    assert slow.is_sure
    time.sleep(0.3)
    assert not slow.is_sure
    # Renewed since, and still its own: but what happened in between it can't know.
    time.sleep(0.4)
    assert not slow.is_sure
    slow.release()
    assert store.names(FOLDER) == []
