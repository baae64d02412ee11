from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.storages import BaseStorage, JournalStorage
from optuna.testing.pytest_storages import StorageTestCase

from raffect.errors import ConflictError, DamagedError
from raffect.store import Store
from raffect.sweep import journal
from raffect.sweep.journal import OvertakenError, StoreJournal
from raffect.testing.s3 import S3Server, environment
from tests.durability.proxy import wire_to


def numbers(backend: StoreJournal) -> list[int]:
    return [log["n"] for log in backend.read_logs(0)]


class TestConformance(StorageTestCase):
    """Optuna's own suite for storages."""

    @pytest.fixture
    def storage(self, tmp_path: Path) -> BaseStorage:
        return JournalStorage(StoreJournal(Store(str(tmp_path)), "sweeps/s/study"))


def test_two_writers_take_turns(store: Store) -> None:
    one, two = StoreJournal(store, "f"), StoreJournal(store, "f")
    one.append_logs([{"n": 0}, {"n": 1}])
    two.append_logs([{"n": 2}])
    one.append_logs([{"n": 3}])
    assert numbers(one) == numbers(two) == [0, 1, 2, 3]
    assert store.names("f") == ["00000000.jsonl", "00000002.jsonl", "00000003.jsonl"]


def test_no_entry_is_lost_or_doubled_between_many_writers(store: Store) -> None:
    def write(start: int) -> None:
        backend = StoreJournal(store, "f")
        for n in range(start, start + 20):
            backend.append_logs([{"n": n}])
            if n % 7 == 0:
                backend.compact()

    threads = [threading.Thread(target=write, args=(start,)) for start in range(0, 80, 20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = numbers(StoreJournal(store, "f"))
    assert sorted(found) == list(range(80))
    for start in range(0, 80, 20):
        assert [n for n in found if start <= n < start + 20] == list(range(start, start + 20))


def test_a_batch_is_one_object_and_seen_by_its_writer_at_once(store: Store) -> None:
    backend = StoreJournal(store, "f")
    with backend.batch():
        backend.append_logs([{"n": 0}])
        with backend.batch():
            backend.append_logs([{"n": 1}])
        assert numbers(backend) == [0, 1]
        assert store.names("f") == []
    assert store.names("f") == ["00000000.jsonl"]
    assert numbers(StoreJournal(store, "f")) == [0, 1]


@pytest.mark.parametrize("leave", ["batch", "append", "read", "compact", "flush"])
def test_entries_that_may_wait_are_written_before_anything_else(store: Store, leave: str) -> None:
    backend = StoreJournal(store, "f")
    with backend.batch() as batch:
        backend.append_logs([{"n": 0}])
        batch.may_wait = True
    assert store.names("f") == []
    if leave == "batch":
        with backend.batch():
            assert numbers(backend) == [0]
            backend.append_logs([{"n": 1}])
    elif leave == "append":
        backend.append_logs([{"n": 1}])
    elif leave == "read":
        assert numbers(backend) == [0]
    else:
        getattr(backend, leave)()
    expected = [0, 1] if leave in ("batch", "append") else [0]
    assert numbers(StoreJournal(store, "f")) == expected
    assert numbers(backend) == expected


def test_entries_that_waited_are_written_after_those_of_another_writer(store: Store) -> None:
    old, new = StoreJournal(store, "f"), StoreJournal(store, "f")
    with old.batch() as batch:
        old.append_logs([{"n": 9}])
        batch.may_wait = True
    new.append_logs([{"n": 0}])
    with pytest.raises(OvertakenError):
        old.flush()
    assert old.heard == 1
    assert numbers(StoreJournal(store, "f")) == [0]
    old.flush()
    assert numbers(new) == [0, 9]


def test_a_refused_block_leaves_what_waited_before_it(store: Store) -> None:
    old, new = StoreJournal(store, "f"), StoreJournal(store, "f")
    with old.batch() as batch:
        old.append_logs([{"n": 9}])
        batch.may_wait = True
    new.append_logs([{"n": 0}])
    with pytest.raises(OvertakenError), old.batch():
        old.append_logs([{"n": 10}])
    old.flush()
    assert numbers(new) == [0, 9]


def test_a_batch_is_written_although_its_block_fails(store: Store) -> None:
    backend = StoreJournal(store, "f")

    def fail() -> None:
        with backend.batch():
            backend.append_logs([{"n": 0}])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert numbers(StoreJournal(store, "f")) == [0]


def test_a_batch_on_old_knowledge_is_refused_whole(store: Store) -> None:
    old, new = StoreJournal(store, "f"), StoreJournal(store, "f")
    old.append_logs([{"n": 0}])
    new.append_logs([{"n": 1}])
    with pytest.raises(ConflictError, match="taken over"), old.batch():
        old.append_logs([{"n": 9}])
    assert numbers(new) == [0, 1]


@pytest.mark.parametrize("merges", [1, 2])
def test_a_writer_that_missed_a_merge_does_not_write_into_the_past(
    store: Store, merges: int
) -> None:
    old, new = StoreJournal(store, "f"), StoreJournal(store, "f")
    old.append_logs([{"n": 0}])
    for n in range(merges):
        new.append_logs([{"n": n + 1}])
        new.append_logs([{"n": n + 1}])
        new.compact()
    with pytest.raises(ConflictError), old.batch():
        old.append_logs([{"n": 9}])
    old.append_logs([{"n": 10}])
    expected = [*[0, 1, 1, 2, 2][: 1 + 2 * merges], 10]
    assert numbers(old) == numbers(new) == numbers(StoreJournal(store, "f")) == expected


def test_a_writer_that_knows_all_goes_on_after_another_one_merged(store: Store) -> None:
    one, two = StoreJournal(store, "f"), StoreJournal(store, "f")
    one.append_logs([{"n": 0}])
    two.compact()
    with one.batch():
        one.append_logs([{"n": 1}])
    assert numbers(two) == [0, 1]


@pytest.fixture
def meanwhile(store: Store, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let another process act once, just before or after an object is created."""

    def interpose(name: str, action: Callable[[], object], before: bool) -> None:
        real, left = store.create, [action]

        def create(key: str, data: bytes) -> bool:
            now = left.pop() if left and key == f"f/{name}.jsonl" else lambda: None
            if before:
                now()
            made = real(key, data)
            if not before:
                now()
            return made

        monkeypatch.setattr(store, "create", create)

    return interpose


@pytest.mark.parametrize("more", [0, 1])
def test_entries_that_are_merged_before_their_writer_looks_again_are_not_doubled(
    store: Store, meanwhile: Callable[..., None], more: int
) -> None:
    one, two = StoreJournal(store, "f"), StoreJournal(store, "f")
    one.append_logs([{"n": 0}])

    def merge() -> None:
        two.append_logs([{"n": 2}] * more)
        two.compact()

    meanwhile("00000001", merge, before=False)
    with one.batch():
        one.append_logs([{"n": 1}])
    one.append_logs([{"n": 3}])
    expected = [0, 1, *[2] * more, 3]
    assert numbers(one) == numbers(two) == numbers(StoreJournal(store, "f")) == expected


@pytest.mark.parametrize("before", [True, False])
def test_who_merges_on_old_knowledge_deletes_nothing_that_is_new(
    store: Store, meanwhile: Callable[..., None], before: bool
) -> None:
    old, new = StoreJournal(store, "f"), StoreJournal(store, "f")
    old.append_logs([{"n": 0}])
    old.append_logs([{"n": 1}])

    def go_on() -> None:
        new.append_logs([{"n": 2}])
        new.compact()

    meanwhile("00000000-00000002", go_on, before=before)
    old.compact()
    assert store.names("f") == ["00000000-00000003.jsonl"]
    assert numbers(new) == numbers(old) == numbers(StoreJournal(store, "f")) == [0, 1, 2]
    old.append_logs([{"n": 3}])
    assert numbers(new) == numbers(old) == [0, 1, 2, 3]


def test_merging_leaves_one_object_with_the_same_entries(store: Store) -> None:
    backend = StoreJournal(store, "f")
    for n in range(5):
        backend.append_logs([{"n": n}])
    backend.compact()
    assert store.names("f") == ["00000000-00000005.jsonl"]
    backend.append_logs([{"n": 5}])
    backend.compact()
    assert store.names("f") == ["00000000-00000006.jsonl"]
    assert numbers(backend) == numbers(StoreJournal(store, "f")) == [0, 1, 2, 3, 4, 5]


def test_batches_merge_by_themselves(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "COMPACT_AFTER", 4)
    backend = StoreJournal(store, "f")
    for n in range(10):
        with backend.batch():
            backend.append_logs([{"n": n}])
    assert store.names("f") == ["00000000-00000008.jsonl", "00000008.jsonl", "00000009.jsonl"]


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("after", range(8))
def test_a_kill_at_any_moment_of_a_merge_loses_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    backend = StoreJournal(store, "f")
    for n in range(3):
        backend.append_logs([{"n": n}])
    backend.compact()
    for n in range(3, 6):
        backend.append_logs([{"n": n}])
    steps = 0

    def counted(method):
        def call(*args):
            nonlocal steps
            steps += 1
            if steps > after:
                raise Killed
            return method(*args)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(store, "create", counted(store.create))
        patch.setattr(store, "delete", counted(store.delete))
        with contextlib.suppress(Killed):
            backend.compact()
    survivor = StoreJournal(store, "f")
    assert numbers(survivor) == list(range(6))
    survivor.append_logs([{"n": 6}])
    survivor.compact()
    assert store.names("f") == ["00000000-00000007.jsonl"]
    assert numbers(StoreJournal(store, "f")) == list(range(7))


def test_a_reader_survives_a_merge_between_listing_and_reading(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = StoreJournal(store, "f")
    for n in range(3):
        writer.append_logs([{"n": n}])
    other = Store(store.uri)
    names = other.names
    waiting = [writer.compact]

    def merged_after_listing(folder):
        found = names(folder)
        if waiting:
            waiting.pop()()
        return found

    monkeypatch.setattr(other, "names", merged_after_listing)
    assert numbers(StoreJournal(other, "f")) == [0, 1, 2]


def test_a_study_in_s3_is_the_same(s3_store: Store) -> None:
    backend = StoreJournal(s3_store, "f")
    with backend.batch():
        study = optuna.create_study(storage=JournalStorage(backend), study_name="s")
        trial = study.ask()
        trial.suggest_float("x", 0, 1)
        study.tell(trial, 1.0)
    other = StoreJournal(s3_store, "f")
    loaded = optuna.load_study(storage=JournalStorage(other), study_name="s")
    assert loaded.trials[0].params == trial.params
    loaded.set_user_attr("k", 1)
    with pytest.raises(ConflictError), backend.batch():
        study.set_user_attr("k", 2)
    other.compact()
    assert len(s3_store.names("f")) == 1
    again = optuna.load_study(storage=JournalStorage(StoreJournal(s3_store, "f")), study_name="s")
    assert again.user_attrs == {"k": 1}


def written(store: Store) -> dict[str, bytes]:
    """A journal of two appends, three entries in all, and its first part compacted."""
    backend = StoreJournal(store, "f")
    backend.append_logs([{"n": 0}, {"n": 1}])
    backend.compact()
    backend.append_logs([{"n": 2}, {"n": 3, "text": 'ü,"sum":"0-00000000"}'}])
    return {name: store.read_bytes(f"f/{name}") for name in store.names("f")}


@pytest.mark.slow
def test_every_flipped_bit_and_every_lost_tail_is_noticed(store: Store) -> None:
    for name, data in written(store).items():
        flipped = [
            data[:i] + bytes([data[i] ^ 1 << bit]) + data[i + 1 :]
            for i in range(len(data))
            for bit in range(8)
        ]
        for damaged in [*flipped, *(data[:i] for i in range(len(data)))]:
            store.write_bytes(f"f/{name}", damaged)
            with pytest.raises(DamagedError, match=f"{name} is (damaged|cut off|empty)"):
                numbers(StoreJournal(store, "f"))
        store.write_bytes(f"f/{name}", data)
    assert numbers(StoreJournal(store, "f")) == [0, 1, 2, 3]


def test_a_missing_or_a_moved_segment_is_noticed(store: Store) -> None:
    files = written(store)
    StoreJournal(store, "f").append_logs([{"n": 4}])
    store.delete("f/00000002.jsonl")
    with pytest.raises(DamagedError, match=r"00000002.jsonl is missing"):
        numbers(StoreJournal(store, "f"))
    store.write_bytes("f/00000002.jsonl", files["00000000-00000002.jsonl"])
    with pytest.raises(DamagedError, match=r"00000002.jsonl is damaged at line 1"):
        numbers(StoreJournal(store, "f"))


def test_older_entries_have_no_checksum(store: Store) -> None:
    store.write_bytes("f/00000000.jsonl", b'{"n":0}\n{"n":1}\n')
    backend = StoreJournal(store, "f")
    backend.append_logs([{"n": 2}])
    backend.compact()
    assert numbers(StoreJournal(store, "f")) == [0, 1, 2]


def test_who_is_alone_appends_in_one_request_and_a_frozen_one_reads_once(
    s3_server: S3Server,
) -> None:
    with (
        wire_to(s3_server.endpoint) as wire,
        environment({**s3_server.environment(), "AWS_ENDPOINT_URL": wire.endpoint}),
    ):
        store = Store(f"s3://{s3_server.new_bucket()}/a")
        writer = StoreJournal(store, "f", is_alone=lambda: True)
        for n in range(3):
            with wire.counting() as requests, writer.batch():
                writer.append_logs([{"n": n}])
            assert len(requests) == 1
        frozen = StoreJournal(store, "f")
        frozen.freeze()
        writer.append_logs([{"n": 3}])
        with wire.counting() as requests:
            assert numbers(frozen) == [0, 1, 2]
        assert requests == []
        assert numbers(StoreJournal(store, "f")) == [0, 1, 2, 3]
    with pytest.raises(AssertionError):
        frozen.append_logs([{"n": 4}])


def test_who_is_not_alone_any_more_looks_for_a_compaction(store: Store) -> None:
    alone = [True]
    old = StoreJournal(store, "f", is_alone=lambda: alone[0])
    old.append_logs([{"n": 0}])
    new = StoreJournal(store, "f")
    for n in (1, 2):
        new.append_logs([{"n": n}])
    new.compact()
    alone[0] = False
    with pytest.raises(ConflictError), old.batch():
        old.append_logs([{"n": 9}])
    assert numbers(StoreJournal(store, "f")) == [0, 1, 2]
