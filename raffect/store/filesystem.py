"""Endpoints, credentials, time-outs and retries of a store.

Credentials come from the environment or its profiles only (botocore's own chain), never from a
URI, an option or a file of raffect's.
"""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
# s3fs cuts a key off where this begins, so that all keys of such a store would be one object.
VERSION = "?versionId="
CONNECT_TIMEOUT_S = 5


@dataclass(frozen=True)
class Location:
    """A parsed store URI; `root` is the store as the file system names it, without a scheme."""

    uri: str
    scheme: str
    root: str


def locate(uri: str, option: str = "--store") -> Location:
    """Parse the URI that an option gave; SettingsError if it is no folder and no `s3://bucket/prefix`."""
    parts = _URI.match(uri)
    scheme = parts[1].lower() if parts else ""
    if parts and scheme == "s3":
        bucket, prefix = parts[2] or "", parts[3]
        if not bucket or re.search(r"[@?#*\[\]]", bucket):
            raise SettingsError(
                f"{uri!r} names no bucket.",
                "s3://bucket/prefix, credentials in the environment",
                f"Give the bucket, e.g. {option} s3://my-bucket/raffect.",
            )
        if VERSION in prefix:
            raise SettingsError(
                f"{uri!r} names a version of an object.",
                f"s3://bucket/prefix, without {VERSION}",
                "Leave it out, or give another prefix.",
            )
        root = f"{bucket}{prefix}".rstrip("/")
        return Location(f"s3://{root}", "s3", root)
    if scheme in ("", "file"):
        path = str(Path(parts[3] if parts else uri).expanduser().absolute())
        return Location(path, "file", path)
    raise SettingsError(
        f"{option} can't be of the kind {scheme!r}: {uri!r}.",
        "a folder, or s3://bucket/prefix",
        f"Give one of them with {option}.",
    )


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
    if os.environ.get("AWS_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT_URL_S3"):
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
