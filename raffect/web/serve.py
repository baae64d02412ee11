"""raffect's own page for browsers, until the command is interrupted."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from contextlib import nullcontext

import uvicorn

from raffect import interrupts
from raffect.store import Store
from raffect.store.layout import SWEEPS
from raffect.sweep.quiet import quiet
from raffect.web.app import make_app
from raffect.web.listening import allowed_hosts, listening


class _Server(uvicorn.Server):
    """One that ends in order when the command is to stop."""

    def capture_signals(self) -> nullcontext[None]:  # type: ignore[override]
        """Leave the signals to the command: uvicorn would send each to it once more."""
        return nullcontext()

    async def on_tick(self, counter: int) -> bool:
        """Whether to end; asked ten times a second."""
        return await super().on_tick(counter) or interrupts.received() is not None


def serve(
    store: Store,
    host: str,
    port: int,
    on_ready: Callable[[str], None],
    on_bug: Callable[[str], None],
) -> None:
    """Answer browsers until the command is interrupted.

    Args:
        port: 0 for any that is free.
        on_ready: Called with the address.
        on_bug: Called with the traceback of each bug.

    Raises:
        SettingsError: The port is taken, or the host is not this machine.
        StoreError: The store can't be read.
    """
    # Before listening: a store that can't be read is reported at once.
    store.names(SWEEPS)
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    config = uvicorn.Config(
        make_app(store, allowed_hosts(host), on_bug),
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=1,
    )
    with listening(host, port):
        server = socket.create_server((host, port))
    with quiet(), server, interrupts.until_ctrl_c(), interrupts.deferred():
        on_ready(f"http://{host}:{server.getsockname()[1]}/")
        _Server(config).run(sockets=[server])
