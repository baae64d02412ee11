from __future__ import annotations

import warnings

import optuna
import pytest

from raffect.affwild2.tasks import Task
from raffect.config import recipe
from raffect.settings import override
from raffect.sweep.points import derive_recipe
from raffect.sweep.space import load_space
from raffect.temporal.checks import check_model

SPACES = {
    "tune_spaces.va": Task.VA,
    "tune_spaces.expr": Task.EXPR,
    "tune_spaces.au": Task.AU,
    "tune_spaces.expr_joint": Task.EXPR,
    "tune_spaces.au_joint": Task.AU,
}
SMALL = {
    "model.tcn.channels": (64, 64, 32),
    "model.width": 32,
    "model.transformer.layers": 1,
    "optimiser.lr": 1e-3,
    "optimiser.epochs": 6,
    "segments.window": 64,
}


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("changes", [{}, SMALL], ids=["recipe", "small"])
def test_trial_zero_is_the_base(name: str, changes: dict) -> None:
    base = override(recipe(SPACES[name]), changes)
    space = load_space(name)
    first = derive_recipe(space, base)
    assert space.configure(optuna.trial.FixedTrial(first.params), base) == base
    assert {"model.tcn.depth", "model.transformer.layers", "optimiser.lr"} <= set(first.params)
    assert any(key.startswith("losses.") for key in first.params)


@pytest.mark.parametrize("name", SPACES)
def test_every_draw_is_a_valid_model(name: str) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    base, space = recipe(SPACES[name]), load_space(name)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(200):
            check_model(space.configure(study.ask(), base))


def test_the_space_of_valence_and_arousal_is_uni_task() -> None:
    names = derive_recipe(load_space("tune_spaces.va"), recipe(Task.VA)).params
    assert not any("auxiliary" in name for name in names)


@pytest.mark.parametrize("task", ["expr", "au"])
def test_joint_spaces_search_the_other_tasks_weights_from_none_on(task: str) -> None:
    found = derive_recipe(load_space(f"tune_spaces.{task}_joint"), recipe(Task(task))).params
    weights = {key: value for key, value in found.items() if "auxiliary" in key}
    others = {other.value for other in Task} - {task}
    assert weights == {f"losses.auxiliary.{other}": 0.0 for other in others}
