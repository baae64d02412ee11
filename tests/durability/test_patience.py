"""Every command outlives a store's server that is away for a while, without being given again."""

from __future__ import annotations

from pathlib import Path

import pytest

from raffect.store import Store
from raffect.testing.s3 import S3Server, environment
from tests.durability import filled
from tests.durability.case import COMMAND_S
from tests.durability.line import bring, facts_of, run_place, words_of
from tests.durability.place import Place
from tests.durability.proxy import wire_to

AWAY_S = 20.0
ANSWERED = 4
"""Requests before that."""


@pytest.fixture(scope="module")
def base(ray_local: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    filled.fill(folder)
    return folder


@pytest.mark.long
@pytest.mark.ray
@pytest.mark.parametrize("step", ["prepare", "extract", "train", "ensemble"])
def test_a_server_that_is_away_is_waited_for(step: str, base: Path, s3_server: S3Server) -> None:
    outlive(step, base, s3_server)


def outlive(step: str, base: Path, server: S3Server) -> int:
    """Give the command; how many requests met a server that was away."""
    with (
        environment(server.environment()),
        run_place() as (folder, out),
        wire_to(server.endpoint) as wire,
    ):
        store = Store(f"s3://{server.new_bucket()}/store")
        bring(Store(str(base / "store")), step, store)
        words = words_of(step, base, out, store.uri)
        place = Place(folder, None, store, None, words, wire.endpoint)
        wire.go_away(ANSWERED, AWAY_S)
        try:
            command = place.give_command()
            assert command.wait(COMMAND_S) == 0, command.complaint
        finally:
            place.end()
        assert facts_of(step, store, out)
        if step in ("train", "ensemble"):  # Of the others a worker may be the one that waits.
            assert command.complaint.count("The store does not answer (") == 1
            assert command.complaint.count("The store answers again.") == 1
        assert wire.injected["reset"]
        return wire.injected["reset"]
