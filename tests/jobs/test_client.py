"""The address of a job server: what is none, and what answers there."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import ray

from raffect.errors import RaffectError, SettingsError
from raffect.jobs import client
from raffect.jobs.client import JobServer, find_address


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS", "no_proxy", "NO_PROXY"):
        # Set first, so that what a client sets is taken back too.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    "address",
    ["http://head:99999", "http://[::1", "http://:8265", "head:6379", "head:0", "ray://head:10001",
     "http://user:secret@head:8265", "http://head:port"],
)  # fmt: skip
def test_what_is_no_address_of_a_job_server_is_refused(address: str):
    with pytest.raises(SettingsError, match="is not the address of a job server") as said:
        find_address(address)
    assert "secret" not in str(said.value)


def test_forms_of_an_address():
    assert find_address("head:8265") == "http://head:8265"
    assert find_address("https://[fd00::1]:8265/ray/") == "https://[fd00::1]:8265/ray"


def test_a_server_that_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(client, "_ANSWER_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(RaffectError, match="No job server answers"):
            JobServer(address)


class Version(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = {
            "version": "4",
            "ray_version": ray.__version__,
            "ray_commit": "",
            "session_name": "",
        }
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *told: object) -> None:
        pass


@pytest.fixture
def page() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Version) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_proxy_is_not_asked_for_this_machine(monkeypatch: pytest.MonkeyPatch, page: str):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert JobServer(page).address == page
