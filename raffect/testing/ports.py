"""Loopback ports for test servers that nothing else on the machine is assigned."""

from __future__ import annotations

import random
import socket
from contextlib import suppress

_PORTS = range(20_000, 32_000)
"""Between Ray's worker ports and the ephemeral range, so that a port stays free after a kill."""


def free_ports(count: int) -> list[int]:
    """Distinct ports that nobody listens on."""
    # Not from the seeded generator: parallel test processes would draw the same ones.
    drawn = random.SystemRandom().sample(_PORTS, 50 + count)
    found: list[int] = []
    for port in drawn:
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            return found
    raise RuntimeError(f"{count} free ports were not found.")
