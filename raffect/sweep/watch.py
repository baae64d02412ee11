"""Ends trials that take too long, or stand still, as in a GPU's driver or on a network's folder.

A process that hangs in C code, or is stopped, can't end itself: the command watches it from
outside. The median epoch says how long one takes; a first epoch may compile, and a store that is
away holds trials up for minutes, so that there is a least time for each.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

import ray
from ray import tune
from ray._private.state import state
from ray.core.generated.gcs_pb2 import PlacementGroupTableData  # type: ignore[attr-defined]
from ray.tune.experiment import Trial
from ray.util.placement_group import PlacementGroup, remove_placement_group

from raffect.context import OnNote
from raffect.sweep.failures import STOPPED, STUCK, TOO_LONG, kind_of
from raffect.sweep.settings import SweepSettings
from raffect.text import duration

MANY = 10
"""So many times the median epoch without one, and a trial counts as stuck."""
LEAST_S = 600.0
LEAST_FIRST_S = 1800.0
"""Before a process's first epoch; workers of a trial may wait for nodes that are yet to start."""
UNKNOWN_S = 3 * 3600.0
"""As long as no epoch of any trial is known."""
_NOTE_S = 60.0
_MOST_PER_LOOK_S = 2.0
"""What passes between two looks while the command itself is held up is no trial's silence."""
_FREE_FOR_S = 60.0
_NEEDLESS_S = 10.0


@dataclass
class Clock:
    """Seconds of a trial in its processes.

    Attributes:
        silent: Since its last epoch, or since its process had it.
        ran: In all its processes together.
        longest: Its longest epoch.
        in_mid: Whether this process has told an epoch.
        needless: Since the study has its end, as another hand may give it; None before.
    """

    silent: float = 0.0
    ran: float = 0.0
    longest: float = 0.0
    in_mid: bool = False
    runs: bool = False
    noted: bool = False
    needless: float | None = None


