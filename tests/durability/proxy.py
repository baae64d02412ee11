"""A wire to the S3 server that loses an answer: the server has done it, the client can't know."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


class Wire:
    """Passes requests on to a server.

    Attributes:
        endpoint: To be used instead of the server's.
        lost: How many answers were lost.
    """

    def __init__(self, server: str) -> None:
        self.target = urlsplit(server).netloc
        self.lost = 0
        self._to_lose = 0
        self._listener = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.endpoint = f"http://127.0.0.1:{self._listener.server_port}"
        threading.Thread(target=self._listener.serve_forever, daemon=True).start()

    def lose(self, answers: int) -> None:
        """Lose the answers to the next conditional writes."""
        self._to_lose = answers

    def takes(self, headers: http.client.HTTPMessage) -> bool:
        """Whether the answer to a request gets lost."""
        if not self._to_lose or "If-None-Match" not in headers:
            return False
        self._to_lose -= 1
        self.lost += 1
        return True

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
            onward = http.client.HTTPConnection(wire.target, timeout=30)
            # As they came, the name of the host among them: it is part of what was signed.
            onward.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                onward.putheader(name, value)
            onward.endheaders(body)
            answer = onward.getresponse()
            data = answer.read()
            onward.close()
            if wire.takes(self.headers):
                self.close_connection = True
                self.connection.close()
                return
            self.send_response_only(answer.status, answer.reason)
            for name, value in answer.getheaders():
                if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                    self.send_header(name, value)
            length = answer.getheader("Content-Length") if self.command == "HEAD" else len(data)
            self.send_header("Content-Length", str(length or 0))
            self.end_headers()
            self.wfile.write(data)

        def __getattr__(self, name: str) -> Callable[[], None]:
            if name.startswith("do_"):
                return self._pass_on
            raise AttributeError(name)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing on the screen."""

    return Handler
