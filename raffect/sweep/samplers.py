"""Optuna's samplers and pruners, by the names that users give."""

from __future__ import annotations

import math

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

from raffect.sweep.quiet import quiet
from raffect.sweep.settings import SweepSettings
from raffect.sweep.thinning import ThinningSampler

_STARTUP = (4, 10)
"""Fewest and most random trials before a model is asked; Optuna's 10 is for larger budgets."""
_POPULATION = (8, 50)
"""Fewest and most trials of a generation; Optuna's 50 would leave small sweeps at random."""
_SEEN: dict[str, int] = {"tpe": 2_000, "gp": 250}
"""Trials that these see of longer studies, so that the driver never waits for them for long."""


def make_sampler(settings: SweepSettings, rows: int, storage: BaseStorage) -> BaseSampler:
    """The sampler; a driver that follows another one must not repeat its random numbers.

    Args:
        settings: The sweep's settings, with `trials` set.
        rows: Trials that are in the study already.
        storage: Where the study is.
    """
    sampler = plain_sampler(settings, rows)
    most = _SEEN.get(settings.sampler)
    return sampler if most is None else ThinningSampler(sampler, storage, most)


def plain_sampler(settings: SweepSettings, rows: int) -> BaseSampler:
    """Optuna's own sampler, which sees all trials."""
    seed = settings.seed + rows
    trials = settings.trials or _STARTUP[1]
    startup = min(_STARTUP[1], max(_STARTUP[0], trials // 3))
    with quiet():
        if settings.sampler == "random":
            return RandomSampler(seed=seed)
        if settings.sampler == "gp":
            return GPSampler(seed=seed, n_startup_trials=startup, warn_independent_sampling=False)
        if settings.sampler == "cmaes":
            return _cmaes(seed, startup)
        if settings.sampler == "nsga2":
            fewest, most = _POPULATION
            population = min(most, max(fewest, math.isqrt(trials) * 2))
            return NSGAIISampler(seed=seed, population_size=population)
        # Groups: parameters that a branch of the space leaves out are learned where they occur.
        return TPESampler(seed=seed, n_startup_trials=startup, multivariate=True, group=True)


def _cmaes(seed: int, startup: int) -> BaseSampler:
    """CMA-ES for the parameters that every trial has, TPE for categories and branches.

    Pruned trials count: with asha they are two of three, and a generation would never be full.
    """
    return CmaEsSampler(
        seed=seed,
        n_startup_trials=startup,
        independent_sampler=TPESampler(seed=seed, n_startup_trials=startup),
        warn_independent_sampling=False,
        consider_pruned_trials=True,
    )


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
