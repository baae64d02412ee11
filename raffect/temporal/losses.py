"""Losses over the valid frames of the whole batch, each a function of sums over frames.

Every loss is `value(statistics(...))`, and statistics of different workers add up. So the loss of
N workers is the loss of their frames together, which a mean over workers' losses would not be:
neither CCC nor a weighted mean is a mean over parts (reduce.py shows that gradients agree too).
Sums are float64: CCC subtracts large sums from one another.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, log_softmax

from raffect.affwild2.tasks import Task
from raffect.config import LossConfig
from raffect.temporal.checks import count_classes, count_units
from raffect.temporal.timelines import FrameLabels
from raffect.training.balance import class_weights
from raffect.training.reduce import Reducer

PerTask = Mapping[Task, Tensor]
_NEVER_ZERO = 1e-12


class TaskLoss(nn.Module, ABC):
    """The loss of one task; a batch without valid frames has loss 0 and gradient 0."""

    @abstractmethod
    def statistics(self, outputs: Tensor, values: Tensor, known: Tensor) -> Tensor:
        """Sums over known labels, `(statistics,)` float64.

        Args:
            outputs: `(..., outputs)` of the model, before `activate`.
            values: Labels `(..., label_width)`.
            known: Which of them count, `(..., label_width)` bool.
        """

    @abstractmethod
    def value(self, statistics: Tensor) -> Tensor:
        """The loss of the frames that the statistics sum up."""


class ValenceArousalLoss(TaskLoss):
    """2 (s (1 - CCC_v) + (1 - s) (1 - CCC_a)), mixed with the mean squared error by a share m.

    With the default s = 0.5 and m = 0 it is the recipe's (1 - CCC_v) + (1 - CCC_a). The squared
    errors are balanced by s in the same way.
    """

    def __init__(self, config: LossConfig) -> None:
        super().__init__()
        share = config.valence_share
        self.balance: Tensor
        self.register_buffer("balance", 2 * torch.tensor([share, 1 - share], dtype=torch.float64))
        self.mse_share = config.mse_share

    def statistics(self, outputs: Tensor, values: Tensor, known: Tensor) -> Tensor:
        """Counts, sums, squares, products and squared errors, per dimension."""
        x = torch.where(known, outputs.double(), 0.0).flatten(0, -2)
        y = torch.where(known, values.double(), 0.0).flatten(0, -2)
        count = known.flatten(0, -2).double()
        terms = (count, x, y, x * x, y * y, x * y, (x - y) ** 2)
        return torch.cat([term.sum(0) for term in terms])

    def value(self, statistics: Tensor) -> Tensor:
        """The loss; CCC with population moments."""
        count, x, y, xx, yy, xy, squares = statistics.view(7, 2)
        n = count.clamp_min(1.0)
        mean_x, mean_y = x / n, y / n
        covariance = xy / n - mean_x * mean_y
        variances = xx / n - mean_x**2 + yy / n - mean_y**2
        ccc = 2 * covariance / (variances + (mean_x - mean_y) ** 2 + _NEVER_ZERO)
        mixed = (1 - self.mse_share) * (1 - ccc) + self.mse_share * squares / n
        return torch.sum(self.balance * mixed * (count > 0))


class ExpressionLoss(TaskLoss):
    """Cross entropy with class weights, label smoothing and focal modulation.

    Without the focal factor (1 - p_true)^gamma (Lin et al., 2017) it is PyTorch's cross entropy
    with `weight` and `label_smoothing`, where every class has a training frame. Class weights are
    those of optim.py; labels are smoothed over the classes that have one.
    """

    def __init__(self, config: LossConfig, counts: NDArray[Any]) -> None:
        super().__init__()
        weight = class_weights(counts, config.class_weight_power, over_frames=False)
        self.weight: Tensor
        self.register_buffer("weight", torch.from_numpy(weight))
        self.present = max(1, int((weight > 0).sum()))
        self.smoothing = config.label_smoothing
        self.gamma = config.focal_gamma

    def statistics(self, outputs: Tensor, values: Tensor, known: Tensor) -> Tensor:
        """Sum of the weighted losses and of the weights."""
        counted = known.flatten().double()
        true = torch.where(known, values, 0.0).flatten().long()
        log_p = log_softmax(outputs.double().flatten(0, -2), dim=-1)
        log_p_true = log_p.gather(1, true[:, None])[:, 0]
        weight = self.weight[true]
        smooth = -(log_p * self.weight).sum(dim=-1) / self.present
        loss = (1 - self.smoothing) * weight * -log_p_true + self.smoothing * smooth
        if self.gamma:
            # Clamped, or the power's slope at 0 would be infinite for gamma below 1.
            loss = loss * (-torch.expm1(log_p_true)).clamp_min(1e-9) ** self.gamma
        return torch.stack([(loss * counted).sum(), (weight * counted).sum()])

    def value(self, statistics: Tensor) -> Tensor:
        """The weighted mean loss."""
        total, weight = statistics[0], statistics[1]
        return total / torch.where(weight > 0, weight, 1.0)


class ActionUnitLoss(TaskLoss):
    """Mean binary cross entropy over known labels.

    Positives of an AU weigh (negatives / positives)^power, counted in the training labels, and 1
    where either is absent: there is nothing to balance.
    """

    def __init__(self, config: LossConfig, positives: NDArray[Any], known: NDArray[Any]) -> None:
        super().__init__()
        active = np.asarray(positives, np.float64)
        passive = np.asarray(known, np.float64) - active
        both = (active > 0) & (passive > 0)
        ratio = np.divide(passive, active, out=np.ones_like(active), where=both)
        self.weight: Tensor
        weight = ratio**config.positive_weight_power
        self.register_buffer("weight", torch.from_numpy(weight))

    def statistics(self, outputs: Tensor, values: Tensor, known: Tensor) -> Tensor:
        """Sum of the losses and their number."""
        target = torch.where(known, values, 0.0).double()
        loss = binary_cross_entropy_with_logits(
            outputs.double(), target, pos_weight=self.weight, reduction="none"
        )
        return torch.stack([torch.where(known, loss, 0.0).sum(), known.sum().double()])

    def value(self, statistics: Tensor) -> Tensor:
        """The mean loss."""
        total, count = statistics[0], statistics[1]
        return total / count.clamp_min(1.0)


def task_loss(task: Task, config: LossConfig, labels: FrameLabels) -> TaskLoss:
    """The loss of a task; its class weights come from the training labels."""
    if task is Task.VA:
        return ValenceArousalLoss(config)
    if task is Task.EXPR:
        return ExpressionLoss(config, count_classes(labels))
    return ActionUnitLoss(config, *count_units(labels))


class WeightedLosses(nn.Module):
    """The sum of the tasks' losses, each times its weight, which is 1 for the main task."""

    def __init__(
        self, losses: Mapping[Task, TaskLoss], weights: Mapping[Task, float], reducer: Reducer
    ) -> None:
        super().__init__()
        # Registered, so that class weights move to the device with `to`.
        self.losses = nn.ModuleList(losses.values())
        self.weights = dict(weights)
        self.reducer = reducer
        self._ordered = list(losses.items())
        self._sizes: list[int] = []

    def forward(self, outputs: PerTask, values: PerTask, known: PerTask) -> Tensor:
        """The loss of the global batch, the same on every worker."""
        return self.value(self.reducer.sum(self.statistics(outputs, values, known)))

    def statistics(self, outputs: PerTask, values: PerTask, known: PerTask) -> Tensor:
        """The sums of all tasks one after the other, of this worker's frames."""
        own = [
            loss.statistics(outputs[task], values[task], known[task])
            for task, loss in self._ordered
        ]
        self._sizes = [len(part) for part in own]
        return torch.cat(own)

    def value(self, statistics: Tensor) -> Tensor:
        """The loss of the frames that the sums belong to."""
        parts = zip(self._ordered, torch.split(statistics, self._sizes), strict=True)
        terms = [self.weights[task] * loss.value(part) for (task, loss), part in parts]
        return torch.stack(terms).sum()
