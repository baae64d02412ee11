"""moto's S3 with a write-ahead log: what it has acknowledged survives kill -9.

Runs as its own process (`python -m raffect.testing.durable FOLDER PORT`, with the credentials that
it is to demand in the environment), started by s3.py. moto keeps everything in memory; here every
request that changed something is written to a log and flushed to disk before it is answered, and
the log is replayed at the next start with the original times. Requests are serialised: the log has
the order of events, unlogged changes are never read, and of two conditional writes one wins.
"""

from __future__ import annotations

import io
import json
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypedDict

LOG = "requests.log"
USER = "raffect"
POLICY = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": ["s3:*", "iam:*"], "Resource": "*"}],
}
_READS = ("GET", "HEAD", "OPTIONS")
_REFUSED = (
    b"<Error><Code>NotImplemented</Code><Message>not logged: moto's own commands</Message></Error>"
)
_LENGTHS = 16
"""Bytes of each of the two lengths before a record."""

Environ = dict[str, Any]


class Head(TypedDict):
    """A logged request without its body: when it was answered, and its line and headers."""

    time: str
    environ: Environ


Application = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]


class RequestLog:
    """Requests in a file, each complete or absent.

    A record is the lengths of its two parts in hexadecimal digits, the request's head as JSON,
    and its body. A record that a kill cut short was never acknowledged, and is truncated away.
    """

    def __init__(self, path: Path) -> None:
        path.touch()
        self._path = path
        self._whole = 0

    def replay(self) -> Iterator[tuple[Head, bytes]]:
        """Head and body of all requests, oldest first."""
        with self._path.open("rb") as file:
            while True:
                lengths = file.read(2 * _LENGTHS)
                if len(lengths) < 2 * _LENGTHS:
                    break
                sizes = int(lengths[:_LENGTHS], 16), int(lengths[_LENGTHS:], 16)
                head, body = file.read(sizes[0]), file.read(sizes[1])
                if (len(head), len(body)) != sizes:
                    break
                self._whole = file.tell()
                yield json.loads(head), body
        os.truncate(self._path, self._whole)

    def append(self, head: Head, body: bytes) -> None:
        """Add a request; it is on disk when this returns."""
        data = json.dumps(head).encode()
        with self._path.open("ab") as file:
            file.write(f"{len(data):0{_LENGTHS}x}{len(body):0{_LENGTHS}x}".encode())
            file.write(data)
            file.write(body)
            file.flush()
            os.fsync(file.fileno())


