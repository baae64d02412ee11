"""The report's numbers against hand-computed ones."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.importance import PedAnovaImportanceEvaluator

from raffect.affwild2.tasks import Task
from raffect.config import recipe
from raffect.errors import NotThereError
from raffect.report.collect import assemble, axis_of, collect
from raffect.report.data import Failure, ReportData, ScorePart
from raffect.report.importance import importance
from raffect.report.tables_of_sweep import tables_of
from raffect.store import Stage, Store
from raffect.sweep.records import TrialRow
from raffect.sweep.study import open_storage
from tests.report.views import row, view

DEPTH, LAYERS = "model.tcn.depth", "model.transformer.layers"
ROWS = [
    row(0, "COMPLETE", [0.2, 0.4, 0.3], {DEPTH: 3, LAYERS: 8}, recipe=True),
    row(1, "PRUNED", [0.1], {DEPTH: 1, LAYERS: 2}),
    row(2, "FAIL", [], {DEPTH: 3, LAYERS: 2}, "nan: The loss is not finite in epoch 1."),
    row(3, "COMPLETE", [0.3, 0.5, 0.6], {DEPTH: 3, LAYERS: 2}),
    row(4, "COMPLETE", [0.2, 0.3, 0.55], {DEPTH: 3, LAYERS: 8}),
    row(5, "RUNNING", [0.9], {DEPTH: 1, LAYERS: 2}),
]


def numbers(*rows, **more) -> ReportData:
    return assemble(view(rows or ROWS, **more), "store")


def test_the_best_is_the_best_finished_trial():
    data = numbers()
    assert data.best_number == 3
    assert [row.number for row in data.view.rows] == [3, 4, 0, 1, 2, 5]
    assert data.best is not None
    assert (data.best.score, data.best.best_epoch) == (0.6, 3)


def test_best_so_far_counts_neither_running_nor_failed_trials():
    best_so_far = {0: 0.4, 1: 0.4, 2: 0.4, 3: 0.6, 4: 0.6, 5: 0.6}
    assert numbers().best_so_far == best_so_far


def test_counts_and_time():
    data = numbers()
    assert data.counts == {"COMPLETE": 3, "PRUNED": 1, "FAIL": 1, "RUNNING": 1}
    # 3 + 1 + 0 + 3 + 3 + 1 epochs of 2 seconds.
    assert data.seconds == 22.0


def test_the_recipe_is_found():
    recipe = numbers().view.recipe
    assert recipe is not None
    assert recipe.number == 0


def test_the_grid_has_the_best_score_of_each_pair():
    grid = numbers().grid
    assert grid is not None
    assert (grid.x_name, grid.y_name) == (DEPTH, LAYERS)
    assert (grid.x_values, grid.y_values) == ((1, 3), (2, 8))
    assert grid.scores == ((0.1, 0.6), (None, 0.55))
    assert grid.counts == ((1, 1), (0, 2))


@pytest.mark.parametrize(
    "rows",
    [
        [row(0, scores=[0.5], params={DEPTH: 3}), row(1, scores=[0.5], params={DEPTH: 2})],
        [row(0, scores=[0.5], params={DEPTH: 3, LAYERS: 8})],
        [
            row(0, "FAIL", params={DEPTH: 3, LAYERS: 8}),
            row(1, "FAIL", params={DEPTH: 2, LAYERS: 8}),
        ],
    ],
    ids=["one is fixed", "one cell", "no score"],
)
def test_no_grid_without_pairs_to_compare(rows):
    assert numbers(*rows).grid is None


def test_slices_hold_scored_trials_and_leave_out_what_never_varied():
    rows = [
        row(0, scores=[0.1], params={"lr": 0.1, "fixed": 1}),
        row(1, scores=[0.2], params={"lr": 0.2, "fixed": 1, "only_here": 2}),
        row(2, "FAIL", params={"lr": 0.3, "fixed": 2}),
    ]
    data = numbers(*rows)
    assert data.searched == ("lr", "fixed", "only_here")
    assert [found.name for found in data.slices] == ["lr"]
    found = data.slices[0]
    assert (found.values, found.numbers) == ([0.1, 0.2], [0, 1])
    assert [trial.score for trial in found.trials] == [0.1, 0.2]


@pytest.mark.parametrize(
    ("values", "distribution", "axis"),
    [
        ([1e-5, 2e-5, 1e-3], FloatDistribution(1e-5, 1e-3, log=True), "log"),
        ([1e-5, 2e-5, 1e-3], FloatDistribution(0, 1), "number"),
        ([1, 2, 64], IntDistribution(1, 64, log=True), "log"),
        ([100, 300], CategoricalDistribution((100, 300)), "number"),
        ([True, False], CategoricalDistribution((True, False)), "category"),
        (["a", "b"], None, "category"),
        ([1e-5, 3e-5, 1e-4, 1e-3], None, "log"),
        ([0.005, 0.1, 0.25, 0.4, 0.5], None, "number"),
        ([0.0, 1e-4, 1e-2], None, "number"),
    ],
)
def test_axes(values, distribution, axis):
    assert axis_of(values, distribution) == axis


def test_parts_are_those_of_the_best_epoch_in_the_task_s_order():
    epochs = [{"arousal": 0.1, "valence": 0.2}, {"arousal": 0.5, "valence": 0.7}]
    rows = [row(0, scores=[0.15, 0.6], parts=epochs), row(1, scores=[0.2, 0.1], parts=epochs)]
    baseline = {"score": 0.0, "parts": {"valence": 0.05}}
    floor = {"score": 0.3, "parts": {"valence": 0.2}, "half_width": 5}
    data = numbers(*rows, baseline=baseline, linear_floor=floor)
    assert data.parts == (ScorePart("valence", 0.7, 0.05, 0.2), ScorePart("arousal", 0.5, None))
    assert numbers(*rows, baseline=baseline).parts[0].linear is None


def test_failures_are_counted_by_kind():
    rows = [
        row(0, "FAIL", reason="oom: too big"),
        row(1, "FAIL", reason="nan: in epoch 1"),
        row(2, "FAIL", reason="nan: in epoch 2"),
        row(3, "FAIL"),
    ]
    assert numbers(*rows).failures == (
        Failure("nan", "in epoch 1", (1, 2)),
        Failure("oom", "too big", (0,)),
        Failure("unknown", "", (3,)),
    )


def test_trials_that_a_limit_refused_are_counted_with_the_failures():
    refused = row(0, "PRUNED", reason="limit: 9,000 parameters of at most 5,000", model=None)
    pruned = row(1, "PRUNED", scores=[0.1])
    found = numbers(refused, pruned).failures
    assert found == (Failure("limit", "9,000 parameters of at most 5,000", (0,)),)


def test_a_trial_beyond_a_limit_is_never_the_best():
    rows = [
        row(0, scores=[0.9], violations={"parameters": 500.0}),
        row(1, scores=[0.4]),
        row(2, scores=[0.3]),
    ]
    found = assemble(view(rows), "store")
    assert found.best_number == 1
    assert found.best_so_far == {1: 0.4, 2: 0.4}
    assert [one.best for one in found.by_end] == [None, 0.4, 0.4]


def test_results_of_other_sweeps_are_told_apart():
    data = numbers(row(0, scores=[0.4], origin="other:7"), row(1, scores=[0.5]))
    assert data.counts == {"COMPLETE": 1}
    assert data.seconds == 2.0
    assert [trial.origin for trial in data.trials] == ["other:7", None]
    assert data.cost.taken_over == 1


def test_scores_that_are_not_finite_are_no_scores():
    rows = [row(0, scores=[math.nan]), row(1, scores=[0.1])]
    data = numbers(*rows)
    assert data.best_number == 1
    assert data.best_so_far == {1: 0.1}
    tables = tables_of(data)
    assert tables["trials"].column("score") == [None, 0.1]
    assert tables["epochs"].column("score") == [None, 0.1]


def test_nothing_at_all():
    data = assemble(view([], manifest=None, target=8), "store")
    assert (data.best, data.best_number, data.grid, data.gained) == (None, None, None, None)
    assert (data.slices, data.parts, data.failures, data.trials) == ((), (), (), ())
    assert [command.text.split()[1] for command in data.commands] == ["tune", "trials", "report"]


def _two_parameters(count: int) -> list[TrialRow]:
    """Trials whose score follows from `a` alone; `c` is the same in all of them."""
    return [
        row(
            n,
            "PRUNED" if n % 2 else "COMPLETE",
            scores=[0.9 if n % 4 == 0 else 0.1 + n / 1000],
            params={"a": n % 4, "b": n % 3, "c": 1},
        )
        for n in range(count)
    ]


@pytest.mark.parametrize(
    ("rows", "lacking"),
    [
        ([], 8),
        (_two_parameters(3), 9),
        # Twelve values, of which three parameters that vary take four each.
        ([replace(one, params={**one.params, "d": one.number}) for one in _two_parameters(11)], 1),
        ([replace(one, params={**one.params, "d": one.number}) for one in _two_parameters(12)], 0),
        ([*_two_parameters(7), row(7, "FAIL", params={"a": 1}), row(8, "RUNNING", [0.9])], 5),
        (_two_parameters(8), 0),
    ],
)
def test_importance_waits_for_four_finished_trials_per_parameter(rows, lacking: int):
    found = numbers(*rows).importance if rows else importance([])
    assert found.lacking == lacking
    assert bool(found.shares) == (lacking == 0)
    if lacking:
        assert (
            f"Needs {lacking} more finished trials: there are {found.trials} of" in found.missing
        )


def test_importance_has_its_spread_over_bootstraps():
    few, many = (numbers(*_two_parameters(n)).importance for n in (16, 240))
    assert few == numbers(*_two_parameters(16)).importance, "the same for the same trials"
    for found in (few, many):
        assert [name for name, _ in found.shares] == ["a", "b", "c"]
        for (_, share), (low, high) in zip(found.shares, found.spread, strict=True):
            assert 0 <= low <= high <= 1
            assert low - 0.05 <= share <= high + 0.05
        assert found.spread[2] == (0, 0)
    widths = [found.spread[0][1] - found.spread[0][0] for found in (few, many)]
    assert widths[0] > 2 * widths[1], "more trials, less luck"
    assert (many.trials, many.complete, many.samples) == (240, 120, 50)


def test_the_spread_is_that_of_resampled_trials():
    """An oracle: Optuna's own evaluator on studies that were drawn with replacement."""
    rows = [
        row(n, scores=[((n * 7) % 20) / 20 + (n % 3) / 50], params={"a": (n * 7) % 20, "b": n % 3})
        for n in range(40)
    ]
    found = numbers(*rows).importance
    rng, samples = np.random.default_rng(5), []
    for _ in range(50):
        study = optuna.create_study(direction="maximize")
        for index in rng.integers(0, 40, 40):
            study.add_trial(
                optuna.create_trial(
                    params=rows[index].params,
                    distributions={
                        "a": optuna.distributions.IntDistribution(0, 19),
                        "b": optuna.distributions.IntDistribution(0, 2),
                    },
                    value=rows[index].score,
                )
            )
        shares = PedAnovaImportanceEvaluator(target_quantile=5 / 40).evaluate(study)
        samples.append(shares["a"] / sum(shares.values()))
    low, high = np.quantile(samples, (0.05, 0.95))
    assert found.shares[0][0] == "a"
    assert found.spread[0] == pytest.approx((low, high), abs=0.05)


