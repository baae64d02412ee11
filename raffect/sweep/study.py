"""The study of a sweep: which trials there are, how far each one is, and how it ended.

Everything that a sweep knows is here, in the store, and nothing is told twice: a driver that was
killed is followed by one that opens the same study, goes on with the trials it finds RUNNING and
asks for those that are missing.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.pruners import BasePruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from raffect.config import TemporalConfig
from raffect.errors import NotThereError
from raffect.store import Store, sweep_folder
from raffect.store.layout import SWEEPS
from raffect.sweep.journal import StoreJournal
from raffect.sweep.reasons import reason_of
from raffect.sweep.recipe import Recipe
from raffect.sweep.settings import SweepSettings
from raffect.sweep.space import Space

EPOCH = "epoch."
"""Prefix of the trial attributes with what each epoch gave: `epoch.001`, ..."""
REASON = "reason"
FILES = "files"
"""Trial attribute with the files of the trial's model, as the sweep's manifest lists them."""
ORIGIN = "origin"
"""Trial attribute `SWEEP:NUMBER` of a result that was taken over from another sweep."""
DEVICES = "devices"
"""Trial attribute with the devices that it took."""
SPENT = "spent"
"""Study attribute with the seconds of each run of the command."""
History = Sequence[Mapping[str, Any]]
"""Epochs of a trial, as the fields of EpochResult."""
_STARTUP = (4, 10)
"""Fewest and most random trials before TPE; Optuna's own figure is 10, for larger budgets."""


def journal_of(store: Store, name: str) -> StoreJournal:
    """The journal of a sweep's study."""
    return StoreJournal(store, f"{sweep_folder(name)}/study")


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
            raise NotThereError(
                f"The store {store.uri} holds no sweep {name!r}.",
                ", ".join(store.names(SWEEPS)),
                "Make it first: raffect tune TASK",
            ) from None


