"""What every store must do, whether a folder or a bucket."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
from pyarrow.fs import FSSpecHandler, PyFileSystem

from raffect.errors import StoreError
from raffect.store import Store, s3
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


def test_exactly_the_named_keys_are_deleted(any_store: Store):
    keys = [f"a/{i}" for i in range(5)]
    for key in (*keys, "a/1/below", "a/10"):
        if not (any_store.is_local and key == "a/1/below"):
            any_store.write_bytes(key, b"x")
    any_store.delete_keys([*keys[1:], "absent"])
    left = ["a/0", "a/10"] if any_store.is_local else ["a/0", "a/1/below", "a/10"]
    assert any_store.files("") == left
    any_store.delete_keys([])


@pytest.mark.slow
def test_a_refused_deletion_is_an_error(s3_server: S3Server, s3_store: Store):
    """Of one key and of several: s3fs takes the errors that a bulk deletion lists for done."""
    for key in ("a/1", "a/2"):
        s3_store.write_bytes(key, b"x")
    with environment(s3_server.user_who_may("s3:GetObject", "s3:PutObject", "s3:ListBucket")):
        stranger = Store(s3_store.uri)
        for refused in (["a/1"], ["a/1", "a/2"]):
            with pytest.raises(StoreError, match="refuses"):
                stranger.delete_keys(refused)
        with pytest.raises(StoreError, match="refuses"):
            stranger.delete("a")
    assert s3_store.files("") == ["a/1", "a/2"]


def test_a_folder_is_deleted_and_not_its_neighbour(any_store: Store):
    names = ["a", "manifest.json", "parts/a", "plan.json"]
    for name in names:
        any_store.write_bytes(f"m/{name}", b"x")
        any_store.write_bytes(f"m2/{name}", b"x")
    any_store.delete("m")
    assert any_store.files("") == [f"m2/{name}" for name in names]


PATTERNS = ["run*", "run?", "run[12]", "[!x]un1", "run{1,2}", "run#1"]


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.slow
def test_what_looks_like_a_glob_is_a_name(any_store: Store, pattern: str):
    """In a store's URI and in a key: what it would match stays, and it is gone itself."""
    root, keys = any_store, ["models/a", "models/b/c", "models2/d"]
    neighbours = [Store(f"{root.uri}/{name}") for name in ("run1", "run2", "run", "xun1")]
    named = Store(f"{root.uri}/{pattern}")
    assert named.uri == root.where(pattern)
    for store in (named, *neighbours):
        for key in keys:
            store.write_bytes(key, store.uri.encode())
    assert named.files("") == keys
    assert named.names("") == ["models", "models2"]
    assert named.read_bytes("models/a") == named.uri.encode()
    assert not named.exists("models/x")
    assert not named.create("models/a", b"other")

    named.delete("models")
    assert named.files("") == ["models2/d"]
    named.delete("models")
    named.delete("models2/d")
    root.delete(pattern)
    assert named.files("") == []
    assert all(store.files("") == keys for store in neighbours)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_ray_train_deletes_no_neighbours_checkpoints(any_store: Store, pattern: str):
    """It goes through pyarrow, which asks the store's file system."""
    for folder in (pattern, "run1"):
        any_store.write_bytes(f"{folder}/checkpoint/a", b"x")
        any_store.write_bytes(f"{folder}/b", b"x")
    filesystem = PyFileSystem(FSSpecHandler(any_store.filesystem))
    filesystem.delete_dir(any_store.path(f"{pattern}/checkpoint"))
    filesystem.delete_file(any_store.path(f"{pattern}/b"))
    assert any_store.files("") == ["run1/b", "run1/checkpoint/a"]
    copy = pickle.loads(pickle.dumps(any_store.filesystem))
    assert type(copy) is type(any_store.filesystem)


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


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_dead_server_is_one_message():
    server: S3Server = start_s3_server()
    with environment(server.environment()):
        store = Store(f"s3://{server.new_bucket()}")
        store.write_bytes("k", b"v")
        server.stop()
        with pytest.raises(StoreError, match="does not answer"):
            store.hurried().read_bytes("k")
        with pytest.raises(StoreError, match="does not answer"):
            Store(store.uri).exists("k")


@pytest.mark.parametrize("size", [0, 1, 70_000, s3.RANGE + 5])
def test_large_files_are_read_into_memory_that_is_kept(any_store: Store, size: int) -> None:
    data = bytes(range(251)) * (size // 251 + 1)
    any_store.write_bytes("k", data[:size])
    found = any_store.read_buffer("k")
    assert found == data[:size] == any_store.read_bytes("k")
    with pytest.raises(FileNotFoundError):
        any_store.read_buffer("absent")
