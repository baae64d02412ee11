"""What the page knows of sweeps that are written, killed or torn while it reads them."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from raffect.errors import NotThereError, StoreError
from raffect.store import Store
from raffect.store.lease import TTL_S
from raffect.sweep.leaderboard import SweepReader, SweepView
from raffect.web.live import IDLE_REFRESH_S, REFRESH_S, LiveSweeps
from tests.jobs.studies import Sweep


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.mark.parametrize("where", ["store", "s3_store"])
def test_a_sweep_is_read_again_only_when_it_has_changed(
    where: str, request: pytest.FixtureRequest, clock: Clock
) -> None:
    store = request.getfixturevalue(where)
    sweep = Sweep(store, "s")
    sweep.complete(0.1)
    sweeps = LiveSweeps(store, clock)
    first = sweeps.look("s")
    clock.now += REFRESH_S
    again = sweeps.look("s")
    assert again.view is first.view
    assert again.version == first.version
    sweep.complete(0.2)
    assert sweeps.look("s").view is first.view, "not before its time"
    clock.now += REFRESH_S
    now = sweeps.look("s")
    assert now.view is not None
    assert now.view.best is not None
    assert now.view.best.score == 0.2
    assert now.version != first.version


def test_idle_sweeps_are_looked_at_rarely_where_that_will_do(store: Store, clock: Clock) -> None:
    sweep = Sweep(store, "s")
    sweeps = LiveSweeps(store, clock)
    first = sweeps.look("s", idle_s=IDLE_REFRESH_S)
    clock.now += 1000
    sweeps.look("s", idle_s=IDLE_REFRESH_S)
    sweep.complete(0.2)
    clock.now += IDLE_REFRESH_S - 1
    assert sweeps.look("s", idle_s=IDLE_REFRESH_S).version == first.version
    assert sweeps.look("s").version != first.version


@pytest.mark.parametrize("where", ["store", "s3_store"])
def test_the_lease_tells_who_is_at_a_sweep(
    where: str, request: pytest.FixtureRequest, clock: Clock
) -> None:
    store = request.getfixturevalue(where)
    sweep = Sweep(store, "s")
    sweeps = LiveSweeps(store, clock)
    assert sweeps.look("s").status == "stopped"
    lease = sweep.lease(job="job-1")
    clock.now += REFRESH_S
    seen = sweeps.look("s")
    assert (seen.status, seen.job) == ("running", "job-1")
    lease.release()
    clock.now += REFRESH_S
    assert sweeps.look("s").status == "stopped"


def test_a_killed_command_is_missed_after_a_while(store: Store, clock: Clock) -> None:
    sweep = Sweep(store, "s")
    sweep.leave_lease()
    sweeps = LiveSweeps(store, clock)
    assert sweeps.look("s").status == "running"
    clock.now += TTL_S - 1
    assert sweeps.look("s").status == "running"
    clock.now += REFRESH_S
    assert sweeps.look("s").status == "lost"


def test_what_is_torn_shows_what_was_known(store: Store, clock: Clock) -> None:
    sweep = Sweep(store, "s")
    sweep.complete(0.4)
    sweeps = LiveSweeps(store, clock)
    before = sweeps.look("s")
    study = store.files("sweeps/s/study")[0]
    whole = store.read_bytes(study)
    store.write_bytes(study, whole[: len(whole) // 2])
    store.write_bytes("sweeps/s/study/00099999.jsonl", b"{")
    clock.now += REFRESH_S
    torn = sweeps.look("s")
    assert torn.view is before.view
    assert torn.trouble is not None
    assert "is not whole" in torn.trouble
    store.write_bytes(study, whole)
    store.delete("sweeps/s/study/00099999.jsonl")
    clock.now += REFRESH_S
    assert sweeps.look("s").trouble is None


def test_a_bug_of_a_reader_is_not_taken_for_a_writer_at_work(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(reader: SweepReader) -> SweepView:
        raise KeyError("optimiser")

    Sweep(store, "s").complete(0.4)
    monkeypatch.setattr(SweepReader, "read", broken)
    with pytest.raises(KeyError, match="optimiser"):
        LiveSweeps(store).look("s")


def test_a_sweep_that_begins_anew_or_goes_away_is_no_error(store: Store, clock: Clock) -> None:
    Sweep(store, "s").complete(0.4)
    sweeps = LiveSweeps(store, clock)
    sweeps.look("s")
    store.delete("sweeps/s")
    clock.now += REFRESH_S
    with pytest.raises(NotThereError):
        sweeps.look("s")
    assert sweeps.all() == []
    Sweep(store, "s").complete(0.1)
    seen = sweeps.look("s")
    assert seen.view is not None
    assert seen.view.best is not None
    assert seen.view.best.score == 0.1


def test_a_store_that_is_away_for_a_while_shows_what_was_known(
    tmp_path: Path, clock: Clock
) -> None:
    folder = tmp_path / "store"
    store = Store(str(folder))
    Sweep(store, "s").complete(0.4)
    sweeps = LiveSweeps(store, clock)
    before = sweeps.look("s")
    studies = folder / "sweeps" / "s"
    studies.rename(tmp_path / "away")
    studies.write_bytes(b"")
    clock.now += REFRESH_S
    away = sweeps.look("s")
    assert away.view is before.view
    assert away.trouble
    with pytest.raises((NotThereError, StoreError)):
        LiveSweeps(Store(str(folder)), clock).look("none")


def test_many_readers_at_once_see_a_growing_sweep_without_an_error(store: Store) -> None:
    """A driver writes and merges as fast as it can while eight readers look."""
    sweep = Sweep(store, "s", trials=400)
    shared = [LiveSweeps(store, clock=iter(range(0, 10**9, 1000)).__next__) for _ in range(2)]
    errors: list[BaseException] = []
    seen: list[int] = []
    ended = threading.Event()

    def read(sweeps: LiveSweeps) -> None:
        while not ended.is_set():
            try:
                found = sweeps.look("s")
                if found.view is not None:
                    seen.append(sum(found.view.counts.values()))
            except BaseException as error:
                errors.append(error)

    readers = [threading.Thread(target=read, args=(shared[i % 2],)) for i in range(8)]
    for reader in readers:
        reader.start()
    for number in range(60):
        sweep.complete(0.1 + number / 1000)
        if number % 7 == 0:
            sweep.study.close()
    ended.set()
    for reader in readers:
        reader.join()
    assert errors == []
    assert len(set(seen)) > 3
