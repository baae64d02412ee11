"""When a trial counts as stuck; and one that stands still, on a real Ray."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from raffect.errors import RaffectError
from raffect.store import Store
from raffect.sweep.progress import SweepProgress
from raffect.sweep.settings import SweepSettings
from raffect.sweep.watch import LEAST_FIRST_S, LEAST_S, UNKNOWN_S, Clocks, free_orphans
from tests.sweep import tiny
from tests.sweep.sweeps import sweep
from tests.sweep.test_tune import own_processes, own_trial_processes


class Time:
    """A clock that is set by hand, and the clocks that look at it."""

    def __init__(self, **settings: float) -> None:
        self.now = 0.0
        self.clocks = Clocks(now=lambda: self.now, **settings)

    def wait(self, seconds: float) -> tuple[dict[int, str], list[str]]:
        """Look once a second; what was found."""
        ended: dict[int, str] = {}
        notes: list[str] = []
        for _ in range(round(seconds)):
            self.now += 1
            found, said = self.clocks.look()
            ended |= found
            notes += said
        return ended, notes

    def epochs(self, number: int, *seconds: float) -> None:
        self.clocks.start(number)
        for each in seconds:
            self.wait(each)
            self.clocks.epoch(number)


@pytest.mark.parametrize(
    ("before", "own", "patience"),
    [
        ((), (), UNKNOWN_S),
        ((5, 5), (), LEAST_FIRST_S),
        ((5, 5), (5,), LEAST_S),
        ((100, 100, 100), (100,), 1000),
        ((1000, 1000), (), 10_000),
        ((10, 10, 10), (400,), 4000),
    ],
)
def test_patience_is_ten_epochs_and_some_minutes(
    before: tuple[float, ...], own: tuple[float, ...], patience: float
):
    clock = Time()
    clock.epochs(0, *before)
    clock.clocks.stop(0)
    clock.epochs(1, *own)
    assert clock.clocks.patience(1) == patience
    assert clock.wait(patience)[0] == {}
    assert list(clock.wait(2)[0]) == [1]
    assert clock.wait(2 * patience)[0] == {}, "once"


def test_a_process_is_said_to_be_silent_once_before_it_is_ended():
    clock = Time()
    clock.epochs(3, 2, 2)
    assert clock.wait(59) == ({}, [])
    assert clock.wait(500)[1] == [
        "Trial 3 has told no epoch for 1 min 01 s; after 10 min 00 s (--stuck-minutes) another "
        "process goes on with it."
    ]
    clock.clocks.epoch(3)
    assert clock.wait(59) == ({}, [])


def test_a_process_whose_trial_another_hand_has_ended_is_ended_if_it_goes_on():
    clock = Time()
    clock.epochs(0, 5)
    clock.epochs(1, 5)
    clock.clocks.settle(0)
    clock.clocks.settle(1)
    clock.clocks.settle(7)
    clock.wait(8)
    clock.clocks.stop(1)
    assert clock.wait(4)[0] == {0: "stopped: the trial has ended, and its process has not"}


def test_settings_bound_both():
    clock = Time(stuck_s=30, longest_s=100)
    clock.epochs(0, 20, 20)
    assert clock.wait(31)[0] == {0: "stuck: no epoch for 30 s"}
    clock.epochs(0, 20)
    assert clock.wait(20)[0] == {0: "too-long: more than 1 min 40 s"}


def test_a_command_that_was_held_up_blames_no_trial():
    """Its driver was stopped, or waited for the store."""
    clock = Time(stuck_s=30)
    clock.epochs(0, 1)
    clock.now += 3600
    assert clock.clocks.look()[0] == {}
    assert clock.wait(20)[0] == {}
    assert list(clock.wait(10)[0]) == [0]


def test_the_settings_are_minutes():
    clocks = Clocks.of(SweepSettings(stuck_minutes=2))
    clocks.start(0)
    assert clocks.patience(0) == 120


@pytest.mark.long
@pytest.mark.ray
def test_a_trial_that_stands_still_goes_on_in_another_process_once(
    ray_local: None, filled: Store, space: str
):
    stopped: list[int] = []
    epochs: list[int] = []
    notes: list[str] = []

    def stop(progress: SweepProgress) -> None:
        if progress.event == "epoch" and progress.trial == 0:
            epochs.append(progress.epoch)
            if progress.epoch > 1 and len(stopped) < 2:
                (pid,) = set(own_trial_processes()) - set(stopped)
                stopped.append(pid)
                os.kill(pid, signal.SIGSTOP)

    view = sweep(
        filled, space, 2, on_update=stop, pruning="none", concurrent=1, checkpoint_seconds=0,
        stuck_minutes=0.3, on_note=notes.append,
    )  # fmt: skip
    assert {row.number: row.state for row in view.rows} == {0: "FAIL", 1: "COMPLETE"}
    assert epochs == [1, 2, 3], "from its checkpoint, not from the start"
    assert view.rows[-1].reason == "stuck: no epoch for 18 s"
    assert len([note for note in notes if "process is ended" in note]) == 2
    until = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in stopped):
        assert time.monotonic() < until
        time.sleep(0.2)


@pytest.mark.long
@pytest.mark.ray
def test_a_worker_that_stands_still_is_noticed_as_its_trial(
    ray_local: None, filled: Store, space: str, monkeypatch: pytest.MonkeyPatch
):
    """Its trial's own process only waits: another one goes on, with workers of its own."""
    stopped: list[int] = []
    epochs: list[int] = []

    def patience(clocks: Clocks, number: int) -> float:
        # Workers take long to start on a machine that is busy.
        return 8.0 if clocks._clocks[number].in_mid else 300.0

    def stop(progress: SweepProgress) -> None:
        if progress.event == "epoch":
            epochs.append(progress.epoch)
            workers = own_processes(b"RayTrainWorker")
            # Their next epoch may be on its way.
            if not set(workers) & set(stopped):
                stopped.append(max(workers))
                os.kill(stopped[-1], signal.SIGSTOP)

    monkeypatch.setattr(Clocks, "patience", patience)
    with pytest.raises(RaffectError, match=r"1 x stuck: no epoch for 8\.0 s"):
        sweep(
            filled, space, 1, base=tiny.base(optimiser__epochs=8), on_update=stop,
            pruning="none", checkpoint_seconds=0, workers_per_trial=2,
        )  # fmt: skip
    assert epochs == list(range(1, len(epochs) + 1)), "from its checkpoint, not from the start"
    assert len(stopped) == 2
    until = time.monotonic() + 30
    while own_processes(b"RayTrainWorker") or own_trial_processes():
        assert time.monotonic() < until
        time.sleep(0.2)


@pytest.mark.long
@pytest.mark.ray
def test_cores_of_a_dead_trials_workers_are_free_again(ray_local: None):
    """Without Ray's dashboard, what an inner run has reserved outlives its controller."""
    import ray
    from ray.util.placement_group import placement_group, remove_placement_group

    class Controller:
        def reserve(self) -> str:
            group = placement_group([{"CPU": 0.001}] * 2)
            ray.get(group.ready())
            return str(group.id.hex())

    class Owner:
        def begin(self) -> str:
            self.inner = ray.remote(Controller).options(num_cpus=0).remote()
            return str(ray.get(self.inner.reserve.remote()))

    def state(group: str) -> str:
        return str(ray.util.placement_group_table()[group]["state"])

    own = placement_group([{"CPU": 0.001}])
    owner = ray.remote(Owner).options(num_cpus=0).remote()
    _, group = ray.get([own.ready(), owner.begin.remote()])
    free_orphans()
    assert state(group) == "CREATED"
    ray.kill(owner)
    until = time.monotonic() + 30
    while state(group) != "REMOVED":
        assert time.monotonic() < until
        free_orphans()
        time.sleep(0.2)
    assert state(own.id.hex()) == "CREATED"
    remove_placement_group(own)