@contextmanager
def quiet() -> Iterator[None]:
    """None of Optuna's notes on the screen."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)


@dataclass(frozen=True)
class Assignment:
    """A trial to run: its number, its settings, and the epochs that are already recorded."""

    number: int
    config: TemporalConfig
    recorded: int = 0


class SweepStudy:
    """The driver's hold on the study. One driver at a time: the newest wins (see journal.py).

    Args:
        store: The sweep's store.
        name: The sweep.
        space: The search space.
        base: Settings that the space changes; `optimiser.epochs` is a trial's full budget.
        settings: The sweep's settings, with `trials` set.
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
        self._journal = journal_of(store, name)
        self._journal.merge()
        self._live: dict[int, Trial] = {}
        # Epochs and best score of the running trials.
        self._recorded: dict[int, tuple[int, float]] = {}
        with self._writing():
            self._storage = JournalStorage(self._journal)
            self._study = optuna.create_study(
                storage=self._storage,
                study_name=name,
                direction="maximize",
                load_if_exists=True,
                pruner=make_pruner(settings, base.optimiser.epochs),
            )
            rows = self._rows()
            self._study.sampler = make_sampler(settings, len(rows))
            self.target = max(settings.trials, len(rows))
            self._study.set_user_attr("target", self.target)
        self._unasked = self.target - len(rows)
        self._interrupted = [row.number for row in rows if row.state == TrialState.RUNNING]
        self._unasked += sum(row.state == TrialState.WAITING for row in rows)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """One object of the journal per decision."""
        with quiet(), self._journal.batch():
            yield

    def _rows(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def describe(self, facts: dict[str, Any]) -> None:
        """Record what readers of the sweep want to know of it, e.g. the trivial baseline."""
        with self._writing():
            for key, value in facts.items():
                self._study.set_user_attr(key, value)

    def enqueue(self, recipe: Recipe) -> None:
        """Make the recipe trial 0 of a new study; does nothing when there are trials."""
        with self._writing():
            if not self._rows():
                self._study.enqueue_trial(recipe.params, user_attrs={"recipe": True})

    @property
    def remaining(self) -> int:
        """Trials that are still to be started or continued."""
        return len(self._interrupted) + self._unasked

    def finished(self) -> list[FrozenTrial]:
        """Trials that ended."""
        with self._writing():
            return [row for row in self._rows() if row.state.is_finished()]

    def next(self) -> Assignment | None:
        """The next trial: one that a dead driver left, else a new one; None when there is none.

        A trial whose parameters make no valid configuration is told FAIL, and the next is taken.
        """
        while self.remaining:
            with self._writing():
                found = self._continue() if self._interrupted else self._ask()
            if found is not None:
                return found
        return None

    def _continue(self) -> Assignment | None:
        number = self._interrupted.pop(0)
        study_id = self._storage.get_study_id_from_name(self._study.study_name)
        trial = Trial(
            self._study,
            self._storage.get_trial_id_from_study_id_trial_number(study_id, number),
        )
        row = self._rows()[number]
        trial.set_user_attr("continued", row.user_attrs.get("continued", 0) + 1)
        if row.last_step is None:
            return self._assign(trial)
        return self._assign(trial, row.last_step, row.intermediate_values[row.last_step])

    def _ask(self) -> Assignment | None:
        self._unasked -= 1
        return self._assign(self._study.ask())

    def _assign(
        self, trial: Trial, recorded: int = 0, best: float = float("-inf")
    ) -> Assignment | None:
        try:
            config = self._space.configure(trial, self._base)
        except Exception as error:
            self._tell_failed(trial, reason_of(error))
            return None
        trial.set_user_attr("config_hash", config.digest())
        trial.set_user_attr("seed", config.run.seed)
        self._live[trial.number] = trial
        self._recorded[trial.number] = (recorded, best)
        return Assignment(trial.number, config, recorded)

    def report(
        self, number: int, history: History, facts: Mapping[str, Any] | None = None
    ) -> bool:
        """Record a running trial's epochs; tells it PRUNED and returns True if it is to stop.

        The value of an epoch is the best score so far, as that is the score of the model that the
        trial would leave. Record, rung and verdict are written as one: a kill in between can't
        separate them.

        Args:
            number: The trial.
            history: Its epochs (fields of EpochResult); known ones are not repeated.
            facts: Attributes of the trial, e.g. its number of parameters.
        """
        trial = self._live[number]
        with self._writing():
            new = self._record(trial, history, facts or {})
            if not new or not trial.should_prune():
                return False
            self._study.tell(number, state=TrialState.PRUNED)
        self._forget(number)
        return True

    def complete(
        self, number: int, history: History, facts: Mapping[str, Any] | None = None
    ) -> None:
        """Record a trial that used its full budget."""
        with self._writing():
            self._record(self._live[number], history, facts or {})
            self._study.tell(number, self._recorded[number][1])
        self._forget(number)

    def fail(
        self,
        number: int,
        reason: str,
        history: History = (),
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        """Record a trial that can't go on, with the reason."""
        trial = self._live[number]
        with self._writing():
            self._record(trial, history, facts or {})
            self._tell_failed(trial, reason)
        self._forget(number)

    def _record(self, trial: Trial, history: History, facts: Mapping[str, Any]) -> bool:
        """Add what is new; returns whether an epoch is."""
        for key, value in facts.items():
            if trial.user_attrs.get(key) != value:
                trial.set_user_attr(key, value)
        known, best = self._recorded[trial.number]
        for epoch in history:
            if epoch["epoch"] > known:
                best = max(best, epoch["score"])
                trial.set_user_attr(f"{EPOCH}{epoch['epoch']:03d}", dict(epoch))
                trial.report(best, epoch["epoch"])
                self._recorded[trial.number] = (epoch["epoch"], best)
        return self._recorded[trial.number][0] > known

    def _tell_failed(self, trial: Trial, reason: str) -> None:
        trial.set_user_attr(REASON, reason)
        self._study.tell(trial.number, state=TrialState.FAIL)

    def _forget(self, number: int) -> None:
        self._live.pop(number, None)
        self._recorded.pop(number, None)

    def close(self) -> None:
        """Leave one object behind."""
        self._journal.merge()


def make_sampler(settings: SweepSettings, rows: int) -> BaseSampler:
    """The sampler; a driver that follows another one must not repeat its random numbers."""
    seed = settings.seed + rows
    if settings.sampler == "random":
        return RandomSampler(seed=seed)
    fewest, most = _STARTUP
    startup = min(most, max(fewest, (settings.trials or most) // 3))
    with quiet():
        # Groups: parameters that a branch of the space leaves out are learned where they occur.
        return TPESampler(seed=seed, n_startup_trials=startup, group=True)


def make_pruner(settings: SweepSettings, epochs: int) -> BasePruner:
    """Asynchronous successive halving in epochs; its rungs are kept in the study itself."""
    if settings.pruner == "none":
        return NopPruner()
    return SuccessiveHalvingPruner(
        min_resource=settings.first_rung(epochs), reduction_factor=settings.reduction_factor
    )
