"""What turns the features of frames into the outputs of a task: MLPs of two layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from raffect.affwild2.tasks import SPECS, Task
from raffect.config import ModelConfig
from raffect.temporal.dropout import Dropout
from raffect.training.reduce import LOCAL, Reducer


def make_head(model: ModelConfig, task: Task) -> nn.Module:
    """`(..., width)` to `(..., outputs)`; a BatchNormHead is also told which frames count."""
    if model.head == "batchnorm":
        return BatchNormHead(model.width, model.head_hidden, SPECS[task].outputs)
    return nn.Sequential(
        nn.Linear(model.width, model.head_hidden),
        nn.ReLU(),
        Dropout(model.head_dropout),
        nn.Linear(model.head_hidden, SPECS[task].outputs),
    )


class BatchNormHead(nn.Module):
    """Linear, batch norm, linear, without an activation: that of the authors' ABAW6 code."""

    def __init__(self, width: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Linear(width, hidden)
        self.norm = BatchNorm(hidden)
        self.last = nn.Linear(hidden, outputs)

    def forward(self, x: Tensor, counts: Tensor) -> Tensor:
        """`counts` `(B, T)` bool: the frames that batch norm takes statistics of."""
        found: Tensor = self.last(self.norm(self.first(x), counts))
        return found


class BatchNorm(nn.Module):
    """Batch norm over the frames that count, of all workers' parts of the batch together.

    As nn.BatchNorm1d, which counts padding too. Sums over workers are differentiable
    (training/reduce.py), so that any number of workers has the losses and gradients of one. What
    shifts all frames alike before it, e.g. a bias, has no gradient but rounding, of which Adam
    makes whole steps: with more workers they are others. Training does not feel them, and
    prediction only as far as the running mean is behind.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, width: int, momentum: float = 0.1, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("variance", torch.ones(width))
        self.momentum, self.epsilon = momentum, epsilon
        self.reducer: Reducer = LOCAL

    def forward(self, x: Tensor, counts: Tensor) -> Tensor:
        """`(B, T, width)` in float32; `counts` `(B, T)` bool."""
        x = x.float()
        mean, variance = self.mean, self.variance
        if self.training:
            counted = counts[..., None]
            frames = self.reducer.sum_in_place(counts.sum().to(x.dtype))
            mean = self._sum(x, counted) / frames
            variance = self._sum((x - mean).square(), counted) / frames
            with torch.no_grad():
                self.mean.lerp_(mean, self.momentum)
                unbiased = variance * frames / (frames - 1).clamp(min=1)
                self.variance.lerp_(unbiased, self.momentum)
        return (x - mean) * (variance + self.epsilon).rsqrt() * self.weight + self.bias

    def _sum(self, x: Tensor, counted: Tensor) -> Tensor:
        return self.reducer.sum(x.masked_fill(~counted, 0.0).sum(dim=(0, 1)))
