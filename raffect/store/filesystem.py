"""Endpoints, credentials, time-outs and retries of a store.

Credentials come from the environment or its profiles only (botocore's own chain), never from a
URI, an option or a file of raffect's.
"""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import fsspec

from raffect.errors import SettingsError, StoreError

# Many servers other than AWS answer 411 to the checksums that recent clients send by default.
# botocore and pyarrow read these variables when they create their first client.
CHECKSUMS = {
    "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
    "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
}
# Not urllib's parser: it would cut a folder's name off at its first `?` or `#`.
_URI = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*):(?://([^/]*))?(.*)", re.DOTALL)
_QUERY = re.compile(r"\?[\w.-]+=")
_BUCKET = re.compile(r"[a-zA-Z0-9._-]{1,255}")
# s3fs cuts a key off where this begins, so that all keys of such a prefix would be one object.
VERSION = "?versionId="
CONNECT_TIMEOUT_S = 5
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
"""Variables that name the server; the first that is set counts."""


# gcsfs and adlfs know writes that fail where there is an object, which is all that the journal and
# the lease need. What s3.py adds to s3fs they lack.
_ONLY_S3 = (
    " Requests that are tried again within a bounded time, reads that go on and deletions that are"
    " checked exist for S3 alone."
)
_GOOGLE = (
    "Google's buckets speak S3, too: AWS_ENDPOINT_URL=https://storage.googleapis.com, an HMAC key"
    " as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and s3://bucket/prefix. `raffect doctor`"
    " tells whether conditional writes hold there; where not, they can't be a store."
)
_AZURE = (
    "Azure does not speak S3: copy what is there to a folder or an S3 bucket (e.g. by `rclone"
    " copy`), and name that."
)
_OTHERS = {
    **dict.fromkeys(("gs", "gcs"), _GOOGLE),
    **dict.fromkeys(("az", "abfs", "abfss", "adl", "wasb", "wasbs"), _AZURE),
}


@dataclass(frozen=True)
class Location:
    """A parsed store URI; `root` is the store as the file system names it, without a scheme."""

    uri: str
    scheme: str
    root: str


def locate(uri: str, option: str = "--store") -> Location:
    """Parse the URI that an option gave.

    Only what can mean one place alone is put right: blanks around a URI, slashes too many, `..`
    in a folder's path, `%20` in a file:// URI.

    Raises:
        SettingsError: It is no folder and no `s3://bucket/prefix`, or would name another place
            than was meant. Credentials and the values of a query are not in the message.
    """
    parts = _URI.match(uri.strip())
    if parts is None:
        return _folder(local_path(uri, option))
    scheme, host, rest = parts[1].lower(), parts[2], parts[3]
    if scheme == "file":
        if host not in (None, "", "localhost"):
            raise SettingsError(
                f"{option} {uri!r} names a folder of another machine, {host!r}.",
                "file:///folder, with three slashes, or the folder's path",
                f"Give {option} the path by which this machine reaches the folder.",
            )
        return _folder(local_path(unquote(rest, errors="surrogateescape"), option))
    # Azure's name a container before the @.
    names = scheme in _OTHERS and host is not None and ":" not in host
    if not names and ("@" in (host or "") or ("@" in rest and (host is None or ":" in host))):
        raise SettingsError(
            f"{option} has credentials in it, before @{_without_query(uri.rpartition('@')[2])}.",
            "s3://bucket/prefix, credentials in the environment",
            "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, instead.",
        )
    if scheme == "s3":
        return _bucket(uri, host or "", rest, option)
    server = f"Set AWS_ENDPOINT_URL to the server and give {option} s3://bucket/prefix."
    do = server if scheme in ("http", "https") else f"Give one of them with {option}."
    raise SettingsError(
        f"{option} can't be of the kind {scheme!r}: {_without_query(uri)!r}."
        + _ONLY_S3 * (scheme in _OTHERS),
        "a folder (./x:y where its name has a colon), or s3://bucket/prefix",
        _OTHERS.get(scheme, do),
    )


def local_path(typed: str | Path, option: str) -> Path:
    """The absolute path of a folder, with `~` expanded and without `..`; links are kept.

    Raises:
        SettingsError: It is empty, or can't be made absolute.
    """
    try:
        if "\0" in str(typed) or not str(typed).strip():
            raise ValueError("it is empty, or has a NUL in it")
        path = Path(typed).expanduser().absolute()
    except (ValueError, RuntimeError, OSError) as error:
        # RuntimeError: nobody knows this home folder. OSError: the working directory is gone.
        why = getattr(error, "strerror", None) or str(error).rstrip(".")
        raise SettingsError(
            f"{option} {str(typed)!r} names no folder: {why}.",
            "the path of a folder",
            f"Give {option} an absolute path.",
        ) from None
    # What `..` means behind a link only the file system knows.
    return Path(os.path.realpath(path)) if ".." in path.parts else path


def _folder(path: Path) -> Location:
    return Location(str(path), "file", str(path))


def _bucket(uri: str, bucket: str, rest: str, option: str) -> Location:
    prefix = "/".join(filter(None, rest.split("/")))
    problem, do = "", f"Give the bucket, e.g. {option} s3://my-bucket/raffect."
    if _QUERY.search(uri):
        problem = "has a query, which can't name an endpoint, a region or a version of an object"
        do = "Leave it out, and set AWS_ENDPOINT_URL or AWS_DEFAULT_REGION where it named one."
    elif not bucket:
        problem = "names no bucket"
    elif re.fullmatch(r".*:\d*", bucket):
        problem = "names a server with its port, and no bucket"
        do = f"Set AWS_ENDPOINT_URL to http(s)://host:port, and give {option} s3://bucket/prefix."
    elif not _BUCKET.fullmatch(bucket):
        problem = "names no bucket that can be: letters, digits, '.', '-' and '_' are allowed"
    elif not prefix.isprintable() or {".", ".."} & {*prefix.split("/")}:
        problem = "has a part that is '.' or '..', or a control character"
        do = "Give another prefix."
    if problem:
        raise SettingsError(
            f"{option} {_without_query(uri)!r} {problem}.",
            "s3://bucket/prefix, credentials in the environment",
            do,
        )
    root = f"{bucket}/{prefix}".rstrip("/")
    return Location(f"s3://{root}", "s3", root)


def _without_query(uri: str) -> str:
    """For messages: its values may be credentials."""
    query = _QUERY.search(uri)
    return f"{uri[: query.end()]}..." if query else uri


def _check_endpoints() -> None:
    """Raise SettingsError if requests can't go where the environment says."""
    from botocore.utils import is_valid_endpoint_url, is_valid_ipv6_endpoint_url

    for name in ENDPOINTS:
        url = os.environ.get(name)
        if not url:
            continue
        try:
            parts = urlsplit(url)
            valid = is_valid_endpoint_url(url) or is_valid_ipv6_endpoint_url(url)
            valid = valid and parts.scheme in ("http", "https") and parts.port != 0
        except ValueError:
            valid = False
        if "@" in url:
            problem = "has a user or a password in it"
        elif not valid:
            problem = f"is {_without_query(url)!r}, no address of a server"
        else:
            continue
        raise SettingsError(
            f"{name} {problem}.",
            "http://host:port or https://host:port, without credentials",
            f"Correct {name}"
            + ("" if "://" in url else "; it begins with http:// or https://")
            + ". Credentials have variables of their own, e.g. AWS_ACCESS_KEY_ID." * ("@" in url),
        )


def shared_filesystem(location: Location) -> Any:
    """The same for all callers of a process in the same environment: its requests take its own.

    A new client takes 0.2 s, and then a connection; as many as there are tasks of Ray Data.
    """
    if location.scheme == "file":
        return open_filesystem(location)
    # Addresses and credentials are of the environment, and no process may use its parent's client.
    known = tuple(sorted(of for of in os.environ.items() if of[0].startswith("AWS_")))
    return _open_once(os.getpid(), known)


@lru_cache(4)
def _open_once(process: int, environment: tuple[tuple[str, str], ...]) -> Any:
    return open_filesystem(Location("", "s3", ""))


def open_filesystem(location: Location) -> Any:
    """The fsspec file system of a location; sends no request."""
    if location.scheme == "file":
        return fsspec.filesystem("file", auto_mkdir=True)
    for name, value in CHECKSUMS.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("AWS_DEFAULT_REGION", os.environ.get("AWS_REGION", "us-east-1"))
    settings: dict[str, Any] = {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "read_timeout": 20,
        # LiteralS3FileSystem's retries are the only ones: two or three layers of them would hide a
        # dead server for minutes.
        "retries": {"total_max_attempts": 1, "mode": "standard"},
    }
    _check_endpoints()
    if any(map(os.environ.get, ENDPOINTS)):
        # Virtual-hosted buckets (bucket.host) resolve only at AWS.
        settings["s3"] = {"addressing_style": "path"}
    bundle = os.environ.get("AWS_CA_BUNDLE")
    if bundle and not Path(bundle).is_file():
        raise StoreError(
            f"AWS_CA_BUNDLE names no file on {socket.gethostname()}: {bundle}.",
            "a file with the certificates of the authorities to be trusted, on every node",
            "Correct or unset AWS_CA_BUNDLE, or copy the file there.",
        )
    # Slow to import, and stores in folders don't need it.
    from raffect.store.s3 import LiteralS3FileSystem

    # fsspec would return a cached instance even if the credentials have changed since.
    return LiteralS3FileSystem(
        config_kwargs=settings, use_listings_cache=False, skip_instance_cache=True
    )
