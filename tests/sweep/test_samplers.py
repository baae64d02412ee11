"""Every sampler and pruner on a real study with made-up scores, branches included."""

from __future__ import annotations

from typing import Any

import pytest

from raffect.errors import SettingsError
from raffect.settings import build
from raffect.store import Store
from raffect.sweep.beginning import Beginning
from raffect.sweep.records import TrialFacts
from raffect.sweep.settings import SweepSettings
from raffect.sweep.space import Space
from raffect.sweep.study import SweepStudy, open_study
from tests.sweep import tiny
from tests.sweep.drivers import epochs


def draw(trial: Any) -> dict[str, Any]:
    found = {
        "model.tcn.depth": trial.suggest_int("model.tcn.depth", 0, 3),
        "optimiser.lr": trial.suggest_float("optimiser.lr", 1e-4, 1e-2, log=True),
    }
    if found["model.tcn.depth"]:
        found["model.tcn.kernel"] = trial.suggest_int("model.tcn.kernel", 3, 7, step=2)
        found["model.tcn.dropout"] = trial.suggest_categorical("model.tcn.dropout", [0.0, 0.3])
    return found


SPACE = Space("branches", draw, "code", 1)


def search(store: Store, trials: int, drivers: int = 1, **settings: Any) -> list[dict[str, Any]]:
    """Parameters of all trials, whose score is best where the learning rate is 1e-3."""
    base = tiny.base(optimiser__epochs=9)
    for part in range(1, drivers + 1):
        chosen = build(SweepSettings, {"trials": trials * part // drivers, **settings})
        study = SweepStudy(store, "s", SPACE, base, chosen)
        study.begin(Beginning([]))
        while (assignment := study.next()) is not None:
            worth = 1 - abs(assignment.config.optimiser.lr - 1e-3) / 1e-2
            depth = assignment.config.model.tcn.depth
            facts = TrialFacts(parameters=10 + depth, latency_ms=1.0)
            curve = [worth * epoch / 9 for epoch in range(1, 10)]
            for end in range(1, 9):
                if study.report(assignment.number, epochs(*curve[:end]), facts):
                    break
            else:
                study.complete(assignment.number, epochs(*curve), facts)
    return [trial.params for trial in open_study(store, "s").get_trials()]


@pytest.mark.parametrize("sampler", ["tpe", "gp", "cmaes", "random", "nsga2"])
def test_samplers_search_on_across_drivers_without_repeating_themselves(
    store: Store, sampler: str
) -> None:
    found = search(store, 24, drivers=2, sampler=sampler)
    assert len(found) == 24
    assert len({tuple(sorted(params.items())) for params in found}) == 24
    assert any("model.tcn.kernel" in params for params in found)
    assert any("model.tcn.kernel" not in params for params in found)


@pytest.mark.parametrize("sampler", ["tpe", "gp", "random", "nsga2"])
def test_samplers_serve_two_objectives(store: Store, sampler: str) -> None:
    search(store, 12, sampler=sampler, objectives=("score", "parameters"))
    values = [trial.values for trial in open_study(store, "s").get_trials()]
    assert len(values) == 12
    assert all(len(pair) == 2 and pair[1] in (10, 11, 12, 13) for pair in values)


@pytest.mark.parametrize("pruning", ["asha", "hyperband", "median", "none"])
def test_pruners_stop_at_the_rungs_that_trials_leave_models_at(store: Store, pruning: str) -> None:
    settings = SweepSettings(pruning=pruning, min_epochs=1)
    search(store, 40, pruning=pruning, min_epochs=1, sampler="random")
    trials = open_study(store, "s").get_trials()
    steps = {trial.last_step for trial in trials if trial.state.name == "PRUNED"}
    assert steps <= set(settings.rungs(9))
    assert bool(steps) == (pruning != "none")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"objectives": ("score", "latency"), "pruning": "asha"}, "with several it must be none"),
        ({"objectives": ("score", "latency"), "sampler": "cmaes"}, "tpe, gp, nsga2"),
        ({"objectives": ("latency",)}, "score first"),
        ({"objectives": ("score", "score")}, "each once"),
        ({"objectives": ("score", "speed")}, "'score', 'latency' or 'parameters'"),
        ({"sampler": "grid"}, "'tpe', 'gp', 'cmaes', 'random' or 'nsga2'"),
        ({"pruning": "all"}, "'asha', 'hyperband', 'median' or 'none'"),
        ({"max_hours": 0}, "greater than 0"),
    ],
)
def test_settings_that_do_not_go_together_are_told(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        build(SweepSettings, wrong)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "asha"),
        ({"objectives": ("score", "latency")}, "none"),
        ({"pruning": "median"}, "median"),
    ],
)
def test_a_front_is_not_pruned(settings: dict[str, Any], expected: str) -> None:
    found = SweepSettings(**settings)
    assert found.pruner == found.binding()["pruning"] == expected
