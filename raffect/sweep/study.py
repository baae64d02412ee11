"""The study of a sweep: which trials there are, how far each one is, and how it ended.

Everything that a sweep knows is here, in the store, and nothing twice: a driver that was killed
is followed by one that opens the same study, continues the trials it finds RUNNING and asks for
those that are missing.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from raffect.config import TemporalConfig
from raffect.settings import override
from raffect.store import Store, sweep_folder
from raffect.store.layout import STUDY
from raffect.sweep.attributes import (
    ACCUMULATION,
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
from raffect.sweep.failures import reason_of
from raffect.sweep.journal import PATIENCE_S, Batch, StoreJournal
from raffect.sweep.plan import no_sweep
from raffect.sweep.quiet import quiet
from raffect.sweep.records import TrialFacts, TrialRow, is_compared_with, read_row
from raffect.sweep.samplers import make_pruner, make_sampler
from raffect.sweep.settings import DIRECTIONS, Objective, SweepSettings
from raffect.sweep.space import Space
from raffect.temporal.epochs import EpochResult

_VALUES: dict[Objective, str] = {"latency": LATENCY, "parameters": PARAMETERS}
"""Trial attributes with the values of the objectives beside the score."""


def journal_of(store: Store, name: str) -> StoreJournal:
    """The journal of a sweep's study."""
    return StoreJournal(store, f"{sweep_folder(name)}/{STUDY}")


def open_storage(store: Store, name: str) -> JournalStorage:
    """A sweep's study for Optuna and its tools, e.g. `optuna_dashboard.run_server(storage)`."""
    return JournalStorage(journal_of(store, name))


def open_study(store: Store, name: str) -> optuna.Study:
    """A sweep's study, for reading.

    Raises:
        NotThereError: The store holds no such sweep.
    """
    with quiet():
        try:
            return optuna.load_study(study_name=name, storage=open_storage(store, name))
        except KeyError:
            # How Optuna says that the journal has no study of this name.
            raise no_sweep(store, name) from None


@dataclass(frozen=True)
class Overlap:
    """What one sweep brought to another.

    Attributes:
        results: Trials taken over as results.
        points: Trials of which only the parameters are tried.
        comparable: Its trials may count as results.
        shared: Parameters with the same range in both.
        narrowed: Parameters whose ranges differ.
        unknown: Parameters that this space does not search.
        added: Parameters that only this space searches.
    """

    sweep: str
    results: int
    points: int
    comparable: bool
    shared: tuple[str, ...] = ()
    narrowed: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    added: tuple[str, ...] = ()

    def describe(self) -> list[str]:
        """Lines for people."""
        why = "" if self.comparable else " (its scores mean something else here)"
        groups = {
            "same range": self.shared,
            "other range": self.narrowed,
            "not searched here": self.unknown,
            "only searched here": self.added,
        }
        return [
            f"From {self.sweep}: {self.results} results, {self.points} points to try{why}",
            *(f"  {what}: {', '.join(names)}" for what, names in groups.items() if names),
        ]


@dataclass
class Beginning:
    """The first trials of a new study.

    Attributes:
        points: Parameters to try first, in order, each with the trial's attributes; parameters
            that a point leaves out are sampled.
        results: Trials of other studies that count as this one's; one with the recipe's
            configuration comes first.
        overlaps: What each of the other sweeps brought.
    """

    points: list[tuple[Mapping[str, Any], Mapping[str, Any]]] = field(default_factory=list)
    results: list[FrozenTrial] = field(default_factory=list)
    overlaps: list[Overlap] = field(default_factory=list)


@dataclass(frozen=True)
class Assignment:
    """A trial to run: its number, its settings, and the epochs that are already recorded.

    `features` are those that it reads in place of the sweep's.
    """

    number: int
    config: TemporalConfig
    recorded: int = 0
    features: str | list[str] | None = None


@dataclass
class _Running:
    """What the study has of a running trial: to ask Optuna copies all its epochs, each time."""

    trial: Trial
    epochs: int
    best: float
    attributes: dict[str, Any]
    margins: Mapping[str, float] = field(default_factory=dict)


