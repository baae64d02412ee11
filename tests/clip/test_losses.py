from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from raffect.clip.training import expression_loss
from raffect.training.optim import class_weights

COUNTS = np.array([177198, 16573, 10771, 9080, 95463, 78751, 31615, 165866])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_without_weights_it_is_cross_entropy(smoothing: float):
    logits, labels = torch.randn(32, 8), torch.randint(0, 8, (32,))
    ours = expression_loss(logits, labels, torch.ones(8), smoothing)
    theirs = functional.cross_entropy(logits, labels, label_smoothing=smoothing)
    torch.testing.assert_close(ours, theirs)


def test_the_mean_over_equal_shares_is_the_loss_of_the_whole_batch():
    logits, labels = torch.randn(32, 8), torch.randint(0, 8, (32,))
    weights = torch.tensor(class_weights(COUNTS, 1.0, over_frames=True), dtype=torch.float32)
    shares = [expression_loss(logits[i::2], labels[i::2], weights, 0.1) for i in (0, 1)]
    whole = expression_loss(logits, labels, weights, 0.1)
    torch.testing.assert_close(sum(shares) / 2, whole)