class Clocks:
    """How long trials run and are silent, by their numbers.

    Args:
        stuck_s: Seconds without an epoch after which a trial is stuck; None: by the epochs so far.
        longest_s: Seconds that a trial may take; None: any.
    """

    def __init__(
        self,
        stuck_s: float | None = None,
        longest_s: float | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stuck_s = stuck_s
        self._longest_s = longest_s
        self._now = now
        self._looked = now()
        self._clocks: dict[int, Clock] = {}
        self._epochs: deque[float] = deque(maxlen=1000)
        self._median: float | None = None

    @classmethod
    def of(cls, settings: SweepSettings) -> Clocks:
        """Those that a sweep's settings ask for."""
        minutes = settings.stuck_minutes, settings.max_trial_minutes
        stuck_s, longest_s = (None if of is None else 60 * of for of in minutes)
        return cls(stuck_s, longest_s)

    def start(self, number: int) -> None:
        """A process has the trial."""
        clock = self._clocks.setdefault(number, Clock())
        clock.silent, clock.in_mid, clock.runs, clock.noted = 0.0, False, True, False

    def epoch(self, number: int) -> None:
        """It told an epoch."""
        clock = self._clocks[number]
        self._epochs.append(clock.silent)
        self._median = median(self._epochs)
        clock.longest = max(clock.longest, clock.silent)
        clock.silent, clock.in_mid, clock.noted = 0.0, True, False

    def settle(self, number: int) -> None:
        """The study has its end; a process that soon ends by itself is left alone."""
        if (clock := self._clocks.get(number)) is not None:
            clock.needless = 0.0

    def stop(self, number: int) -> None:
        """No process has it any more."""
        self._clocks.setdefault(number, Clock()).runs = False

    def patience(self, number: int) -> float:
        """Seconds without an epoch after which it is stuck."""
        clock = self._clocks[number]
        if self._stuck_s is not None:
            return self._stuck_s
        if self._median is None:
            return UNKNOWN_S
        usual = MANY * max(self._median, clock.longest)
        return max(usual, LEAST_S if clock.in_mid else LEAST_FIRST_S)

    def look(self) -> tuple[dict[int, str], list[str]]:
        """Let time pass; trials to be ended with their reasons, and what to say of others."""
        now = self._now()
        passed = min(now - self._looked, _MOST_PER_LOOK_S)
        self._looked = now
        ended, notes = {}, []
        for number, clock in self._clocks.items():
            if not clock.runs:
                continue
            clock.silent += passed
            clock.ran += passed
            patience = self.patience(number)
            if clock.needless is not None:
                clock.needless += passed
                if clock.needless > _NEEDLESS_S:
                    ended[number] = f"{STOPPED}: the trial has ended, and its process has not"
            elif self._longest_s is not None and clock.ran > self._longest_s:
                ended[number] = f"{TOO_LONG}: more than {duration(self._longest_s)}"
            elif clock.silent > patience:
                ended[number] = f"{STUCK}: no epoch for {duration(patience)}"
            elif self._is_worth_a_note(clock) and not clock.noted:
                clock.noted = True
                notes.append(
                    f"Trial {number} has told no epoch for {duration(clock.silent)}; after"
                    f" {duration(patience)} (--stuck-minutes) another process goes on with it."
                )
        for number in ended:
            self.stop(number)
        return ended, notes

    def _is_worth_a_note(self, clock: Clock) -> bool:
        usual = max(self._median or 0.0, clock.longest)
        return clock.in_mid and clock.silent > max(_NOTE_S, MANY * usual)


class TrialWatch(tune.Callback):
    """Ends the processes of trials by their clocks; the searcher's `reasons` get why.

    What is then to become of a trial is decided where any process is lost: by the scheduler, and
    the ledger.
    """

    def __init__(self, clocks: Clocks, reasons: dict[str, str], on_note: OnNote) -> None:
        self._clocks = clocks
        self._reasons = reasons
        self._on_note = on_note
        self._free_until = 0.0

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """A process has the trial, a new one or one that had others before."""
        self._clocks.start(_number(trial))

    def on_trial_result(
        self,
        iteration: int,
        trials: list[Trial],
        trial: Trial,
        result: Mapping[str, Any],
        **info: Any,
    ) -> None:
        """An epoch."""
        self._clocks.epoch(_number(trial))

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """It ended."""
        self._clocks.stop(_number(trial))

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """It lost its process for good."""
        self._lost(trial)

    def on_trial_recover(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """It lost its process, and waits for another one."""
        self._lost(trial)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Look at the clocks, several times a second."""
        ended, notes = self._clocks.look()
        for note in notes:
            self._on_note(note)
        if ended:
            for trial in trials:
                if trial.status == Trial.RUNNING and _number(trial) in ended:
                    self._end(trial, ended[_number(trial)])
        if time.monotonic() < self._free_until:
            free_orphans()

    def __getstate__(self) -> dict[str, object]:
        # Tune pickles its callbacks into a folder that nobody reads.
        return {}

    def _end(self, trial: Trial, reason: str) -> None:
        self._reasons[trial.trial_id] = reason
        if kind_of(reason) in (TOO_LONG, STOPPED):
            trial.max_failures = 0
        self._on_note(f"Trial {_number(trial)}: its process is ended ({reason}).")
        actor = trial.temporary_state.ray_actor
        if actor is not None:
            # The raylet sends SIGKILL to a process that does not answer.
            ray.kill(actor, no_restart=True)

    def _lost(self, trial: Trial) -> None:
        self._clocks.stop(_number(trial))
        self._free_until = time.monotonic() + _FREE_FOR_S


def free_orphans() -> None:
    """Free the cores of worker groups whose controller is dead.

    Ray frees a placement group with its creator's job. Ray Train has a cleaner for this, which
    needs Ray's dashboard; without it the next trial would wait for the cores for ever.
    """
    for raw in state._connect_and_get_accessor().get_placement_group_table():
        group = PlacementGroupTableData.FromString(raw)
        removed = group.state == PlacementGroupTableData.REMOVED
        # Tune's own groups, whose creator is the driver, count as those of a dead actor.
        by_actor = group.creator_actor_id and not ray.ActorID(group.creator_actor_id).is_nil()
        if by_actor and group.creator_actor_dead and not group.is_detached and not removed:
            found = ray.PlacementGroupID(group.placement_group_id)
            remove_placement_group(PlacementGroup(found))


def _number(trial: Trial) -> int:
    return int(trial.config["number"])
