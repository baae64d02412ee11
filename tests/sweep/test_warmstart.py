"""Beginning a sweep with another one, without an engine."""

from __future__ import annotations

from typing import Any

import pytest
from optuna.trial import TrialState

from raffect.affwild2.tasks import Task
from raffect.store import Stage, Store
from raffect.sweep.plan import make_plan
from raffect.sweep.points import derive_points, derive_recipe
from raffect.sweep.settings import SweepSettings
from raffect.sweep.space import Space
from raffect.sweep.study import SweepStudy
from raffect.sweep.tune import beginning
from raffect.sweep.warmstart import Target
from tests.sweep import tiny
from tests.sweep.drivers import draw, epochs

BASE = tiny.base()
GOOD = {"optimiser.lr": 2e-3}


def target(points: tuple[dict[str, Any], ...] = (), **settings: Any) -> Target:
    space = Space("my/space.py", draw, "code", 1, points)
    chosen = SweepSettings(**{"trials": 8, "sampler": "random", **settings})
    first, known = derive_recipe(space, BASE), derive_points(space, BASE)
    plan = make_plan(Task.VA, "clip", BASE, space, first, chosen)
    return Target(plan, {}, space, BASE, first, chosen, known)


def begin(store: Store, name: str, of: Target) -> SweepStudy:
    Stage(store, f"sweeps/{name}", "sweep", dict(of.plan), {})
    study = SweepStudy(store, name, of.space, BASE, of.settings)
    study.begin(beginning(store, name, of))
    return study


def run(study: SweepStudy) -> list[tuple[float, int]]:
    """All trials, to the end; what was drawn for each."""
    drawn = []
    while (given := study.next()) is not None:
        config = given.config
        drawn.append((config.optimiser.lr, config.model.transformer.heads))
        study.complete(given.number, epochs(0.1))
    return drawn


def test_the_recipe_and_known_good_points_are_taken_over_whole_or_run_again(
    store: Store,
) -> None:
    """0.2.0 pruned them: a part of the budget is nothing to compare with."""
    of = target((GOOD,))
    old = begin(store, "old", of)
    for number in range(3):
        assert old.next() is not None
        old.report(number, epochs(0.2))
    for trial in (0, 1):
        old.fail(trial, "stopped", state=TrialState.PRUNED)
    old.complete(2, epochs(0.3))
    begun = beginning(store, "new", target((GOOD,), warm_start=("old",)))
    assert [trial.user_attrs["origin"] for trial in begun.results] == ["old:2"]
    assert [attributes for _, attributes in begun.points[:2]] == [
        {"recipe": True},
        {"point": "my/space.py"},
    ]

    whole = begin(store, "whole", of)
    run(whole)
    begun = beginning(store, "new", target((GOOD,), warm_start=("old", "whole")))
    assert begun.points == []
    assert begun.results[0].user_attrs["origin"] == "whole:0"
    assert begun.results[0].user_attrs["recipe"]


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_branch_draws_other_parameters_than_it_took_over_and_the_same_each_time(
    store: Store, sampler: Any
) -> None:
    def both(place: Store) -> tuple[list[tuple[float, int]], list[tuple[float, int]]]:
        old = run(begin(place, "old", target(sampler=sampler, seed=3)))
        branch = target(sampler=sampler, seed=3, warm_start=("old",))
        return old, run(begin(place, "new", branch))

    old, new = both(store)
    assert len(new) == 8
    assert not {lr for lr, _ in old} & {lr for lr, _ in new}
    assert (old, new) == both(Store(f"{store.uri}-2"))
