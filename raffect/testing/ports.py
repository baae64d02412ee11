"""Ports of loopback for servers of tests, that nothing else on the machine takes by itself."""

from __future__ import annotations

import random
import socket
from contextlib import suppress

_PORTS = range(20_000, 32_000)
"""Between those that Ray gives its workers and those that connections take: free after a kill."""


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens at, each once.

    Raises:
        RuntimeError: There are too few.
    """
    # Not from the seeded generator: test processes side by side would draw the same ones.
    drawn = random.SystemRandom().sample(_PORTS, 50 + count)
    found: list[int] = []
    for port in drawn:
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            return found
    raise RuntimeError(f"{count} free ports were not found.")
