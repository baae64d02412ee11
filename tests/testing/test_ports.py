"""Ports of test servers: free, each once, and not drawn alike by processes with one seed."""

from __future__ import annotations

import random
import socket

from raffect.testing.ports import free_ports


def test_they_are_free_and_each_is_once():
    found = free_ports(20)
    assert len(set(found)) == 20
    for port in found:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", port))


def test_one_that_is_taken_is_not_given(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        monkeypatch.setattr("raffect.testing.ports._PORTS", range(taken, taken + 52))
        assert taken not in free_ports(1)


def test_a_seed_does_not_decide_them():
    random.seed(0)
    first = free_ports(10)
    random.seed(0)
    assert free_ports(10) != first
