from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from raffect.clip.training import class_weights, expression_loss

COUNTS = np.array([177198, 16573, 10771, 9080, 95463, 78751, 31615, 165866])


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_weights_average_to_one_over_the_frames(power: float):
    weights = class_weights(COUNTS, power).double().numpy()
    assert (weights * COUNTS).sum() / COUNTS.sum() == pytest.approx(1, rel=1e-5)
    np.testing.assert_allclose(weights / weights[0], (COUNTS / COUNTS[0]) ** -power, rtol=1e-5)


def test_an_absent_class_weighs_nothing():
    assert class_weights(np.array([3, 0, 1]), 1.0).tolist() == pytest.approx([2 / 3, 0, 2])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_without_weights_it_is_cross_entropy(smoothing: float):
    logits, labels = torch.randn(32, 8), torch.randint(0, 8, (32,))
    ours = expression_loss(logits, labels, torch.ones(8), smoothing)
    theirs = functional.cross_entropy(logits, labels, label_smoothing=smoothing)
    torch.testing.assert_close(ours, theirs)


def test_the_mean_over_equal_shares_is_the_loss_of_the_whole_batch():
    logits, labels = torch.randn(32, 8), torch.randint(0, 8, (32,))
    weights = class_weights(COUNTS, 1.0)
    shares = [expression_loss(logits[i::2], labels[i::2], weights, 0.1) for i in (0, 1)]
    whole = expression_loss(logits, labels, weights, 0.1)
    torch.testing.assert_close(sum(shares) / 2, whole)
