"""Every command outlives a store's server that is away for a while, without being given again."""

from __future__ import annotations

from pathlib import Path

import pytest

from raffect.store import Store
from raffect.sweep.leaderboard import load_sweep
from raffect.testing.s3 import S3Server, environment
from tests.durability import filled
from tests.durability.case import COMMAND_S
from tests.durability.line import bring, facts_of, run_place, words_of
from tests.durability.place import Place
from tests.durability.proxy import Request, wire_to

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


@pytest.mark.long
@pytest.mark.ray
@pytest.mark.parametrize("part", ["/trials/", "/study/"])
def test_a_quota_in_mid_sweep_is_one_message(part: str, base: Path, s3_server: S3Server) -> None:
    """Whoever meets it, a trial or the driver: no trial is blamed, and the command goes on."""
    written: set[str] = set()

    def is_too_much(request: Request) -> bool:
        if request.method != "PUT" or part not in request.path:
            return False
        written.add(request.path)
        return len(written) > 6

    with (
        environment(s3_server.environment()),
        run_place() as (folder, out),
        wire_to(s3_server.endpoint) as wire,
    ):
        store = Store(f"s3://{s3_server.new_bucket()}/store")
        bring(Store(str(base / "store")), "tune", store)
        words = words_of("tune", base, out, store.uri)
        place = Place(folder, None, store, None, words, wire.endpoint)
        wire.inject("quota", 1000, is_too_much)
        try:
            command = place.give_command()
            assert command.wait(COMMAND_S) == 2, command.complaint
            (message,) = [line for line in command.complaint.splitlines() if "full" in line]
            assert message.startswith("Error: ")
            assert "QuotaExceeded" in message
            assert "Unhandled" not in command.complaint
            assert "Traceback" not in command.complaint
            states = {row.state for row in load_sweep(store, "new").rows}
            assert states <= {"RUNNING", "COMPLETE", "PRUNED", "WAITING"}
            wire.forget()
            command = place.give_command()
            assert command.wait(COMMAND_S) == 0, command.complaint
        finally:
            place.end()
        assert {row.state for row in load_sweep(store, "new").rows} <= {"COMPLETE", "PRUNED"}


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
