"""A sweep's plan: what its name is bound to, written before its study and checked at each run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict, cast

from raffect.affwild2.tasks import Task
from raffect.config import TemporalConfig
from raffect.errors import ConflictError, NotThereError
from raffect.store import Manifest, Store, sweep_folder
from raffect.store.features import FeatureNames, plain_names
from raffect.store.layout import SWEEPS
from raffect.store.stage import read_plan as read_stage_plan
from raffect.sweep.points import Recipe
from raffect.sweep.settings import SweepSettings
from raffect.sweep.space import Space
from raffect.text import did_you_mean


class PlannedSpace(TypedDict, total=False):
    """The space twice: its ranges so that a difference can be read, its code so that none is
    missed. Helpers are the user's own modules that it imports, if there are any."""

    ranges: Mapping[str, str]
    code: str
    helpers: Mapping[str, str]


class SweepPlan(TypedDict):
    """What may not change under a sweep's name."""

    task: str
    base: Mapping[str, Any]
    features: NotRequired[str | list[str]]
    space: NotRequired[PlannedSpace]
    sweep: NotRequired[Mapping[str, Any]]
    ablation: NotRequired[Mapping[str, str | list[str] | None]]


class PlanFile(TypedDict):
    """The plan as it lies in the store, with the digests of what the sweep is made from."""

    config: SweepPlan
    sources: NotRequired[dict[str, str]]


def make_plan(
    task: Task,
    features: FeatureNames,
    base: TemporalConfig,
    space: Space,
    first: Recipe,
    settings: SweepSettings,
) -> SweepPlan:
    """The plan of a sweep; how many trials, and how many at a time, is left free."""
    searched: PlannedSpace = {"ranges": first.describe(), "code": space.code}
    if space.helpers:
        searched["helpers"] = space.helpers
    return {
        "task": task.value,
        "features": plain_names(features),
        "base": base.identity(),
        "space": searched,
        "sweep": settings.binding(),
    }


def is_older(before: PlanFile | None, plan: SweepPlan) -> bool:
    """Whether a sweep has the plan's space, and was begun when its helpers did not count yet."""
    space = before["config"].get("space", {}) if before is not None else {}
    own = plan["space"]
    return "helpers" in own and "helpers" not in space and own["code"] == space.get("code")


def read_plan(store: Store, sweep: str) -> PlanFile:
    """The plan of a sweep in the store.

    Raises:
        NotThereError: The store holds no such sweep.
    """
    plan: PlanFile | None = read_stage_plan(store, sweep_folder(sweep))
    if plan is None:
        raise no_sweep(store, sweep)
    return plan


def plan_of(manifest: Manifest) -> SweepPlan:
    """The plan of a finished sweep."""
    return cast(SweepPlan, manifest.config)


def no_sweep(store: Store, name: str) -> NotThereError:
    """What to tell whoever names a sweep that the store does not hold."""
    known = [known for known in store.names(SWEEPS) if known != name]
    near = did_you_mean(name, known)
    return NotThereError(
        f"The store {store.uri} holds no sweep {name!r}.",
        f"sweeps in this store: {', '.join(known)}" if known else "",
        f"{near}{'Else make' if near else 'Make'} it first: raffect tune TASK --name {name}"
        f" --store {store.uri}",
    )


def taken_over(name: str, driver: Mapping[str, str]) -> ConflictError:
    """What to tell a command whose sweep is another's; without a driver its study is gone."""
    who, since = driver.get("who", "Another command"), driver.get("since", "")
    return ConflictError(
        f"{who} has taken over the sweep {name!r}{since and f' (since {since})'}."
        if driver
        else f"Somebody has deleted the study of the sweep {name!r} while it ran.",
        "one command per sweep at a time",
        f"Let the other one finish: `raffect trials {name}` shows how far it is. Then give this"
        " command again: it continues.",
    )
