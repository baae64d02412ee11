from __future__ import annotations

import math
from itertools import islice

import numpy as np
import pytest
from sklearn.metrics import f1_score

from raffect.affwild2.tasks import SPECS, Task
from raffect.synthetic.latents import LAG, PATIENCE, Performance, deal, perform, wander


@pytest.fixture(scope="module")
def people() -> list[Performance]:
    cards = deal(np.random.default_rng(0))
    return [perform(np.random.default_rng([1, i]), 241, cards) for i in range(60)]


def annotated(people: list[Performance], task: Task) -> tuple[np.ndarray, np.ndarray]:
    labels = [one.annotate(task, np.random.default_rng([2, i])) for i, one in enumerate(people)]
    best = [one.best_predictions(task) for one in people]
    return np.concatenate(best), np.concatenate(labels)


def concordance(a: np.ndarray, b: np.ndarray) -> float:
    covariance = np.mean((a - a.mean()) * (b - b.mean()))
    return float(2 * covariance / (a.var() + b.var() + (a.mean() - b.mean()) ** 2))


def test_wandering_is_stationary_with_its_time_constant() -> None:
    paths = wander(np.random.default_rng(0), 400, 500, time_constant=20.0, deviation=0.3)
    assert paths[0].std() == pytest.approx(0.3, rel=0.1)
    assert paths.std() == pytest.approx(0.3, rel=0.05)
    later = np.mean(paths[:-20] * paths[20:]) / np.mean(paths**2)
    assert later == pytest.approx(math.exp(-1), abs=0.04)


def test_every_expression_is_in_each_round_of_the_deck() -> None:
    cards = list(islice(deal(np.random.default_rng(0)), 84))
    assert set(cards[:42]) == set(cards[42:]) == set(range(8))


def test_dynamics_are_slow(people: list[Performance]) -> None:
    affect = np.concatenate([np.diff(one.affect, axis=0) for one in people])
    spread = np.concatenate([one.affect for one in people]).std(axis=0)
    assert (affect.std(axis=0) < 0.2 * spread).all()


def reached(task: Task, predictions: np.ndarray, labels: np.ndarray) -> float:
    """The score, by other code than raffect's."""
    if task is Task.VA:
        return float(np.mean([concordance(predictions[:, i], labels[:, i]) for i in (0, 1)]))
    if task is Task.EXPR:
        return float(f1_score(labels[:, 0], predictions.argmax(axis=1), average="macro"))
    return float(f1_score(labels, predictions >= 0.5, average="macro"))


@pytest.mark.parametrize(
    ("task", "low", "high"), [(Task.VA, 0.85, 0.95), (Task.EXPR, 0.8, 0.92), (Task.AU, 0.8, 0.93)]
)
@pytest.mark.slow
def test_best_predictions_score_high_but_not_one(
    people: list[Performance], task: Task, low: float, high: float
) -> None:
    assert low < reached(task, *annotated(people, task)) < high


@pytest.mark.parametrize("task", list(Task))
@pytest.mark.parametrize("change", ["later", "earlier", "smoother", "another annotator"])
@pytest.mark.slow
def test_other_predictions_are_worse_than_the_best(
    people: list[Performance], task: Task, change: str
) -> None:
    best, labels = annotated(people, task)
    changed = []
    for i, one in enumerate(people):
        path = one.best_predictions(task)
        if change == "smoother":
            box = np.ones(21) / 21
            path = np.stack([np.convolve(column, box, mode="same") for column in path.T], 1)
        elif change == "another annotator":
            path = one.annotate(task, np.random.default_rng([3, i]))
            path = np.eye(8)[path[:, 0].astype(int)] if task is Task.EXPR else path
        else:
            path = np.roll(path, 8 if change == "later" else -8, axis=0)
        changed.append(path)
    worse = reached(task, np.concatenate(changed), labels)
    assert reached(task, best, labels) > worse + 0.005


def test_valence_and_arousal_are_written_down_late(people: list[Performance]) -> None:
    lags = np.arange(0, 60, 4)
    found = np.zeros(len(lags))
    for i, one in enumerate(people):
        labels = one.annotate(Task.VA, np.random.default_rng([2, i]))
        for j, lag in enumerate(lags):
            found[j] += np.corrcoef(labels[60:, 0], one.affect[60 - lag : 241 - lag, 0])[0, 1]
    assert lags[found.argmax()] == LAG


def test_expressions_last(people: list[Performance]) -> None:
    for i, one in enumerate(people):
        labels = one.annotate(Task.EXPR, np.random.default_rng([2, i]))[:, 0]
        changes = np.flatnonzero(np.diff(labels))
        assert (np.diff(changes) >= PATIENCE).all()


def test_expressions_are_imbalanced_like_the_real_ones(people: list[Performance]) -> None:
    _, labels = annotated(people, Task.EXPR)
    share = dict(
        zip(
            SPECS[Task.EXPR].columns,
            np.bincount(labels[:, 0].astype(int), minlength=8) / len(labels),
            strict=True,
        )
    )
    assert min(share.values()) > 0.02
    assert min(share["Neutral"], share["Other"]) > 0.18
    assert min(share["Happiness"], share["Sadness"]) > 0.1
    assert max(share["Anger"], share["Disgust"], share["Fear"]) < 0.09


def test_rates_of_action_units_spread_like_the_real_ones(people: list[Performance]) -> None:
    _, labels = annotated(people, Task.AU)
    real = np.array([0.118, 0.05, 0.154, 0.266, 0.397, 0.344, 0.245, 0.028, 0.031, 0.026, 0.627])
    rates = labels.mean(axis=0)
    assert (rates > 0.025).all()
    assert np.abs(rates[:11] - real).max() < 0.06


def test_probabilities_of_action_units_are_calibrated(people: list[Performance]) -> None:
    best, labels = annotated(people, Task.AU)
    for low in np.arange(0.0, 1.0, 0.2):
        chosen = (best >= low) & (best < low + 0.2)
        assert labels[chosen].mean() == pytest.approx(best[chosen].mean(), abs=0.05)


def test_values_lie_in_the_range_of_the_task(people: list[Performance]) -> None:
    best, labels = annotated(people, Task.VA)
    assert max(np.abs(best).max(), np.abs(labels).max()) <= 1.0
    best, labels = annotated(people, Task.EXPR)
    assert np.allclose(best.sum(axis=1), 1.0)
    assert set(np.unique(labels)) == set(range(8))
    best, labels = annotated(people, Task.AU)
    assert set(np.unique(labels)) == {0.0, 1.0}
    assert best.min() >= 0.0
    assert best.max() <= 1.0
