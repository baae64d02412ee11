"""Two small sweeps whose numbers are worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from raffect.affwild2.tasks import Task
from raffect.store import Store
from raffect.sweep.comparison import Searched, Setting, Step, compare, curve, read_sources
from raffect.sweep.leaderboard import SweepView
from raffect.sweep.records import TrialRow, rank
from tests.report import views

LR = "FloatDistribution(high=0.01, log=True, low=0.0001, step=None)"
DEPTH = "IntDistribution(high=5, log=False, low=0, step=1)"
SHALLOW = "IntDistribution(high=3, log=False, low=0, step=1)"
HEADS = "CategoricalDistribution(choices=(2, 4))"
MORE_HEADS = "CategoricalDistribution(choices=(4, 8))"


def trial(
    number: int, minute: int, scores: list[float], state: str = "COMPLETE", **more: Any
) -> TrialRow:
    """A trial of two seconds an epoch that ended in this minute."""
    params = more.pop("params", {})
    when = f"2026-01-01T00:{minute:02d}:00+00:00"
    return replace(views.row(number, state, scores, params), finished=when, **more)


def first(task: Task = Task.VA) -> SweepView:
    """Trial 1 ends before trial 0, and trial 2 is the best of those that meet the limits."""
    rows = [
        trial(0, 5, [0.1, 0.3, 0.2], params={"optimiser.lr": 1e-3, "model.tcn.depth": 3}),
        trial(1, 2, [0.2], "PRUNED", params={"optimiser.lr": 2e-3, "model.tcn.depth": 1}),
        trial(2, 9, [0.5], params={"optimiser.lr": 5e-3, "model.tcn.depth": 2}, devices=2.0),
        trial(3, 7, [0.8], violations={"parameters": 3.0}),
        trial(4, 8, [0.9], "FAIL"),
        replace(views.row(5, "RUNNING", [0.99]), finished=None),
    ]
    ranges = {"optimiser.lr": LR, "model.tcn.depth": DEPTH, "model.transformer.heads": HEADS}
    return replace(
        views.view(rows, name="a", task=task), rows=sorted(rows, key=rank), ranges=ranges
    )


def second() -> SweepView:
    """Begins with a result of the first one."""
    rows = [
        trial(0, 1, [0.4], origin="a:7", params={"optimiser.lr": 1e-3, "model.tcn.depth": 3}),
        trial(1, 3, [0.35, 0.6], params={"optimiser.lr": 5e-3, "model.tcn.depth": 1}),
    ]
    ranges = {
        "optimiser.lr": LR,
        "model.tcn.depth": SHALLOW,
        "model.transformer.heads": MORE_HEADS,
        "losses.mse_share": "FloatDistribution(high=0.5, log=False, low=0.0, step=None)",
    }
    return replace(views.view(rows, name="b"), ranges=ranges)


def test_a_curve_goes_by_when_trials_ended_and_counts_all_of_their_time() -> None:
    assert curve(first()) == (
        Step(0, 0.0, None),
        Step(1, 2.0, 0.2),
        Step(2, 8.0, 0.3),
        Step(3, 10.0, 0.3),
        Step(4, 12.0, 0.3),
        Step(5, 16.0, 0.5),
    )


def test_what_was_taken_over_is_known_before_and_costs_nothing() -> None:
    assert curve(second()) == (Step(0, 0.0, 0.4), Step(1, 4.0, 0.6))


def test_sweeps_are_compared_at_the_same_cost() -> None:
    found = compare([first(), second()])
    assert found.names == ("a", "b")
    assert found.by_trials.at == (1, 2, 5)
    assert found.by_trials.best == ((0.2, 0.3, 0.5), (0.6, None, None))
    assert found.by_cost.at == (1, 2, 5, 10)
    assert found.by_cost.best == ((None, 0.2, 0.2, 0.3), (0.4, 0.4, None, None))
    assert [steps[-1].best for steps in found.curves] == [0.5, 0.6]


def test_long_sweeps_are_compared_at_the_later_marks() -> None:
    rows = [trial(n, n % 60, [0.001 * n] * 400) for n in range(240)]
    found = compare([views.view(rows, name="long"), second()])
    assert found.by_trials.at == (2, 5, 10, 20, 50, 100, 200)
    assert [mark / 3600 for mark in found.by_cost.at] == [
        1 / 6,
        1 / 3,
        1 / 2,
        1,
        2,
        5,
        10,
        20,
        50,
    ][-7:]


def test_spaces_overlap() -> None:
    found = compare([first(), second()]).searched
    assert found == (
        Searched("model.tcn.depth", "narrowed", (DEPTH, SHALLOW), 1),
        Searched("model.transformer.heads", "different", (HEADS, MORE_HEADS)),
        Searched("losses.mse_share", "partial", (None, second().ranges["losses.mse_share"])),
        Searched("optimiser.lr", "shared", (LR, LR)),
    )


def test_parameters_that_only_some_trials_have_are_searched_too() -> None:
    rows = [trial(0, 1, [0.4], params={"model.tcn.kernel": 3})]
    found = compare([views.view(rows, name="c"), second()]).searched
    kernel = next(own for own in found if own.name == "model.tcn.kernel")
    assert kernel == Searched("model.tcn.kernel", "partial", ("", None))


def test_of_the_best_configurations_the_differences_come_first() -> None:
    assert compare([first(), second()]).settings == (
        Setting("model.tcn.depth", (2, 1), same=False),
        Setting("optimiser.lr", (5e-3, 5e-3), same=True),
    )
    none = replace(first(), rows=[trial(0, 1, [0.4], "FAIL")])
    assert compare([none, second()]).settings == (
        Setting("model.tcn.depth", (None, 1), same=True),
        Setting("optimiser.lr", (None, 5e-3), same=True),
    )
    assert compare([none, none]).settings == ()


def test_what_keeps_scores_from_comparing_is_said() -> None:
    data = {"dataset": "d", "features/clip": "f"}
    assert compare([first(), second()], [data, dict(data)]).remarks == ()
    other = replace(
        first(Task.EXPR),
        config={**first().config, "optimiser": {**first().config["optimiser"], "epochs": 7}},
        objectives=("score", "latency"),
    )
    epochs = first().config["optimiser"]["epochs"]
    found = compare([other, second()], [data, {"dataset": "d", "features/new": "g"}]).remarks
    assert [remark.split(":")[0] for remark in found] == [
        "Different tasks (expr, va)",
        "Different data (features/clip, features/new)",
        f"Different budgets (7, {epochs} epochs)",
        "Different objectives",
    ]


def test_sources_are_those_of_the_plan(store: Store) -> None:
    store.write_json("sweeps/a/plan.json", {"sources": {"dataset": "d"}})
    assert read_sources(store, "a") == {"dataset": "d"}
