from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from raffect.clip.training import expression_loss
from raffect.training.balance import class_weights

COUNTS = np.array([177198, 16573, 10771, 9080, 95463, 78751, 31615, 165866])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_without_weights_it_is_cross_entropy(smoothing: float):
    logits, labels = torch.randn(32, 8), torch.randint(0, 8, (32,))
    ours = expression_loss(logits, labels, torch.ones(8), smoothing)
    theirs = functional.cross_entropy(logits, labels, label_smoothing=smoothing)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_the_optimum_gives_nothing_to_a_class_without_a_training_frame(power: float):
    counts = np.array([500, 80, 60, 50, 400, 300, 150, 0])
    labels = torch.from_numpy(np.repeat(np.arange(8), counts))
    weights = torch.tensor(class_weights(counts, power, over_frames=True), dtype=torch.float32)
    logits = torch.zeros(1, 8, requires_grad=True)
    optimiser = torch.optim.LBFGS([logits], max_iter=100)

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = expression_loss(logits.expand(len(labels), 8), labels, weights, 0.1)
        loss.backward()
        return loss

    optimiser.step(closure)
    # Each class's share of weights, smoothed over the seven that are there.
    share = counts * weights.numpy() / len(labels)
    expected = 0.9 * share + 0.1 * (counts > 0) / 7
    found = torch.softmax(logits.detach(), dim=-1)[0].numpy()
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_the_mean_over_equal_shares_is_the_loss_of_the_whole_batch():
    logits, labels = torch.randn(32, 8), torch.randint(0, 8, (32,))
    weights = torch.tensor(class_weights(COUNTS, 1.0, over_frames=True), dtype=torch.float32)
    shares = [expression_loss(logits[i::2], labels[i::2], weights, 0.1) for i in (0, 1)]
    whole = expression_loss(logits, labels, weights, 0.1)
    torch.testing.assert_close(sum(shares) / 2, whole)
