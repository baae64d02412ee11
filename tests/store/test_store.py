"""What every store must do, whether a folder or a bucket."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest

from raffect.errors import SettingsError, StoreError
from raffect.store import Store
from raffect.testing.s3 import S3Server, environment, start_s3_server


@pytest.fixture(params=["folder", "s3"])
def any_store(request: pytest.FixtureRequest) -> Store:
    name = "store" if request.param == "folder" else "s3_store"
    return request.getfixturevalue(name)


def test_what_is_written_is_read_back(any_store: Store):
    any_store.write_bytes("a/b.bin", b"one")
    any_store.write_bytes("a/b.bin", b"two")
    any_store.write_json("a/c.json", {"x": [1, "é"]})
    assert any_store.read_bytes("a/b.bin") == b"two"
    assert any_store.read_json("a/c.json") == {"x": [1, "é"]}
    assert any_store.names("a") == ["b.bin", "c.json"]
    assert any_store.files("") == ["a/b.bin", "a/c.json"]


def test_what_is_absent_is_absent(any_store: Store):
    assert not any_store.exists("nothing")
    assert any_store.names("nothing") == []
    assert any_store.files("nothing") == []
    any_store.delete("nothing")
    with pytest.raises(FileNotFoundError):
        any_store.read_bytes("nothing")


def test_a_folder_is_not_a_file(any_store: Store):
    any_store.write_bytes("a/b", b"x")
    assert any_store.exists("a/b")
    assert not any_store.exists("a")


def test_delete_takes_all_below(any_store: Store):
    for key in ("a/b", "a/c/d", "e"):
        any_store.write_bytes(key, b"x")
    any_store.delete("a")
    assert any_store.files("") == ["e"]


def test_create_lets_exactly_one_writer_win(any_store: Store):
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda i: any_store.create("lock", b"%d" % i), range(8)))
    assert won.count(True) == 1
    assert any_store.read_bytes("lock") == b"%d" % won.index(True)


def test_files_of_a_killed_writer_are_not_seen(store: Store):
    store.write_bytes("a/whole", b"x")
    store.write_bytes("a/.half.0123", b"x")
    assert store.names("a") == ["whole"]
    assert store.files("a") == ["a/whole"]


def test_a_store_travels_as_its_uri(any_store: Store):
    any_store.write_bytes("k", b"v")
    data = pickle.dumps(any_store)
    assert pickle.loads(data).read_bytes("k") == b"v"
    assert b"SECRET" not in data


def test_upload_and_download(any_store: Store, tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "1.txt").write_text("one")
    any_store.upload(tmp_path / "x", "up")
    assert (any_store.download("up") / "1.txt").read_text() == "one"


@pytest.mark.parametrize(
    ("uri", "word"),
    [("gs://b/p", "gs"), ("s3://", "no bucket"), ("s3://key:secret@bucket/p", "no bucket")],
)
def test_a_uri_of_another_kind_is_refused(uri: str, word: str):
    with pytest.raises(SettingsError, match=word):
        Store(uri)


def test_a_wrong_key_is_one_message(s3_store: Store):
    with environment({"AWS_SECRET_ACCESS_KEY": "wrong"}):
        stranger = Store(s3_store.uri)
        with pytest.raises(StoreError, match="refuses access"):
            stranger.write_bytes("k", b"v")
        with pytest.raises(StoreError, match="refuses access"):
            stranger.names("")


def test_a_missing_bucket_is_one_message(s3_environment: dict[str, str]):
    missing = Store("s3://raffect-there-is-no-such-bucket/x")
    with pytest.raises(StoreError, match="does not exist"):
        missing.write_bytes("k", b"v")


def test_a_dead_server_is_one_message():
    server: S3Server = start_s3_server()
    with environment(server.environment()):
        store = Store(f"s3://{server.new_bucket()}")
        store.write_bytes("k", b"v")
        server.stop()
        with pytest.raises(StoreError, match="does not answer"):
            store.read_bytes("k")
        with pytest.raises(StoreError, match="does not answer"):
            Store(store.uri).exists("k")
