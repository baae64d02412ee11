"""Every error of a storage library is one message, with the server's own words."""

from __future__ import annotations

import errno
import inspect
import ssl

import aiohttp
import botocore.exceptions
import fsspec.exceptions
import pytest
from botocore.exceptions import ClientError
from s3fs.errors import translate_boto_error

from raffect.errors import StoreAwayError, StoreError
from raffect.store.translate import explain

LIBRARIES = (botocore.exceptions, aiohttp, fsspec.exceptions)
URI = "s3://bucket/store"


def of_each_class() -> list[Exception]:
    found = []
    for library in LIBRARIES:
        for _, kind in inspect.getmembers(library, inspect.isclass):
            if issubclass(kind, Exception):
                # Constructors want all kinds of arguments; a subclass in the wild, too.
                later = type(f"Later{kind.__name__}", (kind,), {"__str__": lambda self: "words"})
                found.append(later.__new__(later))
    return found


def test_no_error_of_the_libraries_is_unknown():
    errors = of_each_class()
    assert len(errors) > 100
    told = {type(error).__name__: explain(URI, error) for error in errors}
    assert {name for name, message in told.items() if message is None} == set()
    for message in told.values():
        assert message is not None
        assert URI in message.got
        assert message.allowed
        assert message.next_step


ANSWERS = [
    (400, "ExpiredToken", "GetObject", StoreError, ["expired", "sso login"]),
    (403, "RequestTimeTooSkewed", "GetObject", StoreError, ["clock", "date -u"]),
    (403, "QuotaExceeded", "PutObject", StoreError, ["full", "room"]),
    (507, "XMinioStorageFull", "PutObject", StoreError, ["full", "room"]),
    (403, "InvalidObjectState", "GetObject", StoreError, ["archived", "restore"]),
    (301, "PermanentRedirect", "ListObjectsV2", StoreError, ["region", "AWS_DEFAULT_REGION=eu"]),
    (403, "AccessDenied", "DeleteObject", StoreError, ["refuses access", "s3:DeleteObject"]),
    (403, "AccessDenied", "ListObjectsV2", StoreError, ["refuses access", "s3:ListBucket"]),
    (403, "AccessDenied", "UploadPart", StoreError, ["refuses access", "s3:PutObject"]),
    (403, "403", "HeadObject", StoreError, ["refuses access", "s3:GetObject", "s3:ListBucket"]),
    (403, "AccessDenied", "GetObject", StoreError, ["not there yet, s3:ListBucket"]),
    (403, "SignatureDoesNotMatch", "PutObject", StoreError, ["keys", "AWS_SECRET_ACCESS_KEY"]),
    (404, "NoSuchBucket", "PutObject", StoreError, ["bucket", "does not exist"]),
    (501, "NotImplemented", "PutObject", StoreError, ["If-None-Match", "doctor"]),
    (503, "SlowDown", "GetObject", StoreAwayError, ["does not answer as", "Wait"]),
    (500, "InternalError", "GetObject", StoreAwayError, ["does not answer as", "continues"]),
    (418, "Teapot", "GetObject", StoreError, ["refuses GetObject"]),
]


@pytest.mark.parametrize(("status", "code", "operation", "kind", "words"), ANSWERS)
def test_the_servers_answer_is_told(
    status: int, code: str, operation: str, kind: type[StoreError], words: list[str]
):
    answer = {
        "Error": {"Code": code, "Message": "its own words.", "Region": "eu-central-1"},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    raw = ClientError(answer, operation)
    for error in (raw, translate_boto_error(raw)):
        told = explain(URI, error)
        assert type(told) is kind
        assert all(word in str(told) for word in words)
        if code != "NoSuchBucket":
            assert "its own words" in told.got


def test_an_absent_object_is_the_callers_matter():
    answer = {"Error": {"Code": "NoSuchKey", "Message": "x"}, "ResponseMetadata": {}}
    assert explain(URI, translate_boto_error(ClientError(answer, "GetObject"))) is None
    assert explain(URI, ZeroDivisionError()) is None


def test_certificates_are_named():
    error = botocore.exceptions.SSLError(
        endpoint_url="https://h", error=ssl.SSLCertVerificationError("certificate verify failed")
    )
    assert "certificate" in str(explain(URI, error))
    assert "AWS_CA_BUNDLE" in str(explain(URI, error))


@pytest.mark.parametrize(("no_proxy", "is_told"), [("", True), ("10.0.0.1", False)])
def test_a_proxy_that_was_used_is_told(
    monkeypatch: pytest.MonkeyPatch, no_proxy: str, is_told: bool
):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://10.0.0.1:9000")
    monkeypatch.setenv("http_proxy", "http://me:secret@proxy:3128")
    monkeypatch.setenv("no_proxy", no_proxy)
    error = botocore.exceptions.EndpointConnectionError(endpoint_url="http://10.0.0.1:9000")
    told = explain(URI, error)
    assert isinstance(told, StoreAwayError)
    assert ("proxy http://***@proxy:3128" in told.got) is is_told
    assert "secret" not in str(told)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/x/y"), ["refuses", "/x/y"]),
        (OSError(errno.ENOSPC, "No space left on device"), ["no space left", "Make room"]),
        (OSError(errno.EROFS, "Read-only file system", "/x/y"), ["Read-only", "/x/y"]),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "/x"), ["Not a directory"]),
    ],
)
def test_a_folder_is_never_told_of_aws(error: OSError, words: list[str]):
    told = str(explain("/x", error))
    assert all(word in told for word in words)
    assert "AWS" not in told
    assert "bucket" not in told
