"""The S3 file system of stores: s3fs with retries, reads that continue, and literal paths.

Every request of s3fs passes `_call_s3`, and every body `_read`: they alone try again. botocore's
own retries and those of s3fs are off, as neither covers a body that breaks off, and none of them
has a bound on the time in all.
"""

from __future__ import annotations

import asyncio
import errno
import random
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import aiohttp
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    IncompleteReadError,
    SSLError,
)
from botocore.exceptions import ConnectionError as NoConnectionError
from botocore.parsers import ResponseParserError
from fsspec.asyn import sync, sync_wrapper
from s3fs import S3FileSystem
from s3fs.core import S3File
from s3fs.utils import FileExpired

from raffect.store.folder import allocate
from raffect.store.layout import deletion_order
from raffect.store.retry import Clock, GaveUpError

T = TypeVar("T")
ATTEMPTS = 6
"""Without a byte of progress; the pauses between them take 3 to 6 s in all."""
_PAUSE_S = 0.2
_DENIED_ATTEMPTS = 3
"""Rights and fresh credentials take a moment to reach all of a server's machines."""
_REFRESH_S = 10.0
"""The least time from one reading of the credentials to the next."""
RANGE = 1 << 25
"""Bytes of a large object that one request reads, beside others."""
_MOST_IN_BULK = 1000
"""Keys that one DeleteObjects may name."""
_PARALLEL = 16
_SINGLE_PUT = 5 << 30
"""The most bytes of an object that is not written in parts."""
_PASSING = (
    HTTPClientError,
    NoConnectionError,
    IncompleteReadError,
    ResponseParserError,
    aiohttp.ClientError,
    TimeoutError,
    ConnectionError,
)
_PASSING_CODES = ("RequestTimeout", "OperationAborted", "ConditionalRequestConflict", "SlowDown")
_PASSING_STATUS = frozenset({408, 425, 429, *range(500, 600)} - {501, 505, 507})
_DENIED = re.compile(
    "^40[13]$|AccessDenied|Forbidden|Unauthorized|ExpiredToken|InvalidToken|TokenRefreshRequired"
    "|InvalidAccessKeyId|InvalidClientTokenId|SignatureDoesNotMatch"
)
_LIBRARIES = (BotoCoreError, ClientError, aiohttp.ClientError, OSError)


