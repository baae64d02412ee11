"""The S3 server that may be killed: what it has answered is there again."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from raffect.errors import StoreError
from raffect.store import Store
from raffect.testing.durable import LOG, RequestLog
from raffect.testing.s3 import DurableS3Server, environment, start_durable_s3_server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[DurableS3Server]:
    server = start_durable_s3_server(tmp_path)
    with environment(server.environment()):
        yield server
    server.stop()


def open_store(server: DurableS3Server) -> Store:
    return Store(f"s3://{server.new_bucket()}/a/prefix")


def details(store: Store) -> dict[str, tuple[Any, ...]]:
    """Size, digest and time of all objects."""
    found = store.filesystem.find(store.path(""), detail=True)
    return {key: (of["size"], of["ETag"], of["LastModified"]) for key, of in found.items()}


@pytest.mark.slow
def test_after_a_kill_everything_is_as_it_was(server: DurableS3Server) -> None:
    store = open_store(server)
    for i in range(20):
        store.write_bytes(f"a/{i}", b"%d" % i * i)
    store.write_bytes("a/3", b"again")
    store.delete("a/4")
    assert store.create("lock", b"mine")
    before = details(store)
    for _ in range(2):
        server.kill()
        with pytest.raises(StoreError, match="does not answer"):
            store.hurried().read_bytes("a/3")
        server.start()
        assert details(store) == before
        assert store.read_bytes("a/3") == b"again"
        assert not store.exists("a/4")
        assert not store.create("lock", b"theirs")
    assert store.read_bytes("lock") == b"mine"


@pytest.mark.slow
def test_a_wrong_key_is_refused_also_after_a_kill(server: DurableS3Server) -> None:
    store = open_store(server)
    server.kill()
    server.start()
    with (
        environment({"AWS_SECRET_ACCESS_KEY": "wrong"}),
        pytest.raises(StoreError, match="refuses access"),
    ):
        Store(store.uri).write_bytes("a", b"x")
    # The refused request is no part of the log.
    server.kill()
    server.start()
    assert store.files("") == []


@pytest.mark.slow
def test_what_was_granted_in_the_midst_of_writes_survives(server: DurableS3Server) -> None:
    store = open_store(server).hurried()
    granted: list[str] = []

    def write(thread: int) -> None:
        with suppress(StoreError):
            for i in range(1000):
                key = f"{thread}-{i}"
                store.write_bytes(key, key.encode())
                granted.append(key)

    threads = [threading.Thread(target=write, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    while len(granted) < 40:
        threads[0].join(0.01)
    server.kill()
    for thread in threads:
        thread.join()
    server.start()
    left = store.files("")
    assert set(granted) <= set(left)
    # At most the request that was not answered any more, one of each thread.
    assert len(left) <= len(granted) + len(threads)
    assert all(store.read_bytes(key) == key.encode() for key in left)


def test_of_many_conditional_writes_one_wins(server: DurableS3Server) -> None:
    store = open_store(server)
    won: list[int] = []

    def create(i: int) -> None:
        if store.create("lock", b"%d" % i):
            won.append(i)

    threads = [threading.Thread(target=create, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    server.kill()
    server.start()
    assert store.read_bytes("lock") == b"%d" % won[0]


def test_an_upload_in_parts_survives_once_it_has_ended(server: DurableS3Server) -> None:
    import boto3

    bucket = server.new_bucket()
    # Of a session of its own: the default one keeps the keys of whichever test used it first.
    client = boto3.session.Session().client("s3", endpoint_url=server.endpoint)
    data = bytes(range(256)) * 2**15
    upload = client.create_multipart_upload(Bucket=bucket, Key="a/large one")["UploadId"]
    parts = []
    for number, part in enumerate((data[: 5 * 2**20], data[5 * 2**20 :]), start=1):
        sent = client.upload_part(
            Bucket=bucket, Key="a/large one", UploadId=upload, PartNumber=number, Body=part
        )
        parts.append({"PartNumber": number, "ETag": sent["ETag"]})
    client.complete_multipart_upload(
        Bucket=bucket, Key="a/large one", UploadId=upload, MultipartUpload={"Parts": parts}
    )
    client.create_multipart_upload(Bucket=bucket, Key="never ended")
    for _ in range(2):
        server.kill()
        server.start()
        assert client.get_object(Bucket=bucket, Key="a/large one")["Body"].read() == data
        listed = client.list_objects_v2(Bucket=bucket)["Contents"]
        assert [one["Key"] for one in listed] == ["a/large one"]


@pytest.mark.parametrize("left", [0, 1, 20, 40, 60, 80])
def test_a_half_written_record_is_cut_off(tmp_path: Path, left: int) -> None:
    path = tmp_path / LOG
    log = RequestLog(path)
    assert list(log.replay()) == []
    log.append({"n": 1}, b"one")
    log.append({"n": 2}, b"")
    whole = path.read_bytes()
    log.append({"n": 3, "name": "x" * 30}, b"three")
    path.write_bytes(path.read_bytes()[: len(whole) + left])
    again = RequestLog(path)
    assert list(again.replay()) == [({"n": 1}, b"one"), ({"n": 2}, b"")]
    assert path.read_bytes() == whole
    again.append({"n": 4}, b"four")
    assert [body for _, body in RequestLog(path).replay()] == [b"one", b"", b"four"]
