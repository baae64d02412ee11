"""The study of a sweep: which trials there are, how far each one is, and how it ended.

Everything that a sweep knows is here, in the store, and nothing twice: a driver that was killed
is followed by one that opens the same study, continues the trials it finds RUNNING and asks for
those that are missing.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, TypeVar

import optuna
from optuna.storages import JournalStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from raffect.config import TemporalConfig
from raffect.settings import override
from raffect.store import Store, sweep_folder
from raffect.store.layout import STUDY
from raffect.store.lease import Holder
from raffect.sweep.attributes import (
    ACCUMULATION,
    DRIVER,
    EPOCH,
    LATENCY,
    MADE_BY,
    ORIGIN,
    PARAMETERS,
    REASON,
    RECIPE,
    SPENT,
    TARGET,
    VARIANT,
    WARM,
    WORKERS,
)
from raffect.sweep.beginning import Beginning
from raffect.sweep.failures import reason_of
from raffect.sweep.journal import PATIENCE_S, Batch, OvertakenError, StoreJournal, never
from raffect.sweep.plan import no_sweep, taken_over
from raffect.sweep.quiet import quiet
from raffect.sweep.records import TrialFacts, TrialRow, is_compared_with, read_row
from raffect.sweep.running import Assignment, Running
from raffect.sweep.samplers import make_pruner, make_sampler
from raffect.sweep.settings import DIRECTIONS, Objective, SweepSettings
from raffect.sweep.space import Space
from raffect.temporal.epochs import EpochResult

T = TypeVar("T")
_LOOK_S = 15.0
"""How long a driver that has nothing to write goes without a look at what others wrote."""
_VALUES: dict[Objective, str] = {"latency": LATENCY, "parameters": PARAMETERS}
"""Trial attributes with the values of the objectives beside the score."""


def journal_of(store: Store, name: str, is_alone: Callable[[], bool] = never) -> StoreJournal:
    """The journal of a sweep's study; see StoreJournal for `is_alone`."""
    return StoreJournal(store, f"{sweep_folder(name)}/{STUDY}", is_alone)


def open_storage(store: Store, name: str) -> JournalStorage:
    """A sweep's study for Optuna and its tools, e.g. `optuna_dashboard.run_server(storage)`."""
    return JournalStorage(journal_of(store, name))


def open_study(store: Store, name: str, journal: StoreJournal | None = None) -> optuna.Study:
    """A sweep's study as it is now, read once; or on a journal of it, which may be written.

    Raises:
        NotThereError: The store holds no such sweep.
    """
    if journal is None:
        journal = journal_of(store, name)
        journal.freeze()
    with quiet():
        try:
            return optuna.load_study(study_name=name, storage=JournalStorage(journal))
        except KeyError:
            # How Optuna says that the journal has no study of this name.
            raise no_sweep(store, name) from None


