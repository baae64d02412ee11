"""Listening for browsers until the command is interrupted."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from contextlib import suppress

import uvicorn

from raffect.store import Store
from raffect.store.layout import SWEEPS
from raffect.sweep.quiet import quiet
from raffect.web.app import make_app
from raffect.web.optuna_dashboard import LOOPBACK, cannot_listen

_FAREWELL_S = 1


def serve(
    store: Store,
    host: str,
    port: int,
    on_ready: Callable[[str], None],
    on_trouble: Callable[[str], None],
) -> None:
    """Answer browsers until the command is interrupted.

    Args:
        store: The store.
        host: Where to listen.
        port: The port; 0 for any that is free.
        on_ready: Told the address.
        on_trouble: Told of bugs.

    Raises:
        SettingsError: The port is taken, or the host is not this machine.
        StoreError: The store can't be read.
    """
    store.names(SWEEPS)
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    app = make_app(store, LOOPBACK if host in LOOPBACK else ("*",), on_trouble)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=_FAREWELL_S,
    )
    with quiet(), _listen(host, port) as listening, suppress(KeyboardInterrupt):
        on_ready(f"http://{host}:{listening.getsockname()[1]}/")
        uvicorn.Server(config).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port))
    except OSError as error:
        raise cannot_listen(host, port, error) from None
