"""The layer around s3fs, before a server whose answers come to harm."""

from __future__ import annotations

import os
import pickle
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from raffect.errors import StoreAwayError, StoreError
from raffect.store import Store, retry, s3
from raffect.testing.s3 import S3Server, environment
from tests.durability.proxy import FAULTS, Fault, Request, Wire, wire_to


@pytest.fixture
def wire(s3_server: S3Server) -> Iterator[Wire]:
    with wire_to(s3_server.endpoint) as wire:
        values = {**s3_server.environment(), "AWS_ENDPOINT_URL": wire.endpoint}
        with environment(values):
            yield wire


@pytest.fixture
def far(s3_server: S3Server, wire: Wire) -> Store:
    """A store at the other end of the wire."""
    return Store(f"s3://{s3_server.new_bucket()}/a")


def is_get(request: Request) -> bool:
    return request.method == "GET"


DATA = bytes(range(256)) * 40


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.slow
def test_one_fault_costs_a_moment_and_no_byte(wire: Wire, far: Store, fault: Fault):
    wire.stall_s, wire.drip_s = 0.5, 0.0
    far.write_bytes("x", DATA)
    wire.inject(fault)
    assert far.read_bytes("x") == DATA
    wire.inject(fault)
    far.write_bytes("x", DATA[::-1])
    assert far.read_bytes("x") == DATA[::-1]
    wire.inject(fault)
    assert far.create("y", DATA)
    wire.inject(fault)
    assert far.names("") == ["x", "y"]
    wire.inject(fault)
    assert far.exists("y")
    wire.inject(fault)
    far.delete_keys(["x", "y"])
    assert far.files("") == []
    assert wire.injected[fault] == 6


@pytest.mark.slow
def test_a_broken_body_is_continued_not_begun_anew(wire: Wire, far: Store):
    far.write_bytes("x", DATA)
    wire.inject("cut", 4, is_get)
    with wire.counting() as sent:
        assert far.read_bytes("x") == DATA
    assert len(sent) == 5
    with far.filesystem.open(far.path("x"), "rb") as file:
        wire.inject("cut", 2, is_get)
        file.seek(100)
        assert file.read() == DATA[100:]


def test_an_object_that_is_replaced_meanwhile_is_read_from_its_beginning(wire: Wire, far: Store):
    far.write_bytes("x", DATA)
    wire.inject("cut", where=is_get)
    wire.on_injected = lambda: far.write_bytes("x", DATA[::-1])
    assert far.read_bytes("x") == DATA[::-1]


def test_a_wrong_etag_makes_no_mixture(wire: Wire, far: Store):
    far.write_bytes("x", DATA)
    wire.inject("etag", where=is_get)
    wire.inject("cut", where=is_get)
    assert far.read_bytes("x") == DATA
    wire.inject("cut", where=is_get)
    wire.inject("etag", where=is_get)
    assert far.read_bytes("x") == DATA


