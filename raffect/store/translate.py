"""Storage errors of any library as one message that a user can act on.

The libraries' classes are known by the names in their ancestry, as importing botocore takes long
and a store in a folder needs none of it.
"""

from __future__ import annotations

import errno
import os
import re
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from raffect.errors import DamagedError, RaffectError, StoreAwayError, StoreError
from raffect.store.retry import GaveUpError

_LIBRARIES = frozenset({"botocore", "aiobotocore", "aiohttp", "fsspec", "s3fs"})
_AWAY = frozenset(
    {
        "botocore.ConnectionError",
        "botocore.HTTPClientError",
        "botocore.IncompleteReadError",
        "botocore.ResponseParserError",
        "aiohttp.ClientError",
        "builtins.ConnectionError",
        "builtins.TimeoutError",
    }
)
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_READS, _WRITES = ("s3:ListBucket", "s3:GetObject"), ("s3:PutObject", "s3:DeleteObject")
RIGHTS = f"{', '.join((*_READS, *_WRITES[:-1]))} and {_WRITES[-1]}"
"""What a key must be allowed in a store's bucket; in one of raw files only to list and to get."""
_RIGHTS = {
    "GetObject": "s3:GetObject and, for what is not there yet, s3:ListBucket",
    "HeadObject": "s3:GetObject and, for what is not there yet, s3:ListBucket",
    "HeadBucket": "s3:ListBucket",
    "ListObjectsV2": "s3:ListBucket",
    "DeleteObjects": "s3:DeleteObject",
    "CreateMultipartUpload": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "CompleteMultipartUpload": "s3:PutObject",
}
_KEYS = "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN, if there is one)"
_AGAIN = "and run the command again: it continues."
_ROOM = "a store with space left"


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
    chain = list(_chain(error))
    place = _Place(uri, option)
    answer = _Answer.of(chain)
    if answer is not None and answer.code == "NoSuchBucket":
        return StoreError(
            f"The bucket of {place} does not exist.",
            "an existing bucket",
            f"Create it, or correct {place.option}.",
        )
    if isinstance(error, FileNotFoundError):
        return None
    if isinstance(error, IsADirectoryError) and option is None:
        return DamagedError(
            f"{error.filename2 or error.filename} is a folder.",
            "the file that raffect wrote, or writes, under this name",
            "Take the folder away, and run the command again.",
        )
    if isinstance(error, ValueError) and str(error).startswith("Invalid endpoint"):
        # Of a profile: those of the environment were checked before.
        return StoreError(
            f"The AWS settings for {place} can't be used: {_redacted(str(error))}.",
            "an endpoint_url that begins with http:// or https://",
            "Correct it in ~/.aws/config, or the file that AWS_CONFIG_FILE names.",
        )
    if not isinstance(error, OSError) and not any(_modules(one) & _LIBRARIES for one in chain):
        return None
    if not re.match(r"\s*s3:", uri, re.IGNORECASE):
        return _of_folder(place, error)
    if answer is not None:
        return _of_answer(place, answer, _tried(chain))
    return _of_connection(place, chain)


@dataclass(frozen=True)
class _Place:
    """The store, or the raw folder that an option named, as messages call it."""

    uri: str
    named_by: str | None

    def __str__(self) -> str:
        return f"the {'folder' if self.named_by else 'store'} {self.uri}"

    @property
    def option(self) -> str:
        return self.named_by or "--store or RAFFECT_STORE"

    @property
    def use(self) -> str:
        return "read" if self.named_by else "read and write"


@dataclass(frozen=True)
class _Answer:
    """What a server has answered in place of what it was asked for."""

    status: int
    code: str
    words: str
    operation: str
    region: str

    @classmethod
    def of(cls, chain: Iterable[BaseException]) -> _Answer | None:
        for error in chain:
            found = getattr(error, "response", None)
            if isinstance(found, Mapping) and isinstance(said := found.get("Error"), Mapping):
                about = found.get("ResponseMetadata") or {}
                headers = about.get("HTTPHeaders") or {}
                region = said.get("Region") or headers.get("x-amz-bucket-region") or ""
                code, words = str(said.get("Code", "")), str(said.get("Message", ""))
                operation = str(getattr(error, "operation_name", ""))
                return cls(about.get("HTTPStatusCode") or 0, code, words, operation, region)
        return None

    def __str__(self) -> str:
        """The server's own words."""
        code = self.code if self.code != str(self.status) else ""
        words = self.words.rstrip(".") if self.words not in ("", self.code) else ""
        said = ": ".join(part for part in (code, words) if part)
        return f"{said} ({self.status})" if said and self.status else said or f"{self.status}"

    def has(self, pattern: str) -> bool:
        return re.search(pattern, self.code) is not None