class SweepStudy:
    """The driver's hold on the study. One driver at a time: the newest wins (see journal.py).

    `optimiser.epochs` of the base is a trial's full budget; the settings have `trials` set.
    """

    def __init__(
        self,
        store: Store,
        name: str,
        space: Space,
        base: TemporalConfig,
        settings: SweepSettings,
    ) -> None:
        assert settings.trials is not None
        self._space = space
        self._base = base
        self._settings = settings
        self._objectives = settings.objectives
        self._rungs = settings.rungs(base.optimiser.epochs)
        self._journal = journal_of(store, name)
        self._journal.compact()
        self._live: dict[int, _Running] = {}
        self._run = uuid.uuid4().hex[:8]
        self.clock: Callable[[], float] = lambda: 0.0
        """Seconds of this run, recorded whenever a trial ends."""
        with self._writing():
            self._storage = JournalStorage(self._journal)
            self._study = optuna.create_study(
                storage=self._storage,
                study_name=name,
                directions=[DIRECTIONS[objective] for objective in self._objectives],
                load_if_exists=True,
                pruner=make_pruner(settings, base.optimiser.epochs),
            )
            trials = self._trials()
            if not trials:
                self._study.set_metric_names(list(self._objectives))
            warm = [str(overlap["sweep"]) for overlap in self._study.user_attrs.get(WARM, ())]
            self._study.sampler = make_sampler(settings, len(trials), self._storage, warm)
            own = [trial for trial in trials if ORIGIN not in trial.user_attrs]
            self.target = max(settings.trials, len(own))
            self._study.set_user_attr(TARGET, self.target)
            self._spent: dict[str, float] = self._study.user_attrs.get(SPENT, {})
        self._interrupted = [trial.number for trial in own if trial.state == TrialState.RUNNING]
        waiting = sum(trial.state == TrialState.WAITING for trial in own)
        self._unasked = self.target - len(own) + waiting

    @contextmanager
    def _writing(self) -> Iterator[Batch]:
        """One segment of the journal per decision."""
        with quiet(), self._journal.batch() as batch:
            yield batch

    def _trials(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def _id(self, number: int) -> int:
        study_id = self._storage.get_study_id_from_name(self._study.study_name)
        return self._storage.get_trial_id_from_study_id_trial_number(study_id, number)

    def describe(self, facts: Mapping[str, Any]) -> None:
        """Record what readers of the sweep want to know of it, e.g. the trivial baseline."""
        with self._writing():
            for key, value in facts.items():
                self._study.set_user_attr(key, value)

    @property
    def is_new(self) -> bool:
        """Whether there is no trial yet."""
        with self._writing():
            return not self._trials()

    def begin(self, beginning: Beginning) -> None:
        """Give a new study its first trials, the recipe as trial 0; does nothing to an old one."""
        with self._writing():
            if self._trials():
                return
            early = [trial for trial in beginning.results[:1] if trial.user_attrs[RECIPE]]
            self._study.add_trials(early)
            for params, attributes in beginning.points[: self.target]:
                self._study.enqueue_trial(dict(params), user_attrs=dict(attributes))
            self._study.add_trials(beginning.results[len(early) :])
            warm = [asdict(overlap) for overlap in beginning.overlaps]
            self._study.set_user_attr(WARM, warm)
            names = [overlap.sweep for overlap in beginning.overlaps]
            self._study.sampler = make_sampler(self._settings, 0, self._storage, names)

    def enqueue(self, points: Sequence[Mapping[str, Any]]) -> None:
        """Add trials that have these attributes and nothing that is searched."""
        with self._writing():
            for attributes in points:
                self._study.enqueue_trial({}, user_attrs=dict(attributes))

    @property
    def seconds_before(self) -> float:
        """Seconds of the command's earlier runs."""
        return sum(self._spent.values())

    @property
    def facts(self) -> Mapping[str, Any]:
        """What is recorded of the sweep as a whole."""
        with self._writing():
            return dict(self._study.user_attrs)

    @property
    def remaining(self) -> int:
        """Trials that are still to be started or continued."""
        return len(self._interrupted) + self._unasked

    def rows(self) -> list[TrialRow]:
        """All trials by number, those taken over from other sweeps too."""
        with self._writing():
            name = self._study.study_name
            return [read_row(name, trial, self._objectives) for trial in self._trials()]

    def row(self, number: int) -> TrialRow:
        """A trial as it is now."""
        with self._writing():
            trial = self._storage.get_trial(self._id(number))
            return read_row(self._study.study_name, trial, self._objectives)

    def next(self, on_bad: Callable[[str], None] = lambda reason: None) -> Assignment | None:
        """The next trial: one that a dead driver left, else a new one; None when there is none.

        When a trial's parameters make no valid configuration, `on_bad` is called with the reason;
        the trial is FAIL then, and the result None, although there may be others.
        """
        if not self.remaining:
            return None
        with self._writing():
            if self._interrupted:
                trial = Trial(self._study, self._id(self._interrupted.pop(0)))
                trial.set_user_attr("continued", trial.user_attrs.get("continued", 0) + 1)
            else:
                self._unasked -= 1
                trial = self._study.ask()
            return self._assign(trial, on_bad)

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
        known = trial.user_attrs
        scores = [known[key]["score"] for key in known if key.startswith(EPOCH)]
        best = max(scores, default=float("-inf"))
        self._live[trial.number] = _Running(trial, len(scores), best, known)
        features = known.get(VARIANT, {}).get("features")
        return Assignment(trial.number, config, len(scores), features)

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
        before = self._live[number].epochs
        with self._writing() as batch:
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

    def catch_up(self) -> None:
        """Write what has waited long enough."""
        self._journal.flush(PATIENCE_S)

    def complete(
        self, number: int, history: Sequence[EpochResult], facts: TrialFacts = TrialFacts()
    ) -> None:
        """Record a trial that used its full budget."""
        with self._writing():
            running = self._record(number, history, facts)
            rest = [float(running.attributes[_VALUES[of]]) for of in self._objectives[1:]]
            self._end(number, TrialState.COMPLETE, [running.best, *rest])

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
        with self._writing():
            self._record(number, history, facts).trial.set_user_attr(REASON, reason)
            self._end(number, state)

    def take_back(self, number: int) -> None:
        """Take back a trial whose process is gone; `next` gives it again, to be continued."""
        self._live.pop(number)
        self._interrupted.append(number)

    def _record(self, number: int, history: Sequence[EpochResult], facts: TrialFacts) -> _Running:
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

    def close(self) -> None:
        """Leave one segment behind."""
        self._journal.compact()