def test_a_large_object_is_read_by_ranges(wire: Wire, far: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(s3, "RANGE", 1000)
    far.write_bytes("x", DATA)
    with wire.counting() as sent:
        assert far.read_bytes("x") == DATA
    assert len(sent) == -(-len(DATA) // 1000)
    wire.inject("cut", 5, is_get)
    assert far.read_bytes("x") == DATA
    of = far.filesystem
    for start, end in ((0, 1), (999, 2001), (10_000, 99_999), (-5, None), (3, -3)):
        assert of.cat_file(far.path("x"), start=start, end=end) == DATA[start:end]
    far.write_bytes("empty", b"")
    assert far.read_bytes("empty") == b""
    assert of.cat_file(far.path("empty"), start=0, end=100) == b""


@pytest.mark.parametrize("fault", ["drip", "stall"])
def test_no_object_takes_longer_than_its_time(
    wire: Wire, far: Store, monkeypatch: pytest.MonkeyPatch, fault: Fault
):
    """A byte now and then keeps the socket's time-out from ending it."""
    wire.drip_s = 0.2
    far.write_bytes("x", DATA)
    monkeypatch.setattr(retry, "REQUEST_S", 1.0)
    wire.inject(fault, 50, is_get)
    began = time.monotonic()
    with pytest.raises(StoreAwayError, match=r"does not answer.* tried .* of 1.0 s at most"):
        far.hurried().read_bytes("x")
    assert 0.9 < time.monotonic() - began < 8


@pytest.mark.slow
def test_a_fault_that_stays_is_told_after_some_attempts(wire: Wire, far: Store):
    far.write_bytes("x", DATA)
    wire.inject("cut", s3.ATTEMPTS + 2)
    # Half of what is left comes each time: that counts as progress.
    assert far.read_bytes("x") == DATA
    # aiohttp sends once more by itself what a kept connection did not take.
    wire.inject("reset", 2 * s3.ATTEMPTS)
    with pytest.raises(StoreAwayError, match=rf"tried {s3.ATTEMPTS} times"):
        far.hurried().read_bytes("x")


@pytest.mark.slow
def test_faults_at_random_change_nothing(wire: Wire, far: Store):
    wire.stall_s, wire.drip_s = 0.1, 0.0
    wire.inject_at_random(0.2, seed=1)
    contents = {f"f/{i}": os.urandom(200) for i in range(20)}

    def use(key: str) -> bool:
        far.write_bytes(key, contents[key])
        return far.read_bytes(key) == contents[key] and not far.create(key, b"other")

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(use, contents))
    assert far.files("") == sorted(contents)
    far.delete("f")
    wire.inject_at_random(0)
    assert far.files("") == []
    assert wire.injected.total() > 10


def test_each_method_sends_one_request(wire: Wire, far: Store):
    calls = {
        "write": (lambda: far.write_bytes("f/x", DATA), 1),
        "read": (lambda: far.read_bytes("f/x"), 1),
        "create": (lambda: far.create("f/y", DATA), 1),
        # The second request looks whose object it is.
        "create again": (lambda: far.create("f/y", b"other"), 2),
        "exists": (lambda: far.exists("f/x"), 1),
        "exists not": (lambda: far.exists("f/z"), 1),
        "names": (lambda: far.names("f"), 1),
        "names of nothing": (lambda: far.names("nothing"), 1),
        "files": (lambda: far.files(""), 1),
        "files of nothing": (lambda: far.files("nothing"), 1),
        "delete one": (lambda: far.delete_keys(["f/x"]), 1),
        "delete several": (lambda: far.delete_keys(["f/x", "f/y"]), 1),
        "delete none": (lambda: far.delete_keys([]), 0),
    }
    found = {}
    for name, (call, _) in calls.items():
        with wire.counting() as sent:
            call()
        found[name] = len(sent)
    assert found == {name: number for name, (_, number) in calls.items()}


def test_servers_that_leave_out_the_condition_are_understood(wire: Wire, far: Store):
    """As Ceph and MinIO; s3fs then takes the answer 412 for some error."""
    wire.strips_condition = True
    assert far.create("x", b"mine")
    assert not far.create("x", b"theirs")
    wire.lose(1)
    assert far.create("y", b"mine")
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda i: far.create("lock", b"%d" % i), range(8)))
    assert won.count(True) == 1


@pytest.mark.slow
def test_credentials_that_are_refreshed_are_used(
    s3_server: S3Server, far: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """botocore itself reads the keys of a file once."""
    monkeypatch.setattr(s3, "_REFRESH_S", 0.0)
    far.write_bytes("x", DATA)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    file = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))

    def sign_in(key: str, secret: str) -> None:
        file.write_text(f"[default]\naws_access_key_id={key}\naws_secret_access_key={secret}\n")

    sign_in("AKIAOLD", "gone")
    store = Store(far.uri)
    with pytest.raises(StoreError, match="keys"):
        store.read_bytes("x")
    late = threading.Timer(0.3, sign_in, (s3_server.access_key, s3_server.secret_key))
    late.start()
    assert store.read_bytes("x") == DATA


def test_a_file_system_that_travels_is_the_same(far: Store):
    copy = pickle.loads(pickle.dumps(far.filesystem))
    assert copy.retries == far.filesystem.retries == 1
    assert copy.config_kwargs == far.filesystem.config_kwargs


def test_a_missing_bundle_of_certificates_is_one_message():
    with (
        environment({"AWS_CA_BUNDLE": "/nowhere/ca.pem", "AWS_ENDPOINT_URL": "https://h"}),
        pytest.raises(StoreError, match="AWS_CA_BUNDLE names no file"),
    ):
        Store("s3://bucket/a").exists("x")


def test_stores_that_arrive_in_a_process_share_one_client(s3_server: S3Server) -> None:
    bucket = f"s3://{s3_server.new_bucket()}"
    with environment(s3_server.environment()):
        sent = [pickle.dumps(Store(f"{bucket}/{name}")) for name in "ab"]
        stores = [pickle.loads(one) for one in sent]
        assert stores[0].filesystem is stores[1].filesystem
        stores[0].write_bytes("k", b"a")
        assert not stores[1].exists("k")
    with environment({**s3_server.environment(), "AWS_SECRET_ACCESS_KEY": "another"}):
        other = pickle.loads(sent[0])
        assert other.filesystem is not stores[0].filesystem
        with pytest.raises(StoreError):
            other.read_bytes("k")
    assert stores[0].read_bytes("k") == b"a"
