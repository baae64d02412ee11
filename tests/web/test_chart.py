from __future__ import annotations

import pytest

from raffect.sweep.records import TrialRow
from raffect.sweep.tally import Tally
from raffect.web.live import LiveSweep
from raffect.web.view import HEIGHT, WIDTH, SweepPage, chart_of, rate_of, scale, thinned
from tests.report.views import row, view

ROWS = [
    row(0, scores=[0.2]),
    row(1, "PRUNED", scores=[0.1]),
    row(2, "FAIL", reason="oom: no memory"),
    row(3, scores=[0.6]),
    row(4, "RUNNING", scores=[0.9]),
]


def test_marks_lie_at_their_scores_and_the_stairs_only_climb() -> None:
    chart = chart_of(Tally.of(ROWS))
    assert chart is not None
    assert (chart.labels, chart.last) == (("0.6", "0.4", "0.2", "0.0"), 4)
    assert chart.grid == (0, 100, 200, 300)
    assert chart.marks == {
        "COMPLETE": "M100.0 200.0h0M700.0 0.0h0",
        "PRUNED": "M300.0 250.0h0",
        "FAIL": f"M500.0 {HEIGHT}v-9",
    }
    assert chart.best == f"M100.0 200.0H700.0V0.0H{WIDTH}"


def test_there_is_no_curve_before_there_is_a_score() -> None:
    assert chart_of(Tally()) is None
    assert chart_of(Tally.of([row(0, "RUNNING", scores=[0.1])])) is None


@pytest.mark.parametrize(
    ("values", "ends"),
    [
        ([0.5], (0.5, 0.525, 0.025)),
        ([0.0], (0.0, 0.025, 0.025)),
        ([-0.1, 0.62], (-0.2, 0.8, 0.2)),
        ([0.61, 0.612], (0.61, 0.612, 0.0005)),
        ([1e-5, 2e-5], (1e-5, 2e-5, 2.5e-6)),
    ],
)
def test_axes_end_at_round_numbers(values: list[float], ends: tuple[float, float, float]) -> None:
    assert scale(min(values), max(values)) == pytest.approx(ends)


def test_a_chart_of_ten_thousand_trials_stays_small() -> None:
    rows = [row(number, scores=[0.3 + number % 100 / 1000]) for number in range(10_000)]
    chart = chart_of(Tally.of(rows))
    assert chart is not None
    assert len(chart.marks["COMPLETE"]) < 40_000
    assert thinned(["a", "b", "c"], 2) == ["a", "c"]


def test_states_that_nobody_is_at_wait() -> None:
    made = view(ROWS, target=10)
    at_it, left = (
        SweepPage(LiveSweep("s", made, status), made, "store") for status in ("running", "stopped")
    )
    assert at_it.states == {"COMPLETE": 2, "PRUNED": 1, "FAIL": 1, "RUNNING": 1}
    assert [one.number for one in at_it.running] == [4]
    assert left.states == {"COMPLETE": 2, "PRUNED": 1, "FAIL": 1, "WAITING": 1}
    assert left.running == []
    assert at_it.ended == left.ended == 4
    assert at_it.share == [
        ("COMPLETE", 0.0, 20.0), ("PRUNED", 20.0, 10.0), ("FAIL", 30.0, 10.0),
        ("RUNNING", 40.0, 10.0),
    ]  # fmt: skip


def test_the_rate_is_that_of_the_last_trials_of_the_sweep_s_own() -> None:
    def rate(rows: list[TrialRow]) -> float | None:
        return rate_of(Tally.of(rows).ends)

    assert rate(ROWS) == pytest.approx(3600 * 3 / 180)
    assert rate(ROWS[:1]) is None
    assert rate([]) is None
    assert rate([row(0, scores=[1], origin="x:1"), row(9, scores=[1])]) is None
