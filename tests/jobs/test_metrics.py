from __future__ import annotations

import pytest

from raffect.jobs.publish import METRICS, values_of
from raffect.sweep.progress import STATES, Standing
from raffect.sweep.records import TOP

pytest.importorskip("ray")
FULL = Standing(
    states=dict.fromkeys(STATES, 3),
    target=40,
    best=0.5,
    best_trial=3,
    hours=1.0,
    device_hours=2.0,
    rate=30.0,
    epoch_seconds=4.0,
    top=(0.5, 0.4, 0.3, 0.2, 0.1),
)


def test_every_metric_has_values_and_few_labels() -> None:
    found = list(values_of(FULL))
    assert {name for name, _, _ in found} == set(METRICS)
    labels = {(name, *sorted(labels.items())) for name, labels, _ in found}
    assert len(labels) == len(found) <= len(METRICS) + len(STATES) + TOP
    assert {key for _, labels, _ in found for key in labels} == {"state", "rank"}
    values = {(name, labels.get("rank")): value for name, labels, value in found}
    assert values["raffect_best_score", None] == 0.5
    assert values["raffect_top_score", "2"] == 0.4
    assert values["raffect_running_trials", None] == 3


def test_a_state_without_trials_is_zero_and_a_score_that_is_not_there_is_none() -> None:
    found = {(name, labels.get("state")): value for name, labels, value in values_of(
        Standing(states=dict.fromkeys(STATES, 0), target=8)
    )}  # fmt: skip
    assert {state: found["raffect_trials", state] for state in STATES} == dict.fromkeys(STATES, 0)
    assert found["raffect_running_trials", None] == 0
    assert not {"raffect_best_score", "raffect_top_score", "raffect_epoch_seconds"} & {
        name for name, _ in found
    }
