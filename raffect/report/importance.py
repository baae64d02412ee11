"""Which searched parameters decide whether a trial is among the best: PED-ANOVA.

Watanabe, Bansal and Hutter, "PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in
Arbitrary Subspaces" (IJCAI 2023), as Optuna has it. It keeps conditional parameters.
"""

from __future__ import annotations

import math
import statistics
import warnings
from collections.abc import Mapping
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

from raffect.report.data import Importance, Trial
from raffect.sweep.attributes import SCORED
from raffect.sweep.quiet import quiet

FEWEST_TRIALS = 8
# The paper's share of best trials; Optuna advises at least 5 of them for a stable estimate, but of
# few trials no more than a third can be called the best.
_TARGET_SHARE = 0.1
_STABLE_TARGET = 5
_DECADES = 20.0
"""Least ratio of largest to smallest value at which a logarithmic axis may help."""

Distributions = Mapping[str, BaseDistribution]


def importance(
    trials: tuple[Trial, ...], distributions: Mapping[int, Distributions] | None = None
) -> Importance:
    """The share of each searched parameter in telling the best trials from all others.

    Pruned trials count with the score they had: they were stopped for being worse than others at
    the same epoch, and to leave them out would compare good trials with good ones alone.

    Args:
        trials: The sweep's trials.
        distributions: The study's own distributions by trial number; guessed from the values
            where they are missing.
    """
    scored = [t for t in trials if t.state in SCORED and t.score is not None and t.params]
    if len(scored) < FEWEST_TRIALS:
        return Importance(
            trials=len(scored),
            missing=f"Too few finished trials: {len(scored)} of at least {FEWEST_TRIALS}.",
        )
    target = max(
        math.ceil(_TARGET_SHARE * len(scored)), min(_STABLE_TARGET, math.ceil(len(scored) / 3))
    )
    study = _study(scored, distributions or {})
    evaluator = PedAnovaImportanceEvaluator(target_quantile=target / len(scored))
    with warnings.catch_warnings():
        # Said on the page instead: with few trials the importance is a first indication.
        warnings.simplefilter("ignore")
        found = evaluator.evaluate(study)
    total = sum(found.values())
    if not math.isfinite(total) or total <= 0:
        return Importance(
            trials=len(scored), missing="The searched parameters did not vary between the trials."
        )
    shares = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    return Importance(
        shares=tuple((name, value / total) for name, value in shares),
        trials=len(scored),
        target=target,
    )


def _study(scored: list[Trial], distributions: Mapping[int, Distributions]) -> optuna.Study:
    """A study in memory in which every scored trial is complete."""
    guessed = {name: guess_distribution(values) for name, values in _values(scored).items()}
    with quiet():
        study = optuna.create_study(direction="maximize")
    for trial in scored:
        own = distributions.get(trial.number, {})
        params = {name: _plain(value) for name, value in trial.params.items()}
        study.add_trial(
            optuna.create_trial(
                state=TrialState.COMPLETE,
                params=params,
                distributions={name: own.get(name, guessed[name]) for name in params},
                value=trial.score,
            )
        )
    return study


def _values(scored: list[Trial]) -> dict[str, list[Any]]:
    values: dict[str, list[Any]] = {}
    for trial in scored:
        for name, value in trial.params.items():
            values.setdefault(name, []).append(_plain(value))
    return values


def _plain(value: Any) -> Any:
    """A list from JSON as something that Optuna takes for a category."""
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def guess_distribution(values: list[Any]) -> BaseDistribution:
    """A distribution that these values may have been drawn from."""
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
    """Whether positive numbers look as if they were drawn evenly by their logarithm.

    Their median then lies nearer to the geometric than to the arithmetic middle of the range.
    """
    low, high, median = min(values), max(values), statistics.median(values)
    if low <= 0 or high / low < _DECADES:
        return False
    to_geometric = abs(math.log(median / math.sqrt(low * high)))
    to_arithmetic = abs(math.log(median / ((low + high) / 2)))
    return to_geometric < to_arithmetic
