"""The real command `raffect board`, asked over HTTP."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from raffect.store import Store


@dataclass
class Answer:
    """What the server answered."""

    status: int
    headers: dict[str, str]
    text: str

    def json(self) -> Any:
        return json.loads(self.text)


@dataclass
class Page:
    """A board that runs.

    Attributes:
        warned: What it said before its address.
    """

    process: subprocess.Popen[str]
    port: int
    warned: str = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, path: str, method: str = "GET", **headers: str) -> Answer:
        """Ask for a path as it is written, with these headers (`_` for `-`)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        connection.request(method, path, headers=named)
        answer = connection.getresponse()
        text = answer.read().decode()
        found = {key.lower(): value for key, value in answer.getheaders()}
        connection.close()
        return Answer(answer.status, found, text)

    def interrupt(self) -> tuple[str, str]:
        self.process.send_signal(signal.SIGINT)
        return self.process.communicate(timeout=30)


@contextmanager
def page(store: Store, *words: str) -> Iterator[Page]:
    """The board of a store, on a port that is free."""
    process = subprocess.Popen(
        [sys.executable, "-m", "raffect", "board", "--port", "0", *words, "--store", store.uri],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        warned = ""
        while not (line := process.stdout.readline()).startswith("http"):
            assert line, process.communicate()[1]
            warned += line
        yield Page(process, int(line.strip().rstrip("/").rpartition(":")[2]), warned)
    finally:
        process.kill()
        process.communicate()
