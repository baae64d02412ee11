"""Optuna's samplers and pruners, by the names that users give."""

from __future__ import annotations

import copy
import math
from collections.abc import Container, Sequence
from typing import Any

from optuna import Study, load_study
from optuna.distributions import BaseDistribution
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    SuccessiveHalvingPruner,
)
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    GPSampler,
    NSGAIISampler,
    RandomSampler,
    TPESampler,
)
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from raffect.settings import hash_json
from raffect.sweep.quiet import quiet
from raffect.sweep.settings import SweepSettings

_STARTUP = (4, 10)
"""Fewest and most random trials before a model is asked; Optuna's 10 is for larger budgets."""
_POPULATION = (8, 50)
"""Fewest and most trials of a generation; Optuna's 50 would leave small sweeps at random."""
_SEEN: dict[str, int] = {"tpe": 2_000, "gp": 250}
"""Trials that these see of longer studies, so that the driver never waits for them for long."""
_TOLD = (TrialState.COMPLETE, TrialState.PRUNED)
_BEST = 50
"""Best trials that are always seen, by each objective; TPE's better part has at most 25."""


def make_sampler(
    settings: SweepSettings, rows: int, storage: BaseStorage, warm: Sequence[str] = ()
) -> BaseSampler:
    """The sampler of a study that has so many `rows`; `settings.trials` is set.

    A driver that follows another one must not repeat its random numbers, nor may a study those of
    the sweeps that it began with, `warm`.
    """
    sampler = plain_sampler(settings, rows, warm)
    most = _SEEN.get(settings.sampler)
    return sampler if most is None else ThinningSampler(sampler, storage, most)


def plain_sampler(settings: SweepSettings, rows: int, warm: Sequence[str] = ()) -> BaseSampler:
    """Optuna's own sampler, which sees all trials."""
    seed = settings.seed + rows
    if warm:
        seed = int(hash_json([seed, *warm])[:8], 16)
    trials = settings.trials or _STARTUP[1]
    startup = min(_STARTUP[1], max(_STARTUP[0], trials // 3))
    with quiet():
        if settings.sampler == "random":
            return RandomSampler(seed=seed)
        if settings.sampler == "gp":
            return GPSampler(seed=seed, n_startup_trials=startup, warn_independent_sampling=False)
        if settings.sampler == "cmaes":
            # For the parameters that every trial has; TPE for categories and branches. Pruned
            # trials count: with asha they are two of three, and a generation would never be full.
            return CmaEsSampler(
                seed=seed,
                n_startup_trials=startup,
                independent_sampler=TPESampler(seed=seed, n_startup_trials=startup),
                warn_independent_sampling=False,
                consider_pruned_trials=True,
            )
        if settings.sampler == "nsga2":
            fewest, most = _POPULATION
            population = min(most, max(fewest, math.isqrt(trials) * 2))
            return NSGAIISampler(seed=seed, population_size=population)
        # Groups: parameters that a branch of the space leaves out are learned where they occur.
        return TPESampler(seed=seed, n_startup_trials=startup, multivariate=True, group=True)


def make_pruner(settings: SweepSettings, epochs: int) -> BasePruner:
    """The pruner for trials of so many epochs.

    Successive halving keeps its rungs in the study's trials, and the others compare with what the
    study holds: a driver that follows another one prunes as it would have done.
    """
    first, factor = settings.first_rung(epochs), settings.reduction_factor
    if settings.pruner == "asha":
        return SuccessiveHalvingPruner(min_resource=first, reduction_factor=factor)
    if settings.pruner == "hyperband":
        return HyperbandPruner(min_resource=first, max_resource=epochs, reduction_factor=factor)
    if settings.pruner == "median":
        return MedianPruner(n_startup_trials=4, n_warmup_steps=first, interval_steps=first)
    return NopPruner()


class ThinningSampler(BaseSampler):
    """Lets a sampler see the best and the latest trials of a study that is longer than that.

    Args:
        inner: The sampler, which must not keep its own record of past trials.
        storage: The study's storage.
        most: Trials that ended, above which the study is thinned out.
    """

    def __init__(self, inner: BaseSampler, storage: BaseStorage, most: int) -> None:
        self._inner = inner
        self._storage = storage
        self._most = most
        self._seen: Study | None = None

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Take the study as it is now; it stays so for all of the trial's parameters."""
        self._seen = self._thinned(study)
        self._inner.before_trial(self._seen, trial)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """As the sampler does."""
        return self._inner.infer_relative_search_space(self._seen or study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """As the sampler does."""
        return self._inner.sample_relative(self._seen or study, trial, search_space)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """As the sampler does."""
        seen = self._seen or study
        return self._inner.sample_independent(seen, trial, param_name, param_distribution)

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """As the sampler does."""
        self._inner.after_trial(study, trial, state, values)

    def reseed_rng(self) -> None:
        """As the sampler does."""
        self._inner.reseed_rng()

    def _thinned(self, study: Study) -> Study:
        # Hyperband hands over a study of its own kind, which is one bracket of the whole.
        if type(study) is not Study:
            return study
        trials = study.get_trials(deepcopy=False)
        ended = [trial for trial in trials if trial.state in _TOLD]
        if len(ended) <= self._most:
            return study
        kept = thin(ended, study.directions, self._most)
        shown = [t for t in trials if t.state not in _TOLD or t.number in kept]
        view: Any = _View(self._storage, shown)
        return load_study(
            study_name=study.study_name, storage=view, sampler=self, pruner=study.pruner
        )


def thin(
    ended: Sequence[FrozenTrial], directions: Sequence[StudyDirection], most: int
) -> set[int]:
    """Numbers of the trials that are kept: the latest, and the best by each objective."""
    kept = {trial.number for trial in ended[-most:]}
    rated = [
        trial
        for trial in ended
        if trial.state is TrialState.COMPLETE and all(m <= 0 for m in trial.constraints.values())
    ]
    for objective, direction in enumerate(directions):
        order = sorted(
            rated,
            key=lambda trial: trial.values[objective],
            reverse=direction is StudyDirection.MAXIMIZE,
        )
        kept |= {trial.number for trial in order[:_BEST]}
    return kept


class _View:
    """A study's storage that shows some of its trials; all else is the storage's."""

    def __init__(self, storage: Any, shown: Sequence[FrozenTrial]) -> None:
        self._storage = storage
        self._shown = shown

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """These trials as they are now; those that had ended have not changed since."""
        now = (
            trial if trial.state.is_finished() else self._storage.get_trial(trial._trial_id)
            for trial in self._shown
        )
        found = [trial for trial in now if states is None or trial.state in states]
        return copy.deepcopy(found) if deepcopy else found
