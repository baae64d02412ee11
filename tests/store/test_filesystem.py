"""What a user may give for a store: every form is one place, or refused with the reason."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from raffect.cli.app import run
from raffect.errors import SettingsError
from raffect.store import Store
from raffect.store.filesystem import ENDPOINTS, locate
from raffect.store.raw import RawFolder
from raffect.testing.s3 import environment


@pytest.mark.parametrize(
    ("uri", "same"),
    [
        ("s3://b/p/", "s3://b/p"),
        ("s3://b//p", "s3://b/p"),
        ("s3://b/p//q///", "s3://b/p/q"),
        ("s3://b/", "s3://b"),
        (" s3://b/p\n", "s3://b/p"),
        ("S3://b/p", "s3://b/p"),
        ("s3://b/my store/x+y%20z~", "s3://b/my store/x+y%20z~"),
        ("s3://b/überg/日本", "s3://b/überg/日本"),
        ("s3://b/run#2", "s3://b/run#2"),
        ("s3://b/run?", "s3://b/run?"),
        ("s3://b/user@host", "s3://b/user@host"),
        ("s3://Old_bucket.1/p", "s3://Old_bucket.1/p"),
    ],
)
def test_a_bucket_s_forms_are_one_place(uri: str, same: str):
    assert Store(uri).uri == same
    assert RawFolder.of(uri, "--images").uri == same
    assert Store(same).uri == same


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("a b/c", "a b/c"),
        ("x/../y/", "y"),
        ("link/../y", "y"),
        (".//x/./y", "x/y"),
        ("q?x=1", "q?x=1"),
        ("h#2", "h#2"),
        ("a%20b", "a%20b"),
        ("./run:1", "run:1"),
        ("file:y", "y"),
        ("file://{here}/my%20store", "my store"),
        ("file://localhost{here}/f", "f"),
        ("FILE:{here}/f", "f"),
        ("file://{here}/100%", "100%"),
        ("~/y", "home/y"),
    ],
)
def test_a_folder_s_forms_are_one_place(
    uri: str, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    here = str(tmp_path)
    assert Store(uri.format(here=here)).uri == f"{here}/{path}"
    assert RawFolder.of(uri.format(here=here), "--images").uri == f"{here}/{path}"


@pytest.mark.parametrize(
    ("uri", "word"),
    [
        ("hdfs://b/p", "of the kind 'hdfs'"),
        ("gs://b/p", "AWS_ENDPOINT_URL=https://storage.googleapis.com"),
        ("gs://b/p", "exist for S3 alone"),
        ("abfss://c@account.dfs.core.windows.net/p", "Azure does not speak S3"),
        ("az://c/p", "Azure does not speak S3"),
        ("https://server/b/p", "AWS_ENDPOINT_URL"),
        ("run:1", "./x:y"),
        ("C:\\store", "a folder"),
        ("s3://", "no bucket"),
        ("s3:///b/p", "no bucket"),
        ("s3:b/p", "no bucket"),
        ("s3://my bucket/p", "letters, digits"),
        ("s3://buck[et/p", "letters, digits"),
        ("s3://b?x/p", "letters, digits"),
        ("s3://b#x", "letters, digits"),
        ("s3://bucket:9000/p", "AWS_ENDPOINT_URL"),
        ("s3://b/p?versionId=1", "a version"),
        ("s3://b?region=eu-central-1", "AWS_DEFAULT_REGION"),
        ("s3://b/p?endpoint_override=http%3A%2F%2Fx", "AWS_ENDPOINT_URL"),
        ("s3://b/a/../c", "'..'"),
        ("s3://b/a\tc", "control character"),
        ("file://server/share", "another machine, 'server'"),
        ("file://", "empty"),
        ("", "empty"),
        ("  ", "empty"),
        ("a\0b", "NUL"),
        ("~nobody-of-this-name/x", "directory.\n"),
    ],
)
def test_what_would_be_another_place_is_refused(uri: str, word: str):
    with pytest.raises(SettingsError) as caught:
        locate(uri)
    assert word in str(caught.value)
    assert "--store" in str(caught.value)


@pytest.mark.parametrize(
    "uri",
    [
        "s3://AKIDKEY:wJalrXUtn@b/p",
        "gs://AKIDKEY:wJalrXUtn@b/p",
        "s3://AKIDKEY:wJalr/wJalrXUtn@b/p",
        "s3:AKIDKEY:wJalrXUtn@b/p",
        "s3a://AKIDKEY:wJalrXUtn@b/p",
        "https://AKIDKEY:wJalrXUtn@host:9000/b",
        "AKIDKEY:wJalrXUtn@b/p",
        "s3://b/p?access_key=AKIDKEY&secret_key=wJalrXUtn",
        "https://host/b?X-Amz-Signature=wJalrXUtn",
    ],
)
def test_credentials_in_a_uri_are_refused_and_never_printed(
    uri: str, capfd: pytest.CaptureFixture[str]
):
    commands = ["trials", "doctor", "submit --address http://127.0.0.1:9 -- tune va"]
    for command in commands:
        assert run([*command.split(), "--store", uri]) == 2
    if "//" in uri:
        assert run(["prepare", "--images", uri, "--annotations", uri]) == 2
    with environment({"RAFFECT_STORE": uri}):
        assert run(["trials"]) == 2
    said = "".join(capfd.readouterr())
    assert "wJalr" not in said
    assert "AKIDKEY" not in said.upper()
    assert said.count("Next: ") >= 3


def test_a_working_directory_that_is_gone_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(SettingsError, match="an absolute path"):
        locate("store")
    monkeypatch.undo()


@pytest.mark.parametrize("name", ENDPOINTS)
@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("127.0.0.1:9000", "begins with http:// or https://"),
        ("minio", "begins with http:// or https://"),
        ("ftp://minio:21", "no address"),
        ("http://", "no address"),
        ("http://minio:port", "no address"),
        ("http://minio:99999", "no address"),
        ("http://my host:9000", "no address"),
        ("http://[::1:9000", "no address"),
        ("http://KEY:wJalrXUtn@minio:9000", "a user or a password"),
    ],
)
def test_an_endpoint_that_is_none_names_its_variable(name: str, url: str, word: str):
    with environment({name: url}), pytest.raises(SettingsError, match=word) as caught:
        Store("s3://b/p").exists("x")
    assert name in caught.value.got
    assert "wJalr" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9", "https://s3.host.example", "http://[::1]:9"]
)
def test_an_endpoint_is_accepted(url: str):
    with environment({"AWS_ENDPOINT_URL": url}):
        assert Store("s3://b/p").filesystem is not None


def test_an_option_that_is_empty_is_not_the_default_store(capsys: pytest.CaptureFixture[str]):
    assert run(["trials", "--store", ""]) == 2
    assert "--store '' names no folder" in capsys.readouterr().err
    assert os.environ.get("RAFFECT_STORE") is None