class LiteralS3FileSystem(S3FileSystem):  # type: ignore[misc]  # s3fs has no types
    """s3fs, whose rm(), get() and copy() would take `*`, `?` and `[` in a path for a glob.

    Those expand every path, so that deleting `run[12]/models` deletes `run1/models` and leaves
    `run[12]/models`. Ray Train deletes old checkpoints through the same calls, so escaping paths
    in Store.delete would not be enough.
    """

    # Of the class, as unpickling makes the instance anew from its arguments.
    retries = 1
    _refreshed = 0.0

    async def _expand_path(
        self,
        path: Any,
        recursive: bool = False,
        maxdepth: int | None = None,
        assume_literal: bool = True,
    ) -> list[str]:
        found: list[str] = await super()._expand_path(
            path, recursive=recursive, maxdepth=maxdepth, assume_literal=True
        )
        return found

    async def _call_s3(self, method: str, *arguments: Any, **named: Any) -> Any:
        """A request, tried again where that may help.

        Raises:
            FileExistsError: A write under the condition that there is no such object met one.
        """
        body = named.get("Body")
        clock = Clock(len(body) if isinstance(body, bytes | bytearray | memoryview) else 0)
        try:
            return await self._persist(
                clock, lambda: self._once(clock, method, *arguments, **named)
            )
        except OSError as error:
            # s3fs looks for <Condition> in the answer, which many servers leave out.
            if named.get("IfNoneMatch") and _answer(error)[0] == 412:
                raise FileExistsError(errno.EEXIST, "exists", named.get("Key")) from error
            if _answer(error)[1] == "NoSuchUpload" and await self._is_complete(method, named):
                return {}
            raise

    async def _is_complete(self, method: str, named: dict[str, Any]) -> bool:
        """Whether an upload in parts is unknown as an attempt to complete it had done so."""
        if method != "complete_multipart_upload":
            return False
        found = await self._call_s3("head_object", Bucket=named["Bucket"], Key=named["Key"])
        parts = len(named["MultipartUpload"]["Parts"])
        return str(found.get("ETag", "")).endswith(f'-{parts}"')

    async def _once(self, clock: Clock, method: str, *arguments: Any, **named: Any) -> Any:
        try:
            async with clock.running():
                return await super()._call_s3(method, *arguments, **named)
        except FileNotFoundError as error:
            if any(_answer(error)):
                raise
            # No absent object, but a file of the client's, such as its certificates.
            raise OSError(errno.EIO, str(error)) from error
        except _LIBRARIES:
            raise
        except Exception as error:
            # Answers that are no HTTP or no XML end in many ways inside of these libraries.
            raise OSError(errno.EIO, f"{type(error).__name__}: {error}") from error

    async def _persist(
        self,
        clock: Clock,
        attempt: Callable[[], Awaitable[T]],
        progress: Callable[[], int] = lambda: 0,
    ) -> T:
        """What an attempt returns; GaveUpError, or its error where another one is of no use."""
        with clock.watched(progress):
            return await self._attempts(clock, attempt, progress)

    async def _attempts(
        self, clock: Clock, attempt: Callable[[], Awaitable[T]], progress: Callable[[], int]
    ) -> T:
        attempts = before = 0
        # By how often its kind is tried, so that errors of two kinds don't add up.
        failures: Counter[int] = Counter()
        while True:
            try:
                return await attempt()
            except Exception as error:
                attempts, most = attempts + 1, _attempts(error)
                if most == 1:
                    raise
                if progress() > before:
                    failures, before = Counter(), progress()
                failures[most] += 1
                pause = _PAUSE_S * 2 ** (failures[most] - 1) * random.uniform(0.5, 1)
                if failures[most] == most or clock.elapsed + pause > clock.limit:
                    raise GaveUpError(attempts, clock) from error
                if most == _DENIED_ATTEMPTS:
                    pause *= 4
                    await self._sign_anew()
            await asyncio.sleep(pause)

    async def _sign_anew(self) -> None:
        """Read the credentials again: botocore keeps those of a file as long as the session."""
        if time.monotonic() - self._refreshed > _REFRESH_S:
            self._refreshed = time.monotonic()
            await self.set_session(refresh=True)

    async def _cat_file(
        self, path: str, version_id: Any = None, start: Any = None, end: Any = None, **_: Any
    ) -> bytes:
        if min(start or 0, end or 0) < 0:
            start, end = await self._limits(path, start, end)
        return bytes(await self._read_buffer(path, start, end))

    async def _read_buffer(
        self, path: str, start: int | None = None, end: int | None = None
    ) -> memoryview:
        """The content of an object, or bytes of it, where they were put as they came."""
        bucket, key, _version = self.split_path(path)
        clock = Clock()
        for _attempt in range(ATTEMPTS):
            try:
                return await self._read(clock, bucket, key, start or 0, end)
            except FileExpired:
                continue
        raise OSError(errno.EBUSY, f"{path} is written anew each time that it is read")

    read_buffer = sync_wrapper(_read_buffer)

    async def _limits(self, path: str, start: int | None, end: int | None) -> tuple[int, int]:
        size = (await self._info(path))["size"]
        first, stop = start or 0, size if end is None else end
        return max(0, first + size if first < 0 else first), stop + size if stop < 0 else stop

    async def _read(
        self,
        clock: Clock,
        bucket: str,
        key: str,
        start: int,
        end: int | None,
        etag: str | None = None,
    ) -> memoryview:
        """Bytes from `start` to before `end` of an object; FileExpired if it is replaced."""
        into = _Body(start)
        first = _Part(bucket, key, start, end, clock, etag, into)
        await self._persist(clock, lambda: self._continue(first), lambda: first.read)
        parts = [first]
        if first.end is not None and first.stop < first.end:
            bounds = range(first.stop, first.end, RANGE)
            parts += [
                _Part(bucket, key, at, min(at + RANGE, first.end), clock, first.etag, into)
                for at in bounds
            ]
            await self._read_beside(parts[1:])
        return into.read(sum(part.read for part in parts))

    async def _read_beside(self, parts: Sequence[_Part]) -> None:
        room = asyncio.Semaphore(self.max_concurrency)

        async def read(part: _Part) -> None:
            async with room:
                await self._persist(part.clock, lambda: self._continue(part), lambda: part.read)

        tasks = [asyncio.create_task(read(part)) for part in parts]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def _continue(self, part: _Part) -> None:
        """Read on where the last attempt broke off, of the object that it read."""
        try:
            answer = await self._once(part.clock, "get_object", **part.request())
        except OSError as error:
            if _answer(error)[0] in (412, 416) and part.etag:
                raise FileExpired(part.key, part.etag) from error
            raise
        async with part.clock.running(), answer["Body"] as body:
            skip = part.accept(answer)
            while part.end is None or part.at < part.stop:
                chunk = await body.read(1 << 20)
                if not chunk and part.end is not None:
                    raise ConnectionError(f"{part.key} broke off at byte {part.at}.")
                if not chunk:
                    part.end = part.at
                    break
                dropped, skip = min(skip, len(chunk)), max(0, skip - len(chunk))
                part.take(chunk[dropped:])

    def _open(
        self, path: str, mode: str = "rb", block_size: int | None = None, **options: Any
    ) -> S3File:
        options["cache_type"] = options.get("cache_type") or self.default_cache_type
        return _File(self, path, mode, block_size or self.default_block_size, **options)

    async def _pipe_file(
        self, path: str, data: bytes, *arguments: Any, mode: str = "overwrite", **named: Any
    ) -> Any:
        if mode == "create":
            # Some servers ignore the condition of a write in parts.
            arguments, named = (), {**named, "chunksize": _SINGLE_PUT}
        return await super()._pipe_file(path, data, *arguments, mode=mode, **named)

    async def _is_object(self, path: str) -> bool:
        """Whether there is an object of that name; a prefix is none."""
        bucket, key, _ = self.split_path(path)
        try:
            await self._call_s3("head_object", Bucket=bucket, Key=key)
        except FileNotFoundError:
            return False
        return True

    is_object = sync_wrapper(_is_object)

    async def _listed(self, path: str, deep: bool) -> list[str]:
        """Paths of what lies directly below a prefix, or of all objects below it."""
        return [info["name"] for info in await self._lsdir(path, delimiter="" if deep else "/")]

    listed = sync_wrapper(_listed)

    async def _delete_keys(self, paths: Sequence[str]) -> None:
        """Delete exactly these objects of one bucket; one that is absent is no error.

        Servers that know no bulk deletion, and keys that it did not delete, get single requests,
        whose refusal is raised: s3fs takes a bulk deletion's errors for success.
        """
        for start in range(0, len(paths), _MOST_IN_BULK):
            named = [self.split_path(path)[:2] for path in paths[start : start + _MOST_IN_BULK]]
            deleted = await self._delete_in_bulk(named) if len(named) > 1 else set()
            left = [one for one in named if one[1] not in deleted]
            for first in range(0, len(left), _PARALLEL):
                some = left[first : first + _PARALLEL]
                await asyncio.gather(*(self._delete_one(*one) for one in some))

    delete_keys = sync_wrapper(_delete_keys)

    async def _delete_in_bulk(self, named: Sequence[tuple[str, str]]) -> set[str]:
        """The keys that the server says it has deleted."""
        wanted = {"Objects": [{"Key": key} for _, key in named], "Quiet": False}
        try:
            answer = await self._call_s3("delete_objects", Bucket=named[0][0], Delete=wanted)
        except OSError:
            return set()
        return {one["Key"] for one in answer.get("Deleted", [])}

    async def _delete_one(self, bucket: str, key: str) -> None:
        try:
            await self._call_s3("delete_object", Bucket=bucket, Key=key)
        except FileNotFoundError as error:
            if _answer(error)[1] == "NoSuchBucket":
                raise

    async def _rm(self, path: str | list[str], recursive: bool = False, **_: Any) -> None:
        for one in [path] if isinstance(path, str) else path:
            keys = await self._listed(one, deep=True) if recursive else []
            keys = keys if one.rstrip("/") in keys else [one, *keys]
            for group in deletion_order(keys):
                await self._delete_keys(group)


