"""What a sweep took, against hand-computed figures: two seconds an epoch."""

from __future__ import annotations

import pytest

from raffect.report.collect import by_end, cost_of
from raffect.report.data import EndedTrial, StateCost
from raffect.report.figures.trials import time_axis
from raffect.report.sections import cost_sentences
from tests.report.views import row

ROWS = [
    row(0, "COMPLETE", [0.1] * 10),
    row(1, "PRUNED", [0.2] * 2, devices=0.5),
    row(2, "FAIL", [0.3]),
    row(3, "COMPLETE", [0.9] * 10, origin="other:1"),
    row(4, "PRUNED", [0.4] * 5, finished="2026-11-19T00:00:00+00:00"),
    row(5, "RUNNING", [0.8] * 3),
]


def test_each_state_and_what_pruning_spared():
    cost = cost_of(ROWS, 10, hours=0.01)
    assert cost.states == (
        StateCost("COMPLETE", 1, 10, 20.0, 20.0),
        StateCost("PRUNED", 2, 7, 14.0, 12.0),
        StateCost("FAIL", 1, 1, 2.0, 2.0),
        StateCost("RUNNING", 1, 3, 6.0, 6.0),
    )
    assert (cost.epochs, cost.seconds, cost.device_seconds) == (21, 42.0, 40.0)
    # Eight epochs of half a device, five of a whole one.
    assert (cost.saved_epochs, cost.saved_device_seconds) == (13, 8 * 1.0 + 5 * 2.0)
    assert cost.taken_over == 1


def test_it_is_told_in_sentences():
    told = " ".join(cost_sentences(cost_of(ROWS, 10, hours=0.01)))
    for words in ("21 epochs", "40 s of device time", "2.0 s per epoch", "took 36 s",
                  "spared 13 epochs (38% of", "1 results were taken over"):  # fmt: skip
        assert words in told, words
    assert cost_sentences(cost_of([], 10, 0.0)) == []


def test_time_is_summed_in_the_order_in_which_trials_ended():
    assert by_end(ROWS) == (
        EndedTrial(3, "COMPLETE", 0.9, 0.0, 0.9),
        EndedTrial(4, "PRUNED", 0.4, 10.0, 0.9),
        EndedTrial(0, "COMPLETE", 0.1, 30.0, 0.9),
        EndedTrial(1, "PRUNED", 0.2, 32.0, 0.9),
        EndedTrial(2, "FAIL", 0.3, 34.0, 0.9),
    )


@pytest.mark.parametrize(
    ("last", "texts"),
    [
        (0.0, ["0"]),
        (0.05, ["0", "0.01 s", "0.02 s", "0.03 s", "0.04 s", "0.05 s"]),
        (23.0, ["0", "5 s", "10 s", "15 s", "20 s"]),
        (70.0, ["0", "15 s", "30 s", "45 s", "1 min"]),
        (3 * 3600.0, ["0", "30 min", "1 h", "1.5 h", "2 h", "2.5 h", "3 h"]),
        (10 * 86400.0, ["0", "2 d", "4 d", "6 d", "8 d", "10 d"]),
    ],
)
def test_ticks_of_time(last: float, texts: list[str]):
    assert time_axis(last)["ticktext"] == texts
