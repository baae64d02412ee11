"""Parallel coordinates: every scored trial is there, also without a conditional parameter."""

from __future__ import annotations

import pytest

from raffect.affwild2.tasks import Task
from raffect.report.collect import assemble
from raffect.report.figures.parallel import NOT_USED, parallel
from raffect.text import short_names
from tests.report.views import made_up, row, view

ROWS = [
    row(0, scores=[0.1], params={"lr": 1e-5, "kind": "a", "deep": 1}),
    row(1, scores=[0.2], params={"lr": 1e-3, "kind": "b"}),
    row(2, scores=[0.3], params={"lr": 1e-4, "kind": "c", "deep": 5}),
    row(3, "FAIL", params={"lr": 1e-4, "kind": "other", "deep": 3}),
]


def lines(rows) -> dict[int, dict[str, float]]:
    """Per trial the place on each axis."""
    data = assemble(view(rows), "store")
    figure = parallel(data, short_names(data.searched))
    assert figure is not None
    names = [name.removesuffix(" (log scale)") for name in figure["layout"]["yaxis"]["ticktext"]]
    found: dict[int, dict[str, float]] = {}
    for trace in figure["data"]:
        for x, y, told in zip(trace["x"], trace["y"], trace["customdata"], strict=True):
            if told is not None:
                found.setdefault(told[0], {})[names[y]] = x
    return found


def test_values_lie_between_the_ends_of_their_axis():
    found = lines(ROWS)
    assert set(found) == {0, 1, 2}
    assert found[0] == {"lr": 0.0, "kind": 0.0, "deep": 0.0}
    # The axis of the learning rate is logarithmic.
    assert found[2] == {"lr": 0.5, "kind": 1.0, "deep": 1.0}
    assert found[1]["kind"] == 0.5


def test_a_parameter_that_a_trial_lacks_has_a_place_of_its_own():
    assert lines(ROWS)[1]["deep"] == NOT_USED


def test_every_scored_trial_of_a_sweep_is_there_once_and_the_best_once_more():
    data = assemble(made_up(Task.EXPR, 120), "store")
    figure = parallel(data, short_names(data.searched))
    assert figure is not None
    drawn = [
        trace["customdata"][i][0]
        for trace in figure["data"]
        for i, y in enumerate(trace["y"])
        if y == 0
    ]
    scored = [t.number for t in data.trials if t.state in ("COMPLETE", "PRUNED")]
    assert sorted(drawn) == sorted([*scored, data.best_number])
    assert figure["data"][-1]["customdata"][0][0] == data.best_number


@pytest.mark.parametrize(
    "rows",
    [[], ROWS[:1], [row(n, scores=[n / 10], params={"a": n}) for n in range(3)]],
    ids=["no trial", "one trial", "one parameter"],
)
def test_nothing_is_drawn_without_two_axes_and_two_trials(rows):
    data = assemble(view(rows), "store")
    assert parallel(data, short_names(data.searched)) is None