def _of_answer(place: _Place, answer: _Answer, tried: str) -> StoreError:
    """The message for what a server answered, with its own code and words."""
    # HTML in place of XML may come from a proxy; the answer to HEAD has neither.
    proxy = proxy_note(_endpoint()) if answer.code in ("", str(answer.status)) else ""
    said = f" The server says: {answer}{tried}.{proxy}"
    if answer.has("Expired|TokenRefreshRequired|InvalidToken"):
        return StoreError(
            f"The session of the credentials for {place} has expired.{said}",
            "credentials that are valid now",
            f"Sign in again (`aws sso login`, or set fresh {_KEYS}), {_AGAIN}",
        )
    if answer.has("RequestTimeTooSkewed"):
        return StoreError(
            f"This machine's clock differs from that of the server of {place}.{said}",
            "a clock that is right to a few minutes",
            "Look at `date -u`; set the clock, e.g. by `timedatectl set-ntp true`, " + _AGAIN,
        )
    if answer.has("Quota|StorageFull|InsufficientStorage|NoSpace") or answer.status == 507:
        return StoreError(
            f"{_capital(place)} is full: a quota or a disk.{said}",
            _ROOM,
            f"Make room or let the quota be raised, {_AGAIN}",
        )
    if answer.has("InvalidObjectState"):
        return StoreError(
            f"An object of {place} is archived, in a storage class that can't be read.{said}",
            "objects in a storage class that can be read at once",
            f"Restore it (`aws s3api restore-object`), {_AGAIN}",
        )
    if answer.has("Redirect|AuthorizationHeaderMalformed|IllegalLocation|InvalidRegion") or (
        answer.status in (301, 307)
    ):
        now = os.environ.get("AWS_DEFAULT_REGION")
        there = f"AWS_DEFAULT_REGION={answer.region}" if answer.region else "AWS_DEFAULT_REGION"
        return StoreError(
            f"The bucket of {place} lies in another region than {now}, or behind another endpoint."
            f"{said}",
            "AWS_DEFAULT_REGION (and AWS_ENDPOINT_URL, if set) as the bucket's",
            f"Set {there} and run the command again.",
        )
    if answer.has("InvalidAccessKeyId|InvalidClientTokenId|SignatureDoesNotMatch"):
        return StoreError(
            f"{_capital(place)} refuses access: its server does not know these keys.{said}",
            f"credentials that may {place.use} there",
            f"Check {_KEYS}, and that AWS_ENDPOINT_URL is the server that they are for.",
        )
    if answer.status in (401, 403) or answer.has("AccessDenied|Forbidden|Disabled"):
        right = _RIGHTS.get(answer.operation or "GetObject") or f"s3:{answer.operation}"
        return StoreError(
            f"{_capital(place)} refuses access: this request needs {right}.{said}",
            f"credentials that may {place.use} there",
            f"Let the bucket's policy grant {' and '.join(_READS) if place.named_by else RIGHTS};"
            " or set another AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.",
        )
    if answer.status in (405, 501) or answer.has("NotImplemented|MethodNotAllowed"):
        return StoreError(
            f"The server of {place} can't do what a store needs ({answer.operation}).{said}",
            "a server with conditional writes (If-None-Match); `raffect doctor` tries all",
            f"Choose another server, or give another {place.option}.",
        )
    if answer.status >= 500 or answer.status == 429 or answer.has("SlowDown|Throttl|Timeout"):
        return StoreAwayError(
            f"The server of {place} does not answer as it should.{said}",
            "a server that is up and not overloaded",
            f"Wait a while, or ask who runs the server, {_AGAIN}",
        ).because(f"{answer.code} {answer.status or ''}".strip())
    return StoreError(
        f"The server of {place} refuses {answer.operation or 'a request'}.{said}",
        f"a bucket that can be {place.use.replace('write', 'written')}",
        f"Mend it, or give another {place.option}.",
    )


