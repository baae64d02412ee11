"""optuna-dashboard on the studies of a store, live and read-only."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from optuna.storages import JournalStorage

from raffect.interrupts import until_ctrl_c
from raffect.store import Store
from raffect.store.layout import SWEEPS
from raffect.sweep.plan import no_sweep
from raffect.sweep.quiet import quiet
from raffect.web.all_studies import GatheredJournal, read_only
from raffect.web.listening import allowed_hosts, listening

Application = Callable[[Mapping[str, Any], Callable[..., Any]], Iterable[bytes]]
"""A WSGI application, called with the environment of a request and what starts the response."""


class _Server(ThreadingMixIn, WSGIServer):
    # A page's requests run side by side; none keeps the process alive.
    daemon_threads = True


class _Handler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Write no line for each request."""


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
        sweep: The one sweep to show; all, also those that begin meanwhile, by default.
        port: 0 for any that is free.
        on_ready: Called with the address.
        on_trouble: Called when the store stops answering, and when the browser wants to change
            something.

    Raises:
        NotThereError: The store holds no such sweep.
        SettingsError: The port is taken, or the host is not this machine.
        StoreError: The store can't be read.
    """
    if sweep is not None and sweep not in store.names(SWEEPS):
        raise no_sweep(store, sweep)
    with quiet():
        app = _application(store, sweep, allowed_hosts(host), on_trouble)
    with listening(host, port):
        server = make_server(host, port, app, server_class=_Server, handler_class=_Handler)
    with server, until_ctrl_c():
        on_ready(f"http://{host}:{server.server_port}/dashboard")
        server.serve_forever()


def _application(
    store: Store, sweep: str | None, hosts: Sequence[str], on_trouble: Callable[[str], None]
) -> Application:
    import optuna_dashboard

    journal = GatheredJournal(store, [sweep] if sweep else None, on_trouble=on_trouble)
    dashboard: Application = optuna_dashboard.wsgi(JournalStorage(journal))
    reason = read_only().got

    def answer(environ: Mapping[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        asked = str(environ.get("HTTP_HOST", "")).partition(":")[0].lower()
        if "*" not in hosts and asked not in hosts:
            start("400 Bad Request", [("Content-Type", "application/json")])
            return [json.dumps({"reason": "Invalid host header"}).encode()]
        # The page has buttons that write; the dashboard would answer a refusal with a 500.
        if environ["REQUEST_METHOD"] in ("GET", "HEAD", "OPTIONS"):
            return dashboard(environ, start)
        on_trouble(reason)
        start("403 Forbidden", [("Content-Type", "application/json")])
        return [json.dumps({"reason": reason}).encode()]

    return answer