class DurableApplication:
    """moto's WSGI application, which starts empty, with its changes logged and replayed.

    Raises:
        RuntimeError: On replay, moto refuses a request that it once granted.
    """

    def __init__(self, application: Application, log: RequestLog) -> None:
        self._application = application
        self._log = log
        self._lock = threading.Lock()
        for head, body in log.replay():
            _set_time(head["time"])
            status, _, _ = self._answer(_environ(head["environ"], body))
            if not status.startswith("2"):
                raise RuntimeError(f"{head['environ']['PATH_INFO']} was granted, now: {status}")

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request, after logging it if it changed something."""
        body = _read_body(environ)
        writes = environ["REQUEST_METHOD"] not in _READS
        if writes and environ["PATH_INFO"].startswith("/moto-api"):
            start_response("501 Not Implemented", [("Content-Type", "application/xml")])
            return [_REFUSED]
        environ["wsgi.input"] = io.BytesIO(body)
        with self._lock:
            now = datetime.now(UTC).isoformat()
            # Objects get the log's time, so that a replay reproduces it to the microsecond.
            _set_time(now)
            # Taken before the application adds entries of its own.
            line_and_headers = {k: v for k, v in environ.items() if isinstance(v, str | dict)}
            head: Head = {"time": now, "environ": line_and_headers}
            status, headers, answer = self._answer(environ)
            if writes and status.startswith("2"):
                self._keep(head, body)
        start_response(status, headers)
        return [answer]

    def _keep(self, head: Head, body: bytes) -> None:
        """Log a request.

        Multipart uploads have random ids that a replay can't reproduce: only their completion is
        logged, as one upload of the whole object. Parts of an unfinished one are lost in a kill,
        and the client's next request for it fails.
        """
        environ = head["environ"]
        query = environ.get("QUERY_STRING", "").split("&")
        names = {part.partition("=")[0] for part in query}
        if "uploadId" in names and environ["REQUEST_METHOD"] == "POST":
            body = _whole_object(environ["PATH_INFO"])
            head = {"time": head["time"], "environ": _in_one(environ, len(body))}
        elif names & {"uploads", "uploadId"}:
            return
        self._log.append(head, body)

    def _answer(self, environ: Environ) -> tuple[str, list[tuple[str, str]], bytes]:
        told: list[Any] = []

        def start(status: str, headers: list[tuple[str, str]], error: Any = None) -> None:
            told[:] = [status, headers]

        chunks = self._application(environ, start)
        try:
            answer = b"".join(chunks)
        finally:
            getattr(chunks, "close", lambda: None)()
        return told[0], told[1], answer


def _read_body(environ: Environ) -> bytes:
    if environ.get("CONTENT_LENGTH"):
        data: bytes = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        return data
    return environ["wsgi.input"].read() if environ.get("wsgi.input_terminated") else b""


def _in_one(environ: Environ, size: int) -> Environ:
    """The equivalent request that uploads an object of this size at once."""
    path = environ["PATH_INFO"]
    gone = ("HTTP_X_AMZ_CONTENT_SHA256", "HTTP_CONTENT_MD5", "HTTP_CONTENT_ENCODING")
    kept = {key: value for key, value in environ.items() if key not in gone}
    return {
        **kept,
        "REQUEST_METHOD": "PUT",
        "QUERY_STRING": "",
        "RAW_URI": path,
        "REQUEST_URI": path,
        "CONTENT_LENGTH": str(size),
        "CONTENT_TYPE": "application/octet-stream",
    }


def _whole_object(path: str) -> bytes:
    """The content of `/bucket/key` in moto."""
    from moto.core.models import DEFAULT_ACCOUNT_ID
    from moto.s3.models import s3_backends

    bucket, _, key = path.lstrip("/").partition("/")
    found = s3_backends[DEFAULT_ACCOUNT_ID]["aws"].get_object(bucket, key)
    if found is None:
        raise RuntimeError(f"moto took {path} and does not hold it")
    return bytes(found.value)


def _environ(plain: Environ, body: bytes) -> Environ:
    return {
        **plain,
        "wsgi.version": (1, 0),
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }


def _set_time(now: str) -> None:
    """Make moto stamp objects with this time."""
    from moto.s3 import models

    when = datetime.fromisoformat(now).replace(tzinfo=None)
    models.utcnow = lambda: when  # type: ignore[attr-defined]


def _demand(key: str, secret: str) -> None:
    """Admit only this user from now on, and check every signature."""
    from moto import settings
    from moto.core.models import DEFAULT_ACCOUNT_ID
    from moto.iam.models import iam_backends

    iam = iam_backends[DEFAULT_ACCOUNT_ID]["aws"]
    iam.create_user(region_name="us-east-1", user_name=USER)
    iam.put_user_policy(USER, "s3", json.dumps(POLICY))
    made = iam.create_access_key(USER)
    made.access_key_id, made.secret_access_key = key, secret
    settings.INITIAL_NO_AUTH_ACTION_COUNT = 0


def main(folder: str, port: str) -> None:
    """Serve the state in the folder's log."""
    from moto.moto_server.werkzeug_app import (
        DomainDispatcherApplication,
        MotoRequestHandler,
        create_backend_app,
    )
    from werkzeug.serving import run_simple

    log = RequestLog(Path(folder) / LOG)
    moto = DomainDispatcherApplication(create_backend_app)
    application = DurableApplication(moto, log)
    _demand(os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"])
    run_simple(
        "127.0.0.1", int(port), application, threaded=True, request_handler=MotoRequestHandler
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