def test_importance_finds_the_parameter_that_decides():
    rows = [
        row(n, scores=[0.9 if n % 4 == 0 else 0.1 + n / 1000], params={"a": n % 4, "b": n % 3})
        for n in range(24)
    ]
    found = numbers(*rows).importance
    assert [name for name, _ in found.shares] == ["a", "b"]
    assert found.shares[0][1] > 0.9
    assert sum(share for _, share in found.shares) == pytest.approx(1)
    assert (found.trials, found.target) == (24, 5)


LIGHT = """
import sys
import raffect.report.page
from raffect.report.importance import importance
from tests.report.views import row

rows = [row(n, scores=[n % 4 + n / 1000], params={"a": n % 4, "b": n % 3}) for n in range(16)]
print(importance(rows).shares[0][0], *{"sklearn", "torch"} & set(sys.modules))
import sklearn
"""


def test_a_report_with_importance_loads_neither_scikit_learn_nor_pytorch():
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "a"), done.stderr


def test_importance_of_parameters_that_never_varied():
    rows = [row(n, scores=[n / 10], params={"a": 1, "b": "x"}) for n in range(9)]
    assert "did not vary" in numbers(*rows).importance.missing


def test_a_sweep_in_the_store_with_its_lineage(store: Store):
    dataset = Stage(store, "dataset", "dataset", {}, {}).finish([], notes={"synthetic": True})
    sources = {"dataset": dataset.digest()}
    features = Stage(store, "features/clip", "features", {}, sources).finish([])
    sources = {"features/clip": features.digest(), "encoders/clip": "e" * 64}
    plan = {"task": "expr", "base": recipe(Task.EXPR).canonical()}
    sweep = Stage(store, "sweeps/s", "sweep", plan, sources)
    study = optuna.create_study(
        storage=open_storage(store, "s"), study_name="s", direction="maximize"
    )
    for number in range(3):
        trial = study.ask()
        trial.suggest_float("optimiser.lr", 1e-5, 1e-3, log=True)
        epoch = {"epoch": 1, "score": 0.1 * number, "loss": 1.0, "parts": {"Fear": 0.5}}
        trial.set_user_attr("epoch.001", epoch | {"seconds": 1.5, "lr": 0.1})
        study.tell(trial, 0.1 * number)

    data = collect(store, "s")

    assert (data.task, data.best_number, data.synthetic) == (Task.EXPR, 2, True)
    assert data.view.manifest is None
    assert data.validation is None
    assert "sweeps/s/trials/00002 holds no model" in data.not_validated
    assert data.slices[0].axis == "log"
    assert data.parts == (ScorePart("Fear", 0.5, None),)
    assert [(a.folder, a.state) for a in data.lineage] == [
        ("dataset", "same"),
        ("encoders/clip", "gone"),
        ("features/clip", "same"),
    ]
    sweep.finish([])
    Stage(store, "dataset", "dataset", {"other": 1}, {}, overwrite=True).finish([])
    again = collect(store, "s")
    assert again.view.manifest is not None
    assert again.lineage[0].state == "changed"


def test_an_unknown_sweep_is_the_user_s_mistake(store: Store):
    with pytest.raises(NotThereError, match="no sweep 'nothing'"):
        collect(store, "nothing")
