"""Which searched parameters decide whether a trial is among the best: PED-ANOVA.

Watanabe, Bansal and Hutter, "PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in
Arbitrary Subspaces" (IJCAI 2023), as Optuna has it. It keeps conditional parameters.
"""

from __future__ import annotations

import math
import statistics
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.trial import TrialState

from raffect.report.data import Importance, scored
from raffect.sweep.quiet import quiet
from raffect.sweep.records import TrialRow

FEWEST_TRIALS = 8
_TARGET_SHARE = 0.1
"""Share of the trials that count as the best, from the paper."""
_STABLE_TARGET = 5
"""Fewest best trials for a stable estimate, as Optuna advises; but never more than a third of
all, or they could hardly be called the best."""
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
    """
    usable = [(trial, score) for trial, score in scored(trials) if trial.params]
    count = len(usable)
    if count < FEWEST_TRIALS:
        missing = f"Too few finished trials: {count} of at least {FEWEST_TRIALS}."
        return Importance(trials=count, missing=missing)
    target = max(math.ceil(_TARGET_SHARE * count), min(_STABLE_TARGET, math.ceil(count / 3)))
    evaluator = PedAnovaImportanceEvaluator(target_quantile=target / count)
    with warnings.catch_warnings():
        # The page says it instead: with few trials the importance is a first indication.
        warnings.simplefilter("ignore")
        found = evaluator.evaluate(_study(usable, distributions or {}))
    total = sum(found.values())
    if not math.isfinite(total) or total <= 0:
        missing = "The searched parameters did not vary between the trials."
        return Importance(trials=count, missing=missing)
    shares = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    return Importance(tuple((name, value / total) for name, value in shares), count, target)


def _study(
    trials: Sequence[tuple[TrialRow, float]], distributions: Mapping[int, Distributions]
) -> optuna.Study:
    """A study in memory in which every scored trial is complete."""
    values: dict[str, list[Any]] = {}
    for trial, _ in trials:
        for name, value in trial.params.items():
            values.setdefault(name, []).append(_plain(value))
    guessed = {name: guess_distribution(of) for name, of in values.items()}
    with quiet():
        study = optuna.create_study(direction="maximize")
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
