"""Which searched parameters decide whether a trial is among the best: PED-ANOVA.

Watanabe, Bansal and Hutter, "PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in
Arbitrary Subspaces" (IJCAI 2023), as Optuna has it. It keeps conditional parameters.
"""

from __future__ import annotations

import math
import statistics
import warnings
from collections.abc import Container, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState

from raffect.environment import without
from raffect.report.data import Importance, scored
from raffect.sweep.quiet import quiet
from raffect.sweep.records import TrialRow

FEWEST_TRIALS = 8
TRIALS_PER_PARAMETER = 4
"""Fewest trials for each parameter that varies: with fewer, the order is luck."""
_TARGET_SHARE = 0.1
"""Share of the trials that count as the best, from the paper."""
_STABLE_TARGET = 5
"""Fewest best trials for a stable estimate, as Optuna advises; but never more than a third of
all, or they could hardly be called the best."""
_SAMPLES = (20, 50)
"""Fewest and most bootstraps. One takes 6 ms, and 25 ms for 1,000 trials."""
_SAMPLED_TRIALS = 20_000
"""Of all bootstraps together, so that a report of a large sweep takes half a second longer."""
_SPREAD = (0.05, 0.95)
_DECADES = 20.0
"""Smallest ratio of largest to smallest value at which a logarithmic axis may help."""

Distributions = Mapping[str, BaseDistribution]


def importance(
    trials: Sequence[TrialRow], distributions: Mapping[int, Distributions] | None = None
) -> Importance:
    """The share of each searched parameter in telling the best trials from all others.

    Pruned trials count with the score that they had: they were stopped for being worse than others
    at the same epoch, and without them good trials would be compared with good ones alone. The
    study's distributions, by trial number, are guessed from the values where they are missing.
    How far a share is luck is seen by taking it from bootstraps of the trials, with a fixed seed.
    """
    usable = [(trial, score) for trial, score in scored(trials) if trial.params]
    count = len(usable)
    complete = sum(trial.state == "COMPLETE" for trial, _ in usable)
    needed = max(FEWEST_TRIALS, TRIALS_PER_PARAMETER * _varying([trial for trial, _ in usable]))
    if count < needed:
        missing = (
            f"Needs {needed - count} more finished trials: there are {count} of {needed}, "
            f"{TRIALS_PER_PARAMETER} for each parameter that varies."
        )
        return Importance(trials=count, complete=complete, lacking=needed - count, missing=missing)
    target = max(math.ceil(_TARGET_SHARE * count), min(_STABLE_TARGET, math.ceil(count / 3)))
    study = _study(usable, distributions or {})
    found = _shares(study, target / count)
    if not found:
        missing = "The searched parameters did not vary between the trials."
        return Importance(trials=count, complete=complete, missing=missing)
    few, many = _SAMPLES
    rng, all_trials = np.random.default_rng(0), study.get_trials(deepcopy=False)
    samples = []
    for _ in range(max(few, min(many, _SAMPLED_TRIALS // count))):
        study.shown = [all_trials[index] for index in rng.integers(0, count, count)]
        if of_sample := _shares(study, target / count):
            samples.append([of_sample.get(name, 0.0) for name in found])
    low, high = np.quantile(samples or [list(found.values())], _SPREAD, axis=0).tolist()
    spread = dict(zip(found, zip(low, high, strict=True), strict=True))
    shares = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    return Importance(
        shares=tuple(shares),
        spread=tuple(spread[name] for name, _ in shares),
        samples=len(samples),
        trials=count,
        complete=complete,
        target=target,
    )


def _varying(trials: Sequence[TrialRow]) -> int:
    """Parameters with more than one value; of very few trials all of them."""
    values: dict[str, set[str]] = {}
    for trial in trials:
        for name, value in trial.params.items():
            values.setdefault(name, set()).add(repr(value))
    return sum(len(of) > 1 or len(trials) < FEWEST_TRIALS for of in values.values())


class _Sampled(optuna.Study):
    """A study that shows some of its trials, some of them several times."""

    shown: Sequence[FrozenTrial] | None = None

    def get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """Those that are shown, else all; each is complete."""
        return super().get_trials(deepcopy, states) if self.shown is None else list(self.shown)


def _shares(study: optuna.Study, quantile: float) -> dict[str, float]:
    """Each parameter's share for the best trials; empty where no parameter tells them apart."""
    # scikit-learn is for its other evaluators: a second of CPU time and 100 MB.
    with without("sklearn"):
        from optuna.importance import PedAnovaImportanceEvaluator
    with warnings.catch_warnings():
        # The page says it instead: with few trials the importance is a first indication.
        warnings.simplefilter("ignore")
        found = PedAnovaImportanceEvaluator(target_quantile=quantile).evaluate(study)
    total = sum(found.values())
    usable = math.isfinite(total) and total > 0
    return {name: value / total for name, value in found.items()} if usable else {}


def _study(
    trials: Sequence[tuple[TrialRow, float]], distributions: Mapping[int, Distributions]
) -> _Sampled:
    """A study in memory in which every scored trial is complete."""
    values: dict[str, list[Any]] = {}
    for trial, _ in trials:
        for name, value in trial.params.items():
            values.setdefault(name, []).append(_plain(value))
    guessed = {name: guess_distribution(of) for name, of in values.items()}
    with quiet():
        storage = optuna.storages.InMemoryStorage()
        name = optuna.create_study(storage=storage, direction="maximize").study_name
        study = _Sampled(name, storage)
    for trial, score in trials:
        own = distributions.get(trial.number, {})
        params = {name: _plain(value) for name, value in trial.params.items()}
        study.add_trial(
            optuna.create_trial(
                state=TrialState.COMPLETE,
                params=params,
                distributions={name: own.get(name, guessed[name]) for name in params},
                value=score,
            )
        )
    return study


def _plain(value: Any) -> Any:
    """A value that Optuna accepts as a category: lists from JSON become text."""
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def guess_distribution(values: list[Any]) -> BaseDistribution:
    """A distribution that these values may have been sampled from."""
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    if numbers and all(isinstance(v, int) for v in values):
        low = min(values)
        step = math.gcd(*(v - low for v in values))
        return IntDistribution(low, max(values), step=max(step, 1))
    if numbers and all(math.isfinite(v) for v in values):
        low, high = min(values), max(values)
        return FloatDistribution(low, high, log=spans_decades(values))
    return CategoricalDistribution(tuple(dict.fromkeys(_plain(value) for value in values)))


def spans_decades(values: list[float]) -> bool:
    """Whether positive numbers look as if they were sampled evenly on a logarithmic scale.

    Their median is then nearer to the geometric than to the arithmetic middle of the range.
    """
    low, high, median = min(values), max(values), statistics.median(values)
    if low <= 0 or high / low < _DECADES:
        return False
    to_geometric = abs(math.log(median / math.sqrt(low * high)))
    to_arithmetic = abs(math.log(median / ((low + high) / 2)))
    return to_geometric < to_arithmetic
