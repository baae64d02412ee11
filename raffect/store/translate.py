"""Storage errors of any library as one message that a user can act on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from raffect.errors import RaffectError, StoreAwayError, StoreError

_DENIED = (
    "ACCESS_DENIED",
    "SIGNATURE_DOES_NOT_MATCH",
    "Forbidden",
    "AccessDenied",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "InvalidClientTokenId",
    "ExpiredToken",
)
_ELSEWHERE = ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraint")
_DOWN = (
    "EndpointConnectionError",
    "ConnectTimeoutError",
    "ReadTimeoutError",
    "ConnectionClosedError",
    "ClientConnectorError",
    "HTTPClientError",
    "ResponseStreamingError",
    "IncompleteReadError",
    "ClientPayloadError",
    "ServerDisconnectedError",
    "curlCode",
)


# Their errors that are no OSError are a user's, too: a region, a bucket's name or a profile.
_LIBRARIES = frozenset({"botocore", "aiobotocore", "aiohttp"})


@contextmanager
def translated(uri: str, option: str | None = None) -> Iterator[None]:
    """Raise StoreError in place of the storage libraries' errors about the store at `uri`.

    With an option it is the raw folder that this option named, which is only read.
    FileNotFoundError passes unless the bucket itself is missing: only the caller knows whether
    an absent file is the user's mistake.
    """
    try:
        yield
    except RaffectError:
        raise
    except Exception as error:
        message = explain(uri, error, option)
        if message is None:
            raise
        raise message from error


def explain(uri: str, error: BaseException, option: str | None = None) -> StoreError | None:
    """The message for a storage error; None if it is not one that a user can fix."""
    text = _chain(error)
    what = "folder" if option else "store"
    use = "read" if option else "read and write"
    option = option or "--store or RAFFECT_STORE"
    if "NoSuchBucket" in text or "bucket does not exist" in text:
        return StoreError(
            f"The bucket of the {what} {uri} does not exist.",
            "an existing bucket",
            f"Create it, or correct {option}.",
        )
    if isinstance(error, FileNotFoundError):
        return None
    if "NoCredentialsError" in text or "PartialCredentialsError" in text:
        return StoreError(
            f"There are no credentials for the {what} {uri}.",
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or a role of the machine",
            "Set them in the environment and give the command again.",
        )
    if any(name in text for name in _ELSEWHERE):
        return StoreError(
            f"The bucket of the {what} {uri} lies in another region than"
            f" {os.environ.get('AWS_DEFAULT_REGION')}: {error}",
            "AWS_DEFAULT_REGION as the bucket's",
            "Set it and give the command again.",
        )
    if any(name in text for name in _DENIED) or isinstance(error, PermissionError):
        return StoreError(
            f"The {what} {uri} refuses access.",
            f"credentials (or file permissions) that may {use} there",
            "Check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and the bucket's policy.",
        )
    if any(name in text for name in _DOWN):
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        return StoreAwayError(
            f"The server of the {what} {uri} does not answer ({endpoint or 'AWS'}).",
            "a server that is up and can be reached from here",
            "Check AWS_ENDPOINT_URL and the network, and give the command again: it continues.",
        )
    if isinstance(error, OSError) or type(error).__module__.split(".")[0] in _LIBRARIES:
        return StoreError(
            f"The {what} {uri} can't be used: {type(error).__name__}: {error}",
            f"a folder or bucket that can be {use.replace('write', 'written')}"
            + ("" if what == "folder" else ", with space left"),
            f"Mend it, or give another {option}.",
        )
    return None


def _chain(error: BaseException | None) -> str:
    """Type names and messages of an error and its causes, one a line."""
    parts: list[str] = []
    while error is not None and len(parts) < 10:
        parts.append(f"{type(error).__name__}: {error}")
        error = error.__cause__ or error.__context__
    return "\n".join(parts)
