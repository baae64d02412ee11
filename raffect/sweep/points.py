"""Configurations in a space's own parameters: the base as trial 0, points known to be good."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalChoiceType,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import RandomSampler
from optuna.study import create_study
from optuna.trial import FixedTrial

from raffect.config import TemporalConfig
from raffect.errors import RaffectError, SettingsError
from raffect.settings import flatten, override
from raffect.sweep.quiet import quiet
from raffect.sweep.ranges import parse_range
from raffect.sweep.space import Space, space_failed

_RANDOM_POINTS = 20


@dataclass(frozen=True)
class Recipe:
    """Trial 0: the base configuration, in the space's parameters."""

    params: dict[str, Any]
    distributions: dict[str, BaseDistribution] = field(default_factory=dict)

    def describe(self) -> dict[str, str]:
        """The ranges met on the recipe's way through the space, for people and for comparison."""
        return {name: str(found) for name, found in sorted(self.distributions.items())}


def derive_recipe(space: Space, base: TemporalConfig) -> Recipe:
    """The base configuration's own values in the space; errors as `derive_point`'s."""
    return derive_point(space, base, base, "The base configuration")


def check_space(space: Space, base: TemporalConfig) -> None:
    """Refuse a space whose random points all make no configuration, before trials fail of it.

    Raises:
        SettingsError: None of them can be tried; the first one's reason is told.
    """
    reasons: list[str] = []
    with quiet():
        study = create_study(sampler=RandomSampler(seed=0))
        for _ in range(_RANDOM_POINTS):
            trial = study.ask()
            try:
                space.configure(trial, base)
                return
            except Exception as error:
                found = error.got if isinstance(error, RaffectError) else repr(error)
                reasons.append(f"{trial.params}\n{found}")
    raise SettingsError(
        f"The space {space.name} makes no valid configuration of {_RANDOM_POINTS} random points,"
        f" the first of which is {reasons[0]}",
        "a space whose values are settings; suggest_int for whole numbers",
        "Correct the space.",
    )


def derive_points(space: Space, base: TemporalConfig) -> list[Recipe]:
    """The space's known-good points, in its parameters.

    Raises:
        SettingsError: A point is outside of the space, or changes what the space does not search.
    """
    found = []
    for point in space.points:
        try:
            what = f"The known-good point {dict(point)}"
            found.append(derive_point(space, base, override(base, point), what))
        except SettingsError as error:
            raise SettingsError(
                error.got,
                "points of the space that change what it searches",
                "Correct POINTS in the space.",
            ) from None
    return found


def derive_point(
    space: Space, base: TemporalConfig, wanted: TemporalConfig, what: str = "This configuration"
) -> Recipe:
    """The parameters with which the space makes `wanted` of `base`.

    Raises:
        SettingsError: A parameter is no setting, its value lies outside of the range (all are
            listed), the space makes something else of them, or it fails.
    """
    trial = _ConfigTrial(wanted)
    try:
        config = space.configure(trial, base)
    except RaffectError:
        if not trial.problems:
            raise
    except Exception as error:
        if not trial.problems:
            raise space_failed(space.name, error) from error
    else:
        if not trial.problems and config != wanted:
            before, after = flatten(wanted.canonical()), flatten(config.canonical())
            changed = [k for k in after if before[k] != after[k]]
            becomes = "; ".join(f"{k} = {before[k]} becomes {after[k]}" for k in changed)
            trial.problems.append(f"  {becomes}")
    if trial.problems:
        raise SettingsError(
            f"{what} is no point of the space {space.name}:\n" + "\n".join(trial.problems),
            "a space in which trial 0 is the base configuration; parameters named by dotted keys",
            "Change the base with --set, or use a space that contains it (--space).",
        )
    return Recipe(trial.params, trial.distributions)


def nearest_point(space: Space, base: TemporalConfig, wanted: TemporalConfig) -> dict[str, Any]:
    """Those values of `wanted` that the space contains, by parameter.

    Raises:
        SettingsError: The space fails on the way.
    """
    trial = _ConfigTrial(wanted)
    try:
        space.configure(trial, base)
    except SettingsError:
        if not trial.problems:
            raise
    except Exception as error:
        raise space_failed(space.name, error) from error
    return trial.params


class _ConfigTrial(FixedTrial):
    """Answers each parameter with a configuration's value of that key.

    Values that the space does not contain are listed in `problems`, and answered by one of it.
    """

    def __init__(self, base: TemporalConfig) -> None:
        super().__init__({})
        self.problems: list[str] = []
        self._values = flatten(base.canonical())
        self._taken: dict[str, Any] = {}
        self._ranges: dict[str, BaseDistribution] = {}

    @property
    def params(self) -> dict[str, Any]:
        return self._taken

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        return self._ranges

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        return float(self._take(name, FloatDistribution(low, high, log=log, step=step), low))

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        return int(self._take(name, IntDistribution(low, high, log=log, step=step), low))

    def suggest_categorical(  # type: ignore[override]  # FixedTrial's overloads say the same
        self, name: str, choices: Sequence[CategoricalChoiceType]
    ) -> CategoricalChoiceType:
        with quiet():
            distribution = CategoricalDistribution(choices)
        return self._take(name, distribution, choices[0])  # type: ignore[no-any-return]

    def _take(self, name: str, distribution: BaseDistribution, fallback: Any) -> Any:
        """The base's value, or `fallback` after a note, so that all problems are found at once."""
        if name not in self._values:
            self.problems.append(f"  {name}: no setting has this name")
            return fallback
        value = self._values[name]
        bounds = (getattr(distribution, "low", 0), getattr(distribution, "high", 0))
        if not all(map(math.isfinite, bounds)):
            self.problems.append(f"  {name}: {distribution} has no finite bounds")
            return value
        if not _contains(distribution, value):
            allowed = parse_range(str(distribution)) or distribution
            self.problems.append(f"  {name} = {value} lies outside of {allowed}")
            return fallback
        self._taken[name] = value
        self._ranges[name] = distribution
        return value


def _contains(distribution: BaseDistribution, value: Any) -> bool:
    if isinstance(distribution, CategoricalDistribution):
        return any(
            value == choice and type(value) is type(choice) for choice in distribution.choices
        )
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    if not distribution.low <= value <= distribution.high:
        return False
    steps = (value - distribution.low) / (distribution.step or 1)
    free = distribution.step is None or (
        isinstance(distribution, IntDistribution) and distribution.log
    )
    return free or abs(steps - round(steps)) < 1e-9
