"""The expression loss: weighted, smoothed cross entropy that averages exactly over workers."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional


def class_weights(counts: NDArray[np.int64], power: float) -> Tensor:
    """Weights `count ** -power` per class, scaled so that their mean over the frames is 1.

    Power 0 is no weighting, 1 the inverse class frequency. Classes without a frame weigh 0.
    """
    present = counts > 0
    weights = np.where(present, np.maximum(counts, 1.0) ** -power, 0.0)
    mean = float((weights * counts).sum() / max(1, counts.sum()))
    return torch.tensor(weights / (mean or 1.0), dtype=torch.float32)


def expression_loss(logits: Tensor, labels: Tensor, weights: Tensor, smoothing: float) -> Tensor:
    """Mean over the batch of each frame's weighted cross entropy.

    Args:
        logits: `(batch, 8)`.
        labels: Class indices `(batch,)`.
        weights: Per class, `(8,)`. Torch's own weighting divides by the batch's sum of weights,
            so that the mean of two workers' losses would not be the loss of both batches.
        smoothing: Share of the target that is spread over all classes.
    """
    losses = functional.cross_entropy(
        logits.float(), labels, reduction="none", label_smoothing=smoothing
    )
    return (weights[labels] * losses).mean()
