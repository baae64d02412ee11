"""Where servers for browsers listen."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from raffect.errors import SettingsError

LOOPBACK = ("127.0.0.1", "localhost")
"""Hosts that only this machine reaches."""


def allowed_hosts(host: str) -> tuple[str, ...]:
    """Names by which a browser may ask a server that listens at `host`; `*` is any.

    On this machine alone no foreign page is to have its own name point to the server, and read
    what it shows.
    """
    return LOOPBACK if host in LOOPBACK else ("*",)


@contextmanager
def listening(host: str, port: int) -> Iterator[None]:
    """Opening a server at this address.

    Raises:
        SettingsError: The port is taken, or the host is not this machine.
    """
    try:
        yield
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        raise SettingsError(
            f"Nothing can listen at {host}:{port}: {error.strerror or error}.",
            "a free port" if taken else "an address of this machine, e.g. 127.0.0.1",
            "Give another --port; 0 takes any that is free." if taken else "Correct --host.",
        ) from None
