"""Stores that are folders: killed while deleting, without hard links, and their errors' words."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from raffect.store import Store, folder
from raffect.store.layout import deletion_order
from raffect.store.translate import explain

KILLED = """
import os, signal, sys
from raffect.store import Store
left = int(sys.argv[2])
def count(event, arguments):
    global left
    if event in ("os.remove", "os.rmdir") and (left := left - 1) < 0:
        os.kill(os.getpid(), signal.SIGKILL)
store = Store(sys.argv[1])
sys.addaudithook(count)
store.delete("models/m")
"""
KEYS = ("a.bin", "manifest.json", "parts/a.json", "plan.json", "z.bin", "inner/manifest.json")


def test_manifests_go_first_and_plans_last():
    keys = [f"m/{name}" for name in KEYS]
    first, between, last = deletion_order(keys)
    assert first == ["m/manifest.json", "m/inner/manifest.json"]
    assert between == ["m/a.bin", "m/parts/a.json", "m/z.bin"]
    assert last == ["m/plan.json"]
    assert deletion_order([]) == []


@pytest.mark.parametrize("done", [0, 1, 2, 3, 5, 7])
def test_killed_while_deleting_no_manifest_is_left_over_missing_files(store: Store, done: int):
    for name in KEYS:
        store.write_bytes(f"models/m/{name}", b"x")
    ended = subprocess.run([sys.executable, "-c", KILLED, store.uri, str(done)], check=False)
    assert ended.returncode == -9
    left = store.files("models/m")
    assert len(left) == max(0, len(KEYS) - done)
    assert ("models/m/manifest.json" in left) == (done == 0)
    assert ("models/m/plan.json" in left) == bool(left)
    store.delete("models/m")
    assert not Path(store.path("models/m")).exists()


def test_what_links_lead_to_is_kept(store: Store, tmp_path: Path):
    for name in ("other/file", "elsewhere/below/file"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(b"x")
    store.write_bytes("a/b/c", b"x")
    Path(store.path("a/folder")).symlink_to(tmp_path / "other")
    Path(store.path("a/gone")).symlink_to(tmp_path / "nothing")
    Path(store.path("linked")).symlink_to(tmp_path / "elsewhere")
    store.delete("a")
    store.delete("linked")
    assert (tmp_path / "other/file").exists()
    assert not Path(store.path("a")).exists()
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert Path(store.path("linked")).is_symlink()


@pytest.fixture(params=["EPERM", "EOPNOTSUPP", "ENOSYS"])
def no_links(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As exFAT, SMB and gcsfuse answer."""
    code = getattr(errno, request.param)

    def refuse(*paths: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", refuse)


@pytest.mark.usefixtures("no_links")
def test_without_hard_links_one_writer_wins_and_nothing_half_written_is_seen(store: Store):
    data = [bytes([65 + i]) * 100_000 for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda one: store.create("lock", one), data))
    assert won.count(True) == 1
    assert store.read_bytes("lock") == data[won.index(True)]
    assert not store.create("lock", b"later")
    assert [path.name for path in Path(store.path("")).iterdir()] == ["lock"]


@pytest.mark.usefixtures("no_links")
def test_the_claim_of_a_killed_writer_does_not_stay(store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(folder, "_CLAIM_S", 0.1)
    store.write_bytes("other", b"x")
    Path(store.path(".lock.claim")).touch()
    assert store.create("lock", b"one")
    assert store.names("") == ["lock", "other"]


@pytest.mark.parametrize(
    ("code", "word"),
    [
        (errno.EACCES, "refuses access"),
        (errno.EPERM, "refuses access"),
        (errno.EROFS, "Read-only file system"),
        (errno.ENOSPC, "No space left"),
        (errno.ENOTDIR, "Not a directory"),
        (errno.ENAMETOOLONG, "too long"),
        (errno.ESTALE, "Stale"),
        (errno.EIO, "Input/output"),
    ],
)
@pytest.mark.parametrize("option", [None, "--images"])
def test_a_folder_has_no_credentials_and_no_bucket(code: int, word: str, option: str | None):
    """Also where its name says `Forbidden` or `NoSuchBucket`."""
    uri = "/data/Forbidden NoSuchBucket curlCode"
    told = explain(uri, OSError(code, os.strerror(code), f"{uri}/plan.json"), option)
    assert told is not None
    assert word in told.got
    assert f"{uri}/plan.json" in told.got
    said = str(told)
    assert not any(name in said for name in ("AWS", "bucket that", "credential", "policy"))
    assert code == errno.ENOSPC or (option or "--store") in told.next_step
