"""A conditional write whose answer got lost is sent again by the client, and meets itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from raffect.store import Store
from raffect.sweep.study import journal_of
from raffect.testing.s3 import S3Server, environment
from tests.durability.proxy import Wire, wire_to
from tests.sweep import tiny
from tests.sweep.drivers import epochs, open_driver, rows


@pytest.fixture
def wire(s3_server: S3Server) -> Iterator[Wire]:
    with wire_to(s3_server.endpoint) as wire:
        values = {**s3_server.environment(), "AWS_ENDPOINT_URL": wire.endpoint}
        with environment(values):
            yield wire


@pytest.fixture
def lossy_store(s3_server: S3Server, wire: Wire) -> Store:
    return Store(f"s3://{s3_server.new_bucket()}/a")


def test_the_writer_learns_that_it_has_won(wire: Wire, lossy_store: Store) -> None:
    wire.lose(1)
    assert lossy_store.create("key", b"mine")
    assert wire.lost == 1
    assert not lossy_store.create("key", b"theirs")
    wire.lose(1)
    assert not lossy_store.create("key", b"theirs")
    assert lossy_store.read_bytes("key") == b"mine"


def test_an_entry_of_a_study_is_written_once(wire: Wire, lossy_store: Store) -> None:
    journal = journal_of(lossy_store, "s")
    wire.lose(1)
    journal.append_logs([{"op_code": 0, "n": 1}])
    wire.lose(1)
    with journal.batch():
        journal.append_logs([{"op_code": 0, "n": 2}])
    assert wire.lost == 2
    assert [entry["n"] for entry in journal_of(lossy_store, "s").read_logs(0)] == [1, 2]


def test_a_driver_does_not_take_itself_for_another_one(wire: Wire, lossy_store: Store) -> None:
    study = open_driver(lossy_store, 1, tiny.base())
    study.next()
    wire.lose(1)
    study.complete(0, epochs(0.1, 0.2, 0.3, 0.4))
    assert wire.lost == 1
    assert [row.state for row in rows(lossy_store)] == ["COMPLETE"]
