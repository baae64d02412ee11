"""optuna-dashboard on the studies of a store, live, for looking only."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from raffect.errors import NotThereError, RaffectError, SettingsError
from raffect.store import Store
from raffect.store.layout import SWEEPS
from raffect.sweep.quiet import quiet
from raffect.web.all_studies import gather, read_only

LOOPBACK = ("127.0.0.1", "localhost")
_READING = ("GET", "HEAD", "OPTIONS")

Environ = dict[str, Any]
Application = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]


class _Server(ThreadingMixIn, WSGIServer):
    """A page's requests run side by side; none keeps the process alive."""

    daemon_threads = True


class _Handler(WSGIRequestHandler):
    """Does not write a line for each request."""

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


def serve(
    store: Store,
    sweep: str | None,
    host: str,
    port: int,
    on_ready: Callable[[str], None],
    on_trouble: Callable[[str], None],
) -> None:
    """Answer a browser until the command is interrupted.

    Args:
        store: The store.
        sweep: The one sweep to show; all, also those that begin meanwhile, by default.
        host: Where to listen.
        port: The port; 0 for any that is free.
        on_ready: Told the address.
        on_trouble: Told when the store stops answering, and when the browser wants to change
            something.

    Raises:
        NotThereError: The store holds no such sweep.
        SettingsError: The port is taken, or the host is not this machine.
        StoreError: The store can't be read.
    """
    if sweep is not None and sweep not in store.names(SWEEPS):
        raise _no_sweep(store, sweep)
    with quiet():
        app = _application(store, sweep, on_trouble)
    with _listen(host, port, app) as server, suppress(KeyboardInterrupt):
        on_ready(f"http://{host}:{server.server_port}/dashboard")
        server.serve_forever()


def _application(
    store: Store, sweep: str | None, on_trouble: Callable[[str], None]
) -> Application:
    import optuna_dashboard

    storage = gather(store, None if sweep is None else [sweep], on_trouble)
    shown: Application = optuna_dashboard.wsgi(storage)
    reason = read_only().got

    def look(environ: Environ, start: Callable[..., Any]) -> Iterable[bytes]:
        # The page has buttons that write, and would call a refusal an internal error.
        if environ["REQUEST_METHOD"] in _READING:
            return shown(environ, start)
        on_trouble(reason)
        start("403 Forbidden", [("Content-Type", "application/json")])
        return [json.dumps({"reason": reason}).encode()]

    return look


def _listen(host: str, port: int, app: Application) -> WSGIServer:
    try:
        return make_server(host, port, app, server_class=_Server, handler_class=_Handler)
    except OSError as error:
        raise cannot_listen(host, port, error) from None


def cannot_listen(host: str, port: int, error: OSError) -> SettingsError:
    """What to tell who wants a server where there can be none."""
    taken = error.errno == errno.EADDRINUSE
    return SettingsError(
        f"Nothing can listen at {host}:{port}: {error.strerror or error}.",
        "a free port" if taken else "an address of this machine, e.g. 127.0.0.1",
        "Give another --port; 0 takes any that is free." if taken else "Correct --host.",
    )


def _no_sweep(store: Store, sweep: str) -> RaffectError:
    known = ", ".join(store.names(SWEEPS))
    return NotThereError(
        f"The store {store.uri} holds no sweep {sweep!r}.",
        f"sweeps in this store: {known}" if known else "",
        f"Make it first: raffect tune TASK --name {sweep} --store {store.uri}",
    )