class _Body:
    """Where the bytes of an object from `start` on are put."""

    def __init__(self, start: int) -> None:
        self._start = start
        self._data = allocate(0)

    def take(self, at: int, chunk: bytes, size: int) -> None:
        """Put bytes that begin at `at`; of so many in all, as far as that is known."""
        first = at - self._start
        size = max(size, first + len(chunk))
        if size > len(self._data):
            # Where no answer tells the size, twice as much each time.
            grown = allocate(max(size, 2 * len(self._data)))
            grown[:first] = self._data[:first]
            self._data = grown
        self._data[first : first + len(chunk)] = chunk

    def read(self, size: int) -> memoryview:
        """What was put, from the first byte on."""
        return self._data[:size]


class _Part:
    """What has been read of a part of an object, from `start` to `end` (None: not known yet)."""

    def __init__(
        self,
        bucket: str,
        key: str,
        start: int,
        end: int | None,
        clock: Clock,
        etag: str | None,
        into: _Body,
    ) -> None:
        self.bucket, self.key, self.start, self.end = bucket, key, start, end
        self.clock, self.etag, self.into = clock, etag, into
        self.read = 0

    @property
    def at(self) -> int:
        """The next byte."""
        return self.start + self.read

    @property
    def stop(self) -> int:
        """Where this part ends: others are read beside it."""
        most = self.start + RANGE
        return most if self.end is None else min(most, self.end)

    def request(self) -> dict[str, str]:
        named = {"Bucket": self.bucket, "Key": self.key}
        if self.at:
            named["Range"] = f"bytes={self.at}-{'' if self.end is None else self.stop - 1}"
        # A weak ETag, as of a proxy that compresses, matches nothing.
        if self.etag and not self.etag.startswith("W/"):
            named["IfMatch"] = self.etag
        return named

    def accept(self, answer: dict[str, Any]) -> int:
        """Learn from the answer's headers; how many of its bytes come before the next one.

        Raises:
            FileExpired: It is of another object, as of a server that ignores If-Match.
        """
        etag = answer.get("ETag")
        if self.etag and etag and etag != self.etag:
            raise FileExpired(self.key, self.etag)
        self.etag = etag
        found = re.match(r"bytes (\d+)-\d+/(\d+)", answer.get("ContentRange") or "")
        begin, size = (int(found[1]), int(found[2])) if found else (0, answer.get("ContentLength"))
        if begin > self.at:
            raise ConnectionError(f"The server sent bytes from {begin} on, not from {self.at}.")
        if size is not None:
            self.end = size if self.end is None else min(self.end, size)
            self.clock.size = max(self.clock.size, self.end - self.start)
        return self.at - begin

    def take(self, chunk: bytes) -> None:
        chunk = chunk[: None if self.end is None else max(0, self.stop - self.at)]
        self.into.take(self.at, chunk, 0 if self.end is None else self.end - self.start)
        self.read += len(chunk)


class _File(S3File):  # type: ignore[misc]
    """An open object, whose ranges are read as whole objects are."""

    def _fetch_range(self, start: int, end: int) -> bytes:
        if start >= end:
            return b""
        etag = self.details.get("ETag")
        of = self.bucket, self.key, start, end, etag
        return bytes(sync(self.fs.loop, self.fs._read, Clock(), *of))


def _answer(error: BaseException | None) -> tuple[int, str]:
    """The status and the code of the server's answer that an error comes from; 0 if of none."""
    while error is not None and not isinstance(error, ClientError):
        error = error.__cause__
    if error is None:
        return 0, ""
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return int(status), str(error.response.get("Error", {}).get("Code", ""))


def _attempts(error: BaseException) -> int:
    """How often a request that meets this error is tried."""
    status, code = _answer(error)
    if status or code:
        if _DENIED.search(code):
            return _DENIED_ATTEMPTS
        passing = status in _PASSING_STATUS or code in _PASSING_CODES or "Throttl" in code
    else:
        passing = isinstance(error, _PASSING) and not isinstance(error, SSLError)
    return ATTEMPTS if passing else 1
