"""Beginning a sweep with what others have found.

A finished trial of another sweep counts as this one's result when it is the very trial that this
sweep would have run: the same task, data, objectives and budget, and a configuration that this
space makes of this base. Of all others only their parameters are worth something: the best of
them are tried first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna import create_trial
from optuna.trial import FrozenTrial

from raffect.config import TemporalConfig
from raffect.errors import SettingsError
from raffect.settings import build, flatten, hash_json, override
from raffect.store import Store
from raffect.sweep.attributes import FILES, ORIGIN, POINT, RECIPE, SCORED, VARIANT
from raffect.sweep.beginning import Beginning, Overlap
from raffect.sweep.plan import PlanFile, SweepPlan, read_plan
from raffect.sweep.points import Recipe, derive_point, nearest_point
from raffect.sweep.settings import Limits, SweepSettings
from raffect.sweep.space import Space
from raffect.sweep.study import open_study

_POINTS_SHARE = 4
"""One of so many trials at most is spent on points of other sweeps."""
_RUNG = "completed_rung_"
"""Prefix of the attributes in which Optuna's successive halving keeps its rungs."""


@dataclass(frozen=True)
class Target:
    """The sweep that begins: `first` is its recipe, `points` are its space's known-good ones, and
    `settings.trials` is set."""

    plan: SweepPlan
    sources: Mapping[str, str]
    space: Space
    base: TemporalConfig
    first: Recipe
    settings: SweepSettings
    points: Sequence[Recipe] = ()

    @property
    def kept(self) -> list[dict[str, Any]]:
        """Parameters of the trials that others are compared with."""
        return [self.first.params, *(point.params for point in self.points)]


def warm_start(store: Store, names: Sequence[str], target: Target) -> Beginning:
    """What the named sweeps bring to a new one.

    Raises:
        NotThereError: The store holds no such sweep.
        SettingsError: One is named twice.
    """
    if len(set(names)) < len(names):
        raise SettingsError(
            f"A sweep is named twice: {', '.join(names)}.", "each sweep once", "Name it once."
        )
    found = Beginning()
    seen: set[str] = set()
    share = max(1, (target.settings.trials or 0) // _POINTS_SHARE // max(1, len(names)))
    for name in names:
        _add(store, name, target, found, seen, share)
    found.results.sort(key=lambda trial: not trial.user_attrs[RECIPE])
    return found


def _add(
    store: Store, name: str, target: Target, found: Beginning, seen: set[str], share: int
) -> None:
    plan = read_plan(store, name)
    base = build(TemporalConfig, plan["config"]["base"])
    all_trials = open_study(store, name).get_trials(deepcopy=False)
    trials = [t for t in all_trials if t.state.name in SCORED and t.values]
    trials.sort(key=lambda trial: -trial.values[0])
    comparable = _comparable(plan, target)
    results, points = 0, 0
    for trial in trials:
        config = _config(base, trial)
        key = "" if config is None else hash_json(config.canonical())
        if config is None or key in seen:
            continue
        taken = _as_result(name, trial, config, target, plan) if comparable else None
        if taken is not None and taken.params in target.kept and trial.state.name == "PRUNED":
            # Others are compared with it: this sweep runs it to the end.
            continue
        if taken is not None:
            found.results.append(taken)
            results += 1
        elif points < share and (params := _as_point(config, target)):
            found.points.append((params, {POINT: f"{name}:{trial.number}"}))
            points += 1
        else:
            continue
        seen.add(key)
    ranges, own = plan["config"].get("space", {}).get("ranges", {}), target.first.describe()
    both = [key for key in own if key in ranges]
    found.overlaps.append(
        Overlap(
            sweep=name,
            results=results,
            points=points,
            comparable=comparable,
            shared=tuple(key for key in both if own[key] == ranges[key]),
            narrowed=tuple(key for key in both if own[key] != ranges[key]),
            unknown=tuple(sorted(set(ranges) - set(own))),
            added=tuple(sorted(set(own) - set(ranges))),
        )
    )


def _comparable(plan: PlanFile, target: Target) -> bool:
    """Whether a score means the same in both: task, data, objectives and a trial's budget."""
    config, own = plan["config"], target.plan
    return bool(
        plan.get("sources") == dict(target.sources)
        and config["task"] == own["task"]
        and config["features"] == own["features"]
        and config["sweep"].get("objectives") == own["sweep"].get("objectives")
        and config["base"].get("fold") == own["base"].get("fold")
        and config["base"]["optimiser"]["epochs"] == own["base"]["optimiser"]["epochs"]
    )


def _config(base: TemporalConfig, trial: FrozenTrial) -> TemporalConfig | None:
    """The settings of another sweep's trial, as far as its parameters are named by their keys."""
    known = flatten(base.canonical())
    variant = trial.user_attrs.get(VARIANT, {})
    if variant.get("features") or any(name not in known for name in trial.params):
        return None
    try:
        return override(base, {**trial.params, **variant.get("changes", {})})
    except SettingsError:
        return None


def _as_result(
    name: str, trial: FrozenTrial, config: TemporalConfig, target: Target, plan: PlanFile
) -> FrozenTrial | None:
    """The trial in the terms of the new sweep's space; None if it would not run the same."""
    try:
        point = derive_point(target.space, target.base, config)
    except SettingsError:
        return None
    attributes = dict(trial.user_attrs)
    for key in (FILES, VARIANT):
        attributes.pop(key, None)
    attributes.setdefault(ORIGIN, f"{name}:{trial.number}")
    attributes[RECIPE] = point.params == target.first.params
    theirs, ours = plan["config"]["sweep"], target.plan["sweep"]
    pruning = ("pruning", "min_epochs", "reduction_factor")
    same_rungs = all(theirs.get(key) == ours.get(key) for key in pruning)
    return create_trial(
        state=trial.state,
        values=list(trial.values),
        params=point.params,
        distributions=point.distributions,
        user_attrs=attributes,
        system_attrs={
            key: value
            for key, value in trial.system_attrs.items()
            if same_rungs and key.startswith(_RUNG)
        },
        intermediate_values=trial.intermediate_values,
        # What the trial misses of this sweep's limits; a pruned trial's latency is not known.
        constraints=Limits.of(target.settings).margins(
            attributes.get("parameters", 0), attributes.get("latency_ms")
        ),
    )


def _as_point(config: TemporalConfig, target: Target) -> Mapping[str, Any]:
    """What of a configuration the new space contains."""
    wanted = override(config, {"task": target.base.task, "run": target.base.run.canonical()})
    try:
        return nearest_point(target.space, target.base, wanted)
    except SettingsError:
        return {}