class SweepStudy:
    """The driver's hold on the study. One driver at a time: the newest wins.

    Others may add trials and end them meanwhile (hands.py, or Optuna's tools on `open_storage`).

    `optimiser.epochs` of the base is a trial's full budget; the settings have `trials` set.
    """

    def __init__(
        self,
        store: Store,
        name: str,
        space: Space,
        base: TemporalConfig,
        settings: SweepSettings,
        is_alone: Callable[[], bool] = never,
    ) -> None:
        assert settings.trials is not None
        self._space = space
        self._base = base
        self._settings = settings
        self._objectives = settings.objectives
        self._rungs = settings.rungs(base.optimiser.epochs)
        self._journal = journal_of(store, name, is_alone)
        self._journal.compact()
        self._live: dict[int, Running] = {}
        self._run = uuid.uuid4().hex[:8]
        self.clock: Callable[[], float] = lambda: 0.0
        """Seconds of this run, recorded whenever a trial ends."""
        while True:
            with suppress(OvertakenError), self._writing():
                self._begin(name)
                break
        own = [trial for trial in self._trials() if ORIGIN not in trial.user_attrs]
        self._interrupted = [trial.number for trial in own if trial.state == TrialState.RUNNING]

    def _begin(self, name: str) -> None:
        """Open the study, and say in it that this driver writes it from now on."""
        self._heard = self._journal.heard
        storage = JournalStorage(self._journal)
        epochs = self._base.optimiser.epochs
        study = optuna.create_study(
            storage=storage,
            study_name=name,
            directions=[DIRECTIONS[objective] for objective in self._objectives],
            load_if_exists=True,
            pruner=make_pruner(self._settings, epochs),
        )
        if not study.get_trials(deepcopy=False):
            study.set_metric_names(list(self._objectives))
        now = datetime.now(UTC).isoformat(timespec="minutes")
        study.set_user_attr(DRIVER, {"run": self._run, "who": str(Holder.here()), "since": now})
        self._hold(study, storage)

    def _hold(self, study: optuna.Study, storage: JournalStorage) -> None:
        """Go on with a study as it is now; record a target that has grown."""
        self._study, self._storage = study, storage
        trials, facts = self._trials(), study.user_attrs
        warm = [str(overlap["sweep"]) for overlap in facts.get(WARM, ())]
        study.sampler = make_sampler(self._settings, len(trials), storage, warm)
        own = [trial for trial in trials if ORIGIN not in trial.user_attrs]
        assert self._settings.trials is not None
        self.target = max(self._settings.trials, len(own))
        if facts.get(TARGET) != self.target:
            study.set_user_attr(TARGET, self.target)
        spent: dict[str, float] = facts.get(SPENT, {})
        self._spent = {run: seconds for run, seconds in spent.items() if run != self._run}
        waiting = sum(trial.state == TrialState.WAITING for trial in own)
        self._unasked = self.target - len(own) + waiting

    @contextmanager
    def _writing(self) -> Iterator[Batch]:
        """One segment of the journal per decision."""
        with quiet(), self._journal.batch() as batch:
            yield batch

    def _decide(self, block: Callable[[Batch], T]) -> T:
        """Do a block and write what it decides as one segment.

        Others may write to the study too: Optuna's tools, `raffect enqueue`. What they have
        written since is taken up, and the block is done again on what is known then.

        Raises:
            ConflictError: Another driver has taken over.
        """
        live, interrupted = list(self._live), list(self._interrupted)
        again = False
        while True:
            with suppress(OvertakenError), self._writing() as batch:
                if again or self._journal.heard != self._heard:
                    self._take_up(live, interrupted)
                again = True
                return block(batch)

    def _take_up(self, live: Sequence[int], interrupted: Sequence[int]) -> None:
        """Go on with what others have written; these trials were running, or are to go on."""
        name, pruner = self._study.study_name, self._study.pruner
        storage = JournalStorage(self._journal)
        driver: dict[str, str] = {}
        with suppress(KeyError):
            study = optuna.load_study(study_name=name, storage=storage, pruner=pruner)
            driver = study.user_attrs.get(DRIVER, {})
        if driver.get("run") != self._run:
            self._journal.drop()
            raise taken_over(name, driver)
        self._hold(study, storage)
        self._heard = self._journal.heard
        running = {t.number for t in self._trials() if t.state == TrialState.RUNNING}
        self._live = {n: Running.of(Trial(study, self._id(n))) for n in live if n in running}
        self._interrupted = [number for number in interrupted if number in running]

    def look(self) -> None:
        """Take up what others have written, if there is anything."""
        with suppress(OvertakenError):
            self._journal.look()
        self._decide(lambda batch: None)

    def is_live(self, number: int) -> bool:
        """Whether a trial still runs by what is known; another hand may have ended it."""
        return number in self._live

    def _trials(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def _id(self, number: int) -> int:
        study_id = self._storage.get_study_id_from_name(self._study.study_name)
        return self._storage.get_trial_id_from_study_id_trial_number(study_id, number)

    def describe(self, facts: Mapping[str, Any]) -> None:
        """Record what readers of the sweep want to know of it, e.g. the trivial baseline."""

        def record(batch: Batch) -> None:
            for key, value in facts.items():
                self._study.set_user_attr(key, value)

        self._decide(record)

    @property
    def is_new(self) -> bool:
        """Whether there is no trial yet."""
        return self._decide(lambda batch: not self._trials())

    def begin(self, beginning: Beginning) -> None:
        """Give a new study its first trials, the recipe as trial 0; does nothing to an old one."""
        self._decide(lambda batch: self._enter(beginning))

    def _enter(self, beginning: Beginning) -> None:
        if self._trials():
            return
        early = [trial for trial in beginning.results[:1] if trial.user_attrs[RECIPE]]
        self._study.add_trials(early)
        for params, attributes in beginning.points[: self.target]:
            self._study.enqueue_trial(dict(params), user_attrs=dict(attributes))
        self._study.add_trials(beginning.results[len(early) :])
        self._study.set_user_attr(WARM, [asdict(overlap) for overlap in beginning.overlaps])
        names = [overlap.sweep for overlap in beginning.overlaps]
        self._study.sampler = make_sampler(self._settings, 0, self._storage, names)

    def enqueue(self, points: Sequence[Mapping[str, Any]], params: Any = None) -> None:
        """Add trials that have these attributes; of what is searched, these parameters."""

        def add(batch: Batch) -> None:
            for attributes in points:
                self._study.enqueue_trial(dict(params or {}), user_attrs=dict(attributes))
            self._hold(self._study, self._storage)

        self._decide(add)

    @property
    def seconds_before(self) -> float:
        """Seconds of the command's earlier runs."""
        return sum(self._spent.values())

    @property
    def facts(self) -> Mapping[str, Any]:
        """What is recorded of the sweep as a whole."""
        return self._decide(lambda batch: dict(self._study.user_attrs))

    @property
    def remaining(self) -> int:
        """Trials that are still to be started or continued."""
        return len(self._interrupted) + self._unasked

    def rows(self) -> list[TrialRow]:
        """All trials by number, those taken over from other sweeps too."""
        name, of = self._study.study_name, self._objectives
        return self._decide(lambda batch: [read_row(name, one, of) for one in self._trials()])

    def row(self, number: int) -> TrialRow:
        """A trial as it is now."""

        def read(batch: Batch) -> TrialRow:
            trial = self._storage.get_trial(self._id(number))
            return read_row(self._study.study_name, trial, self._objectives)

        return self._decide(read)

    def next(self, on_bad: Callable[[str], None] = lambda reason: None) -> Assignment | None:
        """The next trial: one that a dead driver left, else a new one; None when there is none.

        When a trial's parameters make no valid configuration, `on_bad` is called with the reason;
        the trial is FAIL then, and the result None, although there may be others.
        """
        bad: list[str] = []

        def ask(batch: Batch) -> Assignment | None:
            bad.clear()
            if not self.remaining:
                return None
            if self._interrupted:
                trial = Trial(self._study, self._id(self._interrupted.pop(0)))
                trial.set_user_attr("continued", trial.user_attrs.get("continued", 0) + 1)
            else:
                self._unasked -= 1
                trial = self._study.ask()
            return self._assign(trial, bad.append)

        assignment = self._decide(ask)
        for reason in bad:
            on_bad(reason)
        return assignment

    def _assign(self, trial: Trial, on_bad: Callable[[str], None]) -> Assignment | None:
        try:
            config = self._space.configure(trial, self._base)
            parts = trial.user_attrs.get(ACCUMULATION, config.optimiser.accumulation)
            config = override(config, {"optimiser.accumulation": parts})
        except Exception as error:
            # The space is the user's code: it may raise anything for some of its values.
            reason = reason_of(error)
            trial.set_user_attr(REASON, reason)
            self._end(trial.number, TrialState.FAIL)
            on_bad(reason)
            return None
        trial.set_user_attr("config_hash", config.digest())
        trial.set_user_attr("seed", config.run.seed)
        running = self._live[trial.number] = Running.of(trial)
        features = running.attributes.get(VARIANT, {}).get("features")
        is_new = "continued" not in running.attributes
        return Assignment(trial.number, config, running.epochs, features, is_new)

    def report(
        self, number: int, history: Sequence[EpochResult], facts: TrialFacts = TrialFacts()
    ) -> bool:
        """Record a running trial's epochs; tells it PRUNED and returns True if it is to stop.

        The value of an epoch is the best score so far, as that is the score of the model that the
        trial would leave. Record, rung and verdict are written as one: a kill in between can't
        separate them. Epochs between rungs decide nothing, and the trial tells its history again:
        they may wait for the next decision of any trial, at most for PATIENCE_S (see `catch_up`).
        A trial that others are compared with (records.is_compared_with) always goes on; its epochs
        count where others are judged.
        """

        def record(batch: Batch) -> bool:
            if number not in self._live:
                return True
            before = self._live[number].epochs
            running = self._record(number, history, facts)
            now = running.epochs
            if now > before and len(self._objectives) == 1:
                # Asked of each trial: successive halving notes a trial's values as it is asked.
                worse = running.trial.should_prune()
                if worse and not is_compared_with(running.attributes):
                    self._end(number, TrialState.PRUNED)
                    return True
            batch.may_wait = not any(before < rung <= now for rung in self._rungs)
            return False

        return self._decide(record)

    def catch_up(self) -> None:
        """Write what has waited long enough; look what others have written, now and then."""
        if time.monotonic() - self._journal.contact > _LOOK_S:
            self.look()
            return
        try:
            self._journal.flush(PATIENCE_S)
        except OvertakenError:
            self.look()

    def complete(
        self, number: int, history: Sequence[EpochResult], facts: TrialFacts = TrialFacts()
    ) -> None:
        """Record a trial that used its full budget."""

        def end(batch: Batch) -> None:
            if number in self._live:
                running = self._record(number, history, facts)
                rest = [float(running.attributes[_VALUES[of]]) for of in self._objectives[1:]]
                self._end(number, TrialState.COMPLETE, [running.best, *rest])

        self._decide(end)

    def refuse(self, number: int, reason: str, facts: TrialFacts) -> None:
        """Record a trial whose model is beyond a limit: pruned before its first epoch.

        The margins among the facts are what samplers learn from.
        """
        self.fail(number, reason, (), facts, TrialState.PRUNED)

    def fail(
        self,
        number: int,
        reason: str,
        history: Sequence[EpochResult] = (),
        facts: TrialFacts = TrialFacts(),
        state: TrialState = TrialState.FAIL,
    ) -> None:
        """Record a trial that can't go on, with the reason."""

        def end(batch: Batch) -> None:
            if number in self._live:
                self._record(number, history, facts).trial.set_user_attr(REASON, reason)
                self._end(number, state)

        self._decide(end)

    def take_back(self, number: int) -> None:
        """Take back a trial whose process is gone; `next` gives it again, to be continued."""
        if self._live.pop(number, None) is not None:
            self._interrupted.append(number)

    def _record(self, number: int, history: Sequence[EpochResult], facts: TrialFacts) -> Running:
        """Add what is new; known epochs are not repeated."""
        running = self._live[number]
        trial = running.trial
        attributes = facts.attributes()
        before = [{WORKERS: running.attributes.get(WORKERS, 1)}] if running.epochs else []
        makers = running.attributes.get(MADE_BY, before)
        if facts.maker is not None and asdict(facts.maker) not in makers:
            attributes[MADE_BY] = [*makers, asdict(facts.maker)]
        for key, value in attributes.items():
            if running.attributes.get(key) != value:
                running.attributes[key] = value
                trial.set_user_attr(key, value)
        if facts.margins != running.margins:
            running.margins = facts.margins
            known = trial.constraints
            for name, margin in facts.margins.items():
                if name not in known:
                    trial.set_constraint(name, margin)
        for epoch in history:
            if epoch.epoch > running.epochs:
                running.epochs = epoch.epoch
                running.best = max(running.best, epoch.score)
                trial.set_user_attr(f"{EPOCH}{epoch.epoch:03d}", asdict(epoch))
                if len(self._objectives) == 1:
                    # Optuna keeps no intermediate values of several objectives.
                    trial.report(running.best, epoch.epoch)
        return running

    def _end(self, number: int, state: TrialState, values: list[float] | None = None) -> None:
        self._study.tell(number, values, state)
        spent = {**self._spent, self._run: round(self.clock(), 3)}
        self._study.set_user_attr(SPENT, spent)
        self._live.pop(number, None)

    def close(self) -> dict[str, bytes]:
        """Leave one segment behind; its content by its name."""
        self.look()
        return self._journal.compact()
