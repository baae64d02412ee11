"""A wire to an S3 server on which requests and answers come to harm, planned or at random."""

from __future__ import annotations

import http.client
import os
import random
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal, get_args
from urllib.parse import urlsplit

Fault = Literal["500", "503", "403", "reset", "stall", "lost", "cut", "drip", "etag", "quota"]
"""What happens to a request.

500, 503, 403, quota, reset, stall: the server never sees it; the client gets that answer, a closed
connection or nothing. lost: the server has done it, the client can't know. cut, drip, etag: of
the server's answer only half the body arrives, or a byte at a time, or with another ETag.
"""
FAULTS: tuple[Fault, ...] = get_args(Fault)[:-1]
"""Those that pass; a quota does not."""
_REFUSALS = {
    "500": (500, "InternalError"),
    "503": (503, "SlowDown"),
    "403": (403, "AccessDenied"),
    "quota": (403, "QuotaExceeded"),
}


@dataclass(frozen=True)
class Request:
    """What passes: a method, a path with its query, and whether it writes under a condition."""

    method: str
    path: str
    is_conditional: bool = False

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


Where = Callable[[Request], bool]


class Wire:
    """Passes requests on to a server.

    Attributes:
        endpoint: To be used instead of the server's.
        requests: All that have come, those that a fault met among them.
        injected: How often each fault happened.
        strips_condition: Errors come without <Condition>, as from Ceph, MinIO and others.
        stall_s: How long a stalled request is held before the connection is closed.
        on_injected: Called once, at the next fault's end, before the client's next request.
        drip_s: Seconds from one byte of a dripping body to the next.
    """

    def __init__(self, server: str) -> None:
        self.target = urlsplit(server).netloc
        self.requests: list[Request] = []
        self.injected: Counter[str] = Counter()
        self.strips_condition = False
        self.stall_s = 60.0
        self.drip_s = 0.5
        self.on_injected: Callable[[], object] | None = None
        self._lock = threading.Lock()
        self._planned: list[tuple[Fault, Where]] = []
        self._random: tuple[float, Sequence[Fault]] = (0.0, ())
        self._rng = random.Random(0)
        self._away: tuple[int, float] | None = None
        self._back_at = 0.0
        self._listener = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.endpoint = f"http://127.0.0.1:{self._listener.server_port}"
        threading.Thread(target=self._listener.serve_forever, daemon=True).start()

    def inject(self, fault: Fault, times: int = 1, where: Where = lambda request: True) -> None:
        """Let the next requests that match meet a fault."""
        with self._lock:
            self._planned += [(fault, where)] * times

    def forget(self) -> None:
        """Let no planned fault happen any more."""
        with self._lock:
            self._planned.clear()

    def inject_at_random(
        self, share: float, seed: int = 0, faults: Sequence[Fault] = FAULTS
    ) -> None:
        """Let this share of all requests meet one of the faults; 0 ends it."""
        with self._lock:
            self._random = share, faults
            self._rng = random.Random(seed)

    def go_away(self, after: int, seconds: float) -> None:
        """Meet all requests with a closed connection for a while, after so many have passed."""
        with self._lock:
            self._away = len(self.requests) + after, seconds

    def lose(self, answers: int) -> None:
        """Lose the answers to the next conditional writes."""
        self.inject("lost", answers, lambda request: request.is_conditional)

    @property
    def lost(self) -> int:
        """How many answers were lost."""
        return self.injected["lost"]

    @contextmanager
    def counting(self) -> Iterator[list[str]]:
        """The requests of a block, as text; filled at its end."""
        before, found = len(self.requests), list[str]()
        yield found
        found += map(str, self.requests[before:])

    def fault_of(self, request: Request) -> Fault | None:
        """Note a request; what is to happen to it."""
        with self._lock:
            self.requests.append(request)
            share, faults = self._random
            fault = self._rng.choice(faults) if self._rng.random() < share else None
            for index, (planned, where) in enumerate(self._planned):
                if where(request):
                    fault = planned
                    del self._planned[index]
                    break
            if self._away and len(self.requests) > self._away[0]:
                self._back_at = time.monotonic() + self._away[1]
                self._away = None
            if time.monotonic() < self._back_at:
                fault = "reset"
            if fault:
                self.injected[fault] += 1
            return fault

    def cut(self) -> None:
        """End it."""
        self._listener.shutdown()
        self._listener.server_close()


@contextmanager
def wire_to(server: str) -> Iterator[Wire]:
    """A wire for the time of a block."""
    wire = Wire(server)
    try:
        yield wire
    finally:
        wire.cut()


def _handler(wire: Wire) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            is_conditional = "If-None-Match" in self.headers
            fault = wire.fault_of(Request(self.command, self.path, is_conditional))
            if fault in _REFUSALS:
                status, code = _REFUSALS[fault]
                text = f"<Error><Code>{code}</Code><Message>injected</Message></Error>"
                self._answer(status, [("Content-Type", "application/xml")], text.encode())
            elif fault == "reset":
                self._break_off()
            elif fault == "stall":
                self.connection.settimeout(wire.stall_s)
                with suppress(OSError):
                    # Returns when the client gives up.
                    self.connection.recv(1)
                self._break_off()
            else:
                self._forward(body, fault)

        def _forward(self, body: bytes, fault: Fault | None) -> None:
            onward = http.client.HTTPConnection(wire.target, timeout=30)
            # As they came, the name of the host among them: it is part of what was signed.
            onward.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                onward.putheader(name, value)
            try:
                onward.endheaders(body)
                answer = onward.getresponse()
                data = answer.read()
            except OSError:  # The server itself is away.
                self._break_off()
                return
            finally:
                onward.close()
            if fault == "lost":
                self._break_off()
                return
            headers = answer.getheaders()
            if fault == "etag":
                others = [(name, value) for name, value in headers if name.lower() != "etag"]
                headers = [*others, ("ETag", '"00000000000000000000000000000000"')]
            if wire.strips_condition:
                data = re.sub(b"<Condition>.*?</Condition>", b"", data)
            length = answer.getheader("Content-Length") if self.command == "HEAD" else None
            self._answer(answer.status, headers, data, fault, length)

        def _answer(
            self,
            status: int,
            headers: list[tuple[str, str]],
            data: bytes,
            fault: Fault | None = None,
            length: str | None = None,
        ) -> None:
            self.send_response_only(status)
            for name, value in headers:
                if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                    self.send_header(name, value)
            self.send_header("Content-Length", length or str(len(data)))
            self.end_headers()
            if self.command == "HEAD":
                return
            with suppress(OSError):  # The client has gone.
                if fault == "cut":
                    self.wfile.write(data[: len(data) // 2])
                    self._break_off(reset=False)
                elif fault == "drip":
                    for index in range(len(data)):
                        self.wfile.write(data[index : index + 1])
                        time.sleep(wire.drip_s)
                else:
                    self.wfile.write(data)

        def _break_off(self, reset: bool = True) -> None:
            then, wire.on_injected = wire.on_injected, None
            if then:
                then()
            self.close_connection = True
            with suppress(OSError):
                if reset:
                    # Without lingering, close() sends RST, which what came before may not survive.
                    option = struct.pack("ii", 1, 0)
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, option)
                    os.close(self.connection.detach())
                else:
                    self.connection.shutdown(socket.SHUT_RDWR)

        def __getattr__(self, name: str) -> Callable[[], None]:
            if name.startswith("do_"):
                return self._pass_on
            raise AttributeError(name)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing on the screen."""

    return Handler
