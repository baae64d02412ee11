"""The doctor uses real stores: folders, an S3 server, one that ignores conditional writes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from raffect.doctor.facts import Features, StoreVisit
from raffect.doctor.store_probe import (
    left_note,
    new_folder,
    read_features,
    server_skew,
    visit_store,
)
from raffect.errors import NotThereError
from raffect.store import Store, features_folder
from raffect.store.manifest import FileEntry, make_manifest, write_manifest
from raffect.testing.s3 import environment

ACTIONS = ["connect", "write", "read", "list", "conditional", "delete"]


@pytest.fixture(params=["folder", "s3"])
def any_store(request: pytest.FixtureRequest) -> Store:
    return request.getfixturevalue("store" if request.param == "folder" else "s3_store")


def problems(visit: StoreVisit) -> dict[str, str]:
    return {one.action: one.problem for one in visit.actions}


def test_a_good_store_does_all_and_is_left_as_it_was(any_store: Store):
    any_store.write_bytes("models/kept", b"x")
    visit = visit_store(any_store.uri, new_folder(), "me")
    assert problems(visit) == dict.fromkeys(ACTIONS, "")
    assert all(one.milliseconds > 0 for one in visit.actions)
    assert visit.saw_note is None
    assert any_store.files("") == ["models/kept"]


def test_a_folder_that_was_not_there_is_not_there_afterwards(tmp_path: Path):
    visit = visit_store(str(tmp_path / "deep" / "store"), new_folder(), "me")
    assert problems(visit) == dict.fromkeys(ACTIONS, "")
    assert list(tmp_path.iterdir()) == []


def test_the_note_is_seen_where_it_was_left_and_gone_afterwards(any_store: Store, tmp_path: Path):
    folder = new_folder()
    with left_note(any_store.uri, folder) as note:
        assert visit_store(any_store.uri, folder, "n1", note).saw_note is True
        assert visit_store(any_store.uri, folder, "n2", "another note").saw_note is False
        elsewhere = visit_store(str(tmp_path / "other"), folder, "n3", note)
        assert elsewhere.saw_note is False
        assert problems(elsewhere) == dict.fromkeys(ACTIONS, "")
    assert any_store.files("") == []
    assert not (tmp_path / "other").exists()


def test_the_note_is_gone_also_after_an_error(store: Store):
    def fail() -> None:
        with left_note(store.uri, new_folder()):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not Path(store.uri).exists()


def test_a_file_in_the_way_is_a_problem_with_what_to_do(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    visit = visit_store(str(tmp_path / "file"), new_folder(), "me")
    assert visit.actions[0].action == "connect"
    assert "can't be used" in visit.actions[0].problem
    assert visit.actions[0].next_step
    assert (tmp_path / "file").read_text() == "x"


@pytest.mark.slow
def test_a_wrong_key_is_a_problem_and_not_shown(s3_store: Store):
    with environment({"AWS_SECRET_ACCESS_KEY": "planted-wrong-secret"}):
        visit = visit_store(s3_store.uri, new_folder(), "me", "note")
    assert [one.action for one in visit.actions] == ["connect"]
    assert "refuses access" in visit.actions[0].problem
    assert visit.saw_note is False
    assert "planted" not in str(visit)


def test_a_password_in_the_endpoint_is_not_shown(s3_environment: dict[str, str]):
    planted = {"AWS_ENDPOINT_URL": "http://user:planted-secret@127.0.0.1:9"}
    with environment(planted):
        visit = visit_store("s3://bucket", new_folder(), "me")
    assert "AWS_ENDPOINT_URL has a user or a password" in visit.actions[0].problem
    assert "planted-secret" not in str(visit)


@contextmanager
def serving(application: Callable[..., Any]) -> Iterator[str]:
    """A moto server in this process, behind a WSGI application."""
    from moto.moto_server.werkzeug_app import MotoRequestHandler
    from werkzeug.serving import make_server

    server = make_server(
        "127.0.0.1", 0, application, threaded=True, request_handler=MotoRequestHandler
    )
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()


@pytest.fixture
def forgetful() -> Iterator[Store]:
    """A store on a server that does not know conditional writes."""
    import boto3
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

    moto = DomainDispatcherApplication(create_backend_app)

    def forget(environ: dict[str, Any], start: Callable[..., Any]) -> Any:
        environ.pop("HTTP_IF_NONE_MATCH", None)
        return moto(environ, start)

    keys = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any-secret"}
    with serving(forget) as url, environment({"AWS_ENDPOINT_URL": url, **keys}):
        boto3.client("s3", endpoint_url=url, region_name="us-east-1").create_bucket(Bucket="plain")
        yield Store("s3://plain/store")


def test_a_server_that_ignores_conditional_writes_is_found_out(forgetful: Store):
    visit = visit_store(forgetful.uri, new_folder(), "me")
    found = problems(visit)
    assert "ignores If-None-Match" in found.pop("conditional")
    assert found == dict.fromkeys(["connect", "write", "read", "list", "delete"], "")
    assert forgetful.files("") == []


def clock_server(ahead: float) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_error(403)

        def date_time_string(self, timestamp: float | None = None) -> str:
            return formatdate(time.time() + ahead, usegmt=True)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing on the screen."""

    return ThreadingHTTPServer(("127.0.0.1", 0), Handler)


@pytest.mark.parametrize("ahead", [0.0, -3600.0, 120.0])
def test_a_servers_clock_is_read_also_from_a_refusal(ahead: float):
    server = clock_server(ahead)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    skew = server_skew(f"http://127.0.0.1:{server.server_port}")
    server.shutdown()
    server.server_close()
    assert skew == pytest.approx(ahead, abs=1.0)


def test_no_server_has_no_clock():
    assert server_skew("http://127.0.0.1:9") is None
    assert server_skew("no url") is None


def test_the_s3_servers_clock_is_this_machines(s3_store: Store):
    skew = visit_store(s3_store.uri, new_folder(), "me").skew
    assert skew is not None
    assert abs(skew) < 2


def fill(store: Store, name: str, bytes_: int) -> None:
    files = [
        FileEntry(name="00000.parquet", size=bytes_, sha256="0"),
        FileEntry(name="notes.json", size=10**9, sha256="0"),
    ]
    write_manifest(store, features_folder(name), make_manifest("features", {}, {}, files))


def test_the_largest_features_count_unless_some_are_named(store: Store):
    assert read_features(store, None) is None
    fill(store, "small", 100)
    fill(store, "large", 200)
    store.write_bytes("features/begun/00000.parquet", b"x" * 300)
    assert read_features(store, None) == Features("large", 200)
    assert read_features(store, "small") == Features("small", 100)
    with pytest.raises(NotThereError, match="begun"):
        read_features(store, "begun")
