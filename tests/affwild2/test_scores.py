import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score
from torchmetrics.regression import ConcordanceCorrCoef

from raffect.affwild2.scores import (
    binary_f1,
    class_f1,
    concordance_correlation_coefficient,
    score,
)
from raffect.affwild2.tasks import Task

RAMP = np.array([0.2, 0.4, 0.6, 0.8, 1.0])


@pytest.mark.parametrize(
    ("true", "predicted", "expected"),
    [
        (RAMP, RAMP - 0.2, 0.8),
        (RAMP, -RAMP, -0.1),
        ([0.1, -0.2, 0.3, 0.5, -0.4], [0, -0.1, 0.4, 0.2, -0.3], 0.8426150121065375),
        (RAMP, RAMP, 1.0),
        (RAMP, np.full(5, 0.1), 0.0),
        (np.full(5, 0.1), RAMP, 0.0),
        (np.full(5, 0.1), np.full(5, 0.1), 0.0),
    ],
)
def test_ccc_golden_values(true, predicted, expected):
    assert concordance_correlation_coefficient(predicted, true) == pytest.approx(
        expected, abs=1e-9
    )


def test_expression_f1_golden_value_counts_all_eight_classes():
    true = np.array([0, 0, 1, 1, 2, 2, 4, 4, 5, 6, 7, 7])
    predicted = np.array([0, 1, 1, 1, 2, 0, 4, 4, 5, 6, 7, 4])
    expected = (0.5 + 0.8 + 2 / 3 + 0 + 0.8 + 1 + 1 + 2 / 3) / 8
    assert expected == pytest.approx(0.6792, abs=5e-5)
    assert class_f1(predicted, true, 8).mean() == pytest.approx(expected, abs=1e-9)
    result = score(Task.EXPR, np.eye(8)[predicted], true[:, None])
    assert result.value == pytest.approx(expected, abs=1e-9)
    assert result.parts["Disgust"] == pytest.approx(2 / 3)
    assert result.parts["Fear"] == 0.0


def test_action_unit_golden_value_counts_one_half_as_active():
    true = np.array([1, 0, 1, 0, 1, 0])[:, None]
    predicted = np.array([0.9, 0.2, 0.6, 0.5, 0.1, 0.4])[:, None]
    assert binary_f1(predicted, true).mean() == pytest.approx(2 / 3, abs=1e-9)


def test_expression_f1_agrees_with_sklearn():
    rng = np.random.default_rng(0)
    true = rng.choice(8, 500, p=[0.4, 0.3, 0.1, 0.1, 0.05, 0.05, 0, 0])
    predicted = rng.choice(7, 500)
    oracle = f1_score(true, predicted, labels=range(8), average="macro", zero_division=0)
    assert class_f1(predicted, true, 8).mean() == pytest.approx(oracle, abs=1e-12)


def test_action_unit_f1_agrees_with_sklearn():
    rng = np.random.default_rng(1)
    true = (rng.random((300, 12)) < np.linspace(0, 0.6, 12)).astype(int)
    probabilities = rng.random((300, 12)) * np.linspace(0.4, 1, 12)
    oracle = f1_score(true, probabilities >= 0.5, average=None, zero_division=0)
    result = score(Task.AU, probabilities, true)
    assert list(result.parts.values()) == pytest.approx(oracle, abs=1e-12)
    assert result.value == pytest.approx(oracle.mean(), abs=1e-12)


def test_torchmetrics_divides_by_n_minus_one_and_is_no_oracle():
    """Its sample variances shrink the weight of the means' distance: .8333 where .8 is right."""
    theirs = ConcordanceCorrCoef()(torch.tensor(RAMP - 0.2), torch.tensor(RAMP))
    assert float(theirs) == pytest.approx(0.8333, abs=5e-5)
    assert concordance_correlation_coefficient(RAMP - 0.2, RAMP) == pytest.approx(0.8, abs=1e-9)


@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1)), min_size=2, max_size=30))
def test_ccc_is_symmetric_and_within_bounds(pairs):
    a, b = np.array(pairs).T
    ccc = concordance_correlation_coefficient(a, b)
    assert -1 - 1e-9 <= ccc <= 1 + 1e-9
    assert ccc == pytest.approx(concordance_correlation_coefficient(b, a), abs=1e-12)


def test_valence_arousal_is_the_mean_of_both():
    labels = np.stack([RAMP, -RAMP], axis=1)
    result = score(Task.VA, np.stack([RAMP - 0.2, RAMP], axis=1), labels)
    assert result.parts["valence"] == pytest.approx(0.8)
    assert result.value == pytest.approx(np.mean(list(result.parts.values())), abs=1e-12)


@pytest.mark.parametrize(
    ("predictions", "labels"),
    [
        (np.empty((0, 2)), np.empty((0, 2))),
        (np.zeros((3, 2)), np.zeros((4, 2))),
        (np.zeros((3, 8)), np.zeros((3, 2))),
        (np.full((3, 2), np.nan), np.zeros((3, 2))),
    ],
)
def test_what_cannot_be_scored_is_a_bug(predictions, labels):
    with pytest.raises(ValueError, match="va"):
        score(Task.VA, predictions, labels)
