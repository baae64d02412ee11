"""What raw folders must do, on a disk and in a bucket: the same files are the same entries."""

from __future__ import annotations

import errno
import os
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from s3fs.errors import translate_boto_error

from raffect.errors import SettingsError, StoreError
from raffect.store import Store
from raffect.store.raw import Entry, EntryKind, RawFolder
from raffect.store.translate import explain
from raffect.testing.s3 import environment

Fill = Callable[[dict[str, bytes]], RawFolder]
FILE, FOLDER = EntryKind.FILE, EntryKind.FOLDER
ODD = "a video 50% of [it]? #1 *+&=ü"


@pytest.fixture(params=["folder", "bucket"])
def fill(request: pytest.FixtureRequest, tmp_path: Path) -> Fill:
    """Writes files below a new root, which it returns."""
    if request.param == "folder":
        store = Store(str(tmp_path / "root"))
    else:
        store = Store(f"{request.getfixturevalue('s3_store').uri}/root")

    def write(files: dict[str, bytes]) -> RawFolder:
        for name, data in files.items():
            store.write_bytes(name, data)
        return RawFolder.of(store.uri, "--images")

    return write


def test_entries_are_what_lies_directly_below(fill: Fill):
    root = fill({f"{ODD}/00001.jpg": b"12345", "video/a/b": b"x", "video.txt": b"", ".hid": b"1"})
    assert root.entries() == [
        Entry(".hid", FILE, 1),
        Entry(ODD, FOLDER),
        Entry("video", FOLDER),
        Entry("video.txt", FILE, 0),
    ]
    odd = root / ODD
    assert (odd.name, odd.entries()) == (ODD, [Entry("00001.jpg", FILE, 5)])
    assert odd.read("00001.jpg", 5) == b"12345"
    assert (root / "video").entries() == [Entry("a", FOLDER)]
    assert root.read("video.txt", 10) == b""
    assert root.parent is not None
    assert root.parent.entries() == [Entry("root", FOLDER)]
    assert root.has_file("video.txt")
    assert not root.has_file("video")
    assert not root.has_file("absent")


def test_what_is_not_there_is_told(fill: Fill):
    root = fill({"video/1.jpg": b"x"})
    assert root.trouble() is None
    assert str((root / "absent").trouble()).startswith("does not exist")
    assert str((root / "video" / "1.jpg").trouble()).startswith("is a ")
    assert RawFolder.of("x" * 300, "--frames").trouble() == "can't be listed: File name too long"
    with pytest.raises(FileNotFoundError):
        (root / "absent").entries()
    with pytest.raises(NotADirectoryError):
        (root / "video" / "1.jpg").entries()
    with pytest.raises(FileNotFoundError):
        (root / "video").read("2.jpg", 10)


def test_no_more_is_read_than_the_limit(fill: Fill):
    with pytest.raises(OSError, match="a file above 4 B") as caught:
        fill({"a": b"12345"}).read("a", 4)
    assert caught.value.errno == errno.EFBIG


def test_a_folder_travels_as_its_uri(fill: Fill):
    video = fill({"video/a": b"x"}) / "video"
    data = pickle.dumps((video, video / "b"))
    assert b"SECRET" not in data
    copy, below = pickle.loads(data)
    assert copy == video
    assert (copy.typed, copy.read("a", 1)) == (video.typed, b"x")
    assert copy._root is below._root


def test_a_folder_is_the_same_however_it_is_typed(fill: Fill):
    root = fill({"a": b"x"})
    again = RawFolder.of(f"{root.uri}/", "--images")
    assert again == root
    assert len({root, again}) == 1
    assert (again.name, again.typed) == ("root", f"{root.uri}/")
    assert (again / "v").typed == f"{root.uri}/v"


def test_links_count_as_what_they_lead_to(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"12")
    os.mkfifo(tmp_path / "pipe")
    targets = {"to_file": "file", "to_folder": ".", "loop": "loop", "dangling": "/nowhere/1.jpg"}
    for name, target in targets.items():
        (tmp_path / name).symlink_to(target)
    assert RawFolder.of(tmp_path, "--frames").entries() == [
        Entry("dangling", EntryKind.BROKEN),
        Entry("file", FILE, 2),
        Entry("loop", EntryKind.BROKEN),
        Entry("pipe", EntryKind.OTHER),
        Entry("to_file", FILE, 2),
        Entry("to_folder", FOLDER),
    ]
    assert RawFolder.of(tmp_path / "to_folder", "--frames") == RawFolder.of(tmp_path, "--frames")
    assert RawFolder.of(tmp_path / "loop", "--frames").trouble() == "does not exist"