def _of_connection(place: _Place, chain: list[BaseException]) -> StoreError:
    """The message where no server has answered, or not as one of S3."""
    first, names = _deepest(chain), {name for one in chain for name in _ancestry(one)}
    # aiohttp's texts hold the address of a Python object.
    said = re.sub(r" ssl:(<[^>]*>|\w+)", "", _redacted(str(first)))
    words = f"{type(first).__name__}: {said}" if said else type(first).__name__
    kinds = " ".join(sorted(names))
    if re.search(r"SSL|Certificate", kinds):
        trust = "verify" in str(chain).lower()
        return StoreError(
            f"The server of {place} has no certificate that this machine trusts: {words}"
            if trust
            else f"The server of {place} does not speak TLS with this machine: {words}",
            "a certificate of an authority that is known here, or AWS_CA_BUNDLE",
            "Let AWS_CA_BUNDLE name the file with the authority's certificate (on every node),"
            " or begin AWS_ENDPOINT_URL with http:// if it has none.",
        )
    if re.search(r"botocore\.\w*(Credential|Token|SSO|Login|MFA)", kinds):
        missing = re.search(r"NoCredentials|PartialCredentials", kinds)
        return StoreError(
            f"There are no credentials for {place}."
            if missing
            else f"The credentials for {place} can't be had: {words}",
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or a role of the machine",
            "Set them in the environment, or sign in (`aws sso login`); run the command again.",
        )
    if re.search(r"botocore\.(Profile|Config|Invalid|NoRegion|Unknown|Infinite)", kinds):
        return StoreError(
            f"The AWS settings for {place} can't be used: {words}",
            "AWS_PROFILE, AWS_CONFIG_FILE, AWS_DEFAULT_REGION and AWS_ENDPOINT_URL that fit",
            "Correct them and run the command again.",
        )
    if names & _AWAY:
        proxy = proxy_note(_endpoint()) or (" A proxy was used." if "Proxy" in kinds else "")
        return StoreAwayError(
            f"The server of {place} does not answer ({_redacted(_endpoint())}):"
            f" {words}{_tried(chain)}.{proxy}",
            "a server that is up and can be reached from here"
            + (", or no_proxy with its host" if proxy else ""),
            f"Check AWS_ENDPOINT_URL and the network, {_AGAIN}",
        ).because(_in_few_words(chain))
    return StoreError(
        f"{_capital(place)} can't be used: {words}",
        f"a bucket that can be {place.use.replace('write', 'written')}",
        f"Mend it, or give another {place.option}.",
    )


def _of_folder(place: _Place, error: BaseException) -> StoreError:
    """The message for a folder of this machine, or one that is mounted there."""
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    file = getattr(error, "filename", None)
    what = f"{reason} ({file})" if file and str(file) != place.uri else reason
    if isinstance(error, PermissionError):
        return StoreError(
            f"{_capital(place)} refuses access: {what}.",
            f"a folder that this user may {place.use}",
            f"Change its permissions, or give another {place.option}.",
        )
    if getattr(error, "errno", None) in _FULL:
        return StoreError(
            f"{_capital(place)} has no space left: {what}.", _ROOM, f"Make room, {_AGAIN}"
        )
    return StoreError(
        f"{_capital(place)} can't be used: {type(error).__name__}: {what}",
        f"a folder that can be {place.use.replace('write', 'written')}",
        f"Mend it, or give another {place.option}.",
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and its causes."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _deepest(chain: list[BaseException]) -> BaseException:
    """The error nearest to the cause that has words of its own and is of the storage libraries."""
    met = [one for one in chain if not isinstance(one, GaveUpError)] or chain
    known = [one for one in met if _modules(one) & _LIBRARIES and str(one)]
    return known[-1] if known else next((one for one in met if str(one)), met[0])


def _in_few_words(chain: list[BaseException]) -> str:
    """The system's words, such as `Connection refused`, or else the error's kind."""
    for error in reversed(chain):
        if isinstance(error, OSError) and error.errno not in (None, errno.EIO):
            # Those of name services are negative, and not among the system's.
            return os.strerror(error.errno) if error.errno > 0 else str(error.strerror)
    return type(_deepest(chain)).__name__


def _ancestry(error: BaseException) -> Iterator[str]:
    for kind in type(error).__mro__:
        yield f"{kind.__module__.split('.')[0]}.{kind.__name__}"


def _modules(error: BaseException) -> set[str]:
    return {kind.__module__.split(".")[0] for kind in type(error).__mro__}


def _tried(chain: Iterable[BaseException]) -> str:
    """How often and how long, as the end of a sentence."""
    found = [str(one) for one in chain if isinstance(one, GaveUpError)]
    return f"; {found[0]}" if found else ""


def proxy_note(url: str) -> str:
    """A sentence on the proxy through which requests to a URL go, with a space before it."""
    parts = urlsplit(url)
    proxy = urllib.request.getproxies().get(parts.scheme)
    if not proxy or urllib.request.proxy_bypass(parts.netloc):
        return ""
    return f" Requests go through the proxy {_redacted(proxy)} ({parts.scheme}_proxy, no_proxy)."


def _endpoint() -> str:
    named = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    return named or "https://s3.amazonaws.com"


def _redacted(text: str) -> str:
    """Without the password that a URL holds."""
    return re.sub(r"(\w+://)[^/@\s]+@", r"\1***@", text)


def _capital(place: _Place) -> str:
    return f"T{str(place)[1:]}"