def test_a_folder_with_a_colon_is_no_uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("video:9").mkdir()
    assert RawFolder.of("video:9", "--frames").name == "video:9"
    assert RawFolder.of(f"file://{tmp_path}/video:9", "--frames").trouble() is None


def test_what_consoles_make_of_a_folder_is_no_file(s3_store: Store):
    """An empty object named like the prefix; a key that s3fs would read as a version is left."""
    for key in ("root/", "root/video/", "root/video/00001.jpg", "root/x?versionId=1"):
        s3_store.filesystem.call_s3(
            "put_object", Bucket=s3_store.path("").split("/")[0], Key=f"a/prefix/{key}", Body=b""
        )
    root = RawFolder.of(s3_store.where("root"), "--images")
    assert root.entries() == [Entry("video", FOLDER), Entry("x?versionId=1", EntryKind.BROKEN)]
    assert (root / "video").entries() == [Entry("00001.jpg", FILE)]


@pytest.mark.slow
def test_more_than_a_page_of_objects_is_listed_and_read_by_threads(s3_store: Store):
    files = {s3_store.path(f"v/{n:05d}.jpg"): b"%d" % n for n in range(1, 1011)}
    s3_store.filesystem.pipe(files)
    folder = RawFolder.of(s3_store.where("v"), "--frames")
    names = [entry.name for entry in folder.entries()]
    assert names == [f"{n:05d}.jpg" for n in range(1, 1011)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda name: int(folder.read(name, 9)), names[:99])) == [
            *range(1, 100)
        ]


def test_a_slash_too_many_is_no_other_prefix(s3_store: Store):
    s3_store.write_bytes("v/1.jpg", b"x")
    typed = s3_store.where("v/").replace("/a/prefix", "//a/prefix")
    folder = RawFolder.of(typed, "--frames")
    assert (folder.typed, [entry.name for entry in folder.entries()]) == (typed, ["1.jpg"])


@pytest.mark.parametrize(
    ("typed", "word"),
    [
        ("gs://b/crops", "--images can't be of the kind 'gs'"),
        ("https://host/crops", "--images can't be of the kind 'https'"),
        ("s3://", "--images s3://"),
        ("s3:/bucket/crops", "names no bucket"),
        ("s3://no bucket's name/crops", "--images .* names no bucket that can be"),
    ],
)
def test_a_uri_of_another_kind_is_refused(typed: str, word: str):
    with pytest.raises(SettingsError, match=word):
        RawFolder.of(typed, "--images")


CLOSED = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}


@pytest.mark.parametrize(
    ("variables", "bucket", "word"),
    [
        ({}, "raffect-there-is-none", "bucket of the folder .* does not exist"),
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "", "refuses access"),
        ({"AWS_PROFILE": "none"}, "", "can't be used"),
        (CLOSED, "", "does not answer"),
    ],
)
@pytest.mark.slow
def test_trouble_with_a_bucket_is_one_message_with_what_was_typed(
    s3_store: Store, variables: dict[str, str], bucket: str, word: str
):
    typed = f"s3://{bucket}/crops/" if bucket else s3_store.where("crops/")
    with environment(variables), pytest.raises(StoreError, match=word) as caught:
        RawFolder.of(typed, "--images").entries()
    assert typed in caught.value.got
    assert "--store" not in str(caught.value)


def test_no_credentials_is_one_message(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(StoreError, match="no credentials for the folder s3://bucket/crops"):
        RawFolder.of("s3://bucket/crops", "--images").entries()


def test_another_region_is_told_with_its_name():
    """As AWS answers; no server here knows regions."""
    answer = {"Code": "AuthorizationHeaderMalformed", "Message": "expecting 'eu-west-1'"}
    error = translate_boto_error(ClientError({"Error": answer}, "ListObjectsV2"))
    told = explain("s3://bucket/crops", error, "--images")
    assert told is not None
    assert "another region" in told.got
    assert "eu-west-1" in told.got
    assert "AWS_DEFAULT_REGION" in told.allowed
