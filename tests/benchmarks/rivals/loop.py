"""The plain training loop of both rivals; model, loss, schedule and score are raffect's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raffect.affwild2.scores import score
from raffect.affwild2.tasks import Task
from raffect.config import TemporalConfig
from raffect.temporal.losses import ValenceArousalLoss
from raffect.temporal.model import TemporalModel, activate
from raffect.training.optim import decay_groups, learning_rate

Batches = Callable[[], Iterable[Mapping[str, Tensor]]]


def train(
    config: TemporalConfig,
    model: torch.nn.Module,
    batches: Batches,
    steps: int,
    validation: Batches,
    labels: tuple[NDArray[np.float32], NDArray[np.bool_]],
) -> Iterator[float]:
    """Train and validate; gives each epoch's score.

    Args:
        config: Settings of the trial.
        model: The model, wrapped for several workers or not.
        batches: An epoch's batches of segments, shuffled.
        steps: How many these are.
        validation: The same of the validation split.
        labels: Labels and validity of the validation split's frames.
    """
    loss_of = ValenceArousalLoss(config.losses)
    settings = config.optimiser
    optimiser = torch.optim.AdamW(decay_groups(model, settings.weight_decay), settings.lr)
    step = 0
    for _ in range(settings.epochs):
        model.train()
        for batch in batches():
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(settings, step, steps)
            known = (batch["valid"] & batch["real"])[..., None].expand(-1, -1, 2)
            outputs = _outputs(model, batch)
            loss = loss_of.value(loss_of.statistics(outputs, batch["values"], known))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            step += 1
        yield _validate(model, validation, *labels)


def make_model(config: TemporalConfig, dim: int) -> TemporalModel:
    """The model, the same in every trial but for its settings."""
    torch.manual_seed(config.run.seed)
    return TemporalModel(config, dim)


def _outputs(model: torch.nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    real = None if bool(batch["real"].all()) else batch["real"]
    outputs: Tensor = model(batch["x"].float(), batch["present"], real)[Task.VA]
    return outputs


@torch.inference_mode()
def _validate(
    model: torch.nn.Module,
    validation: Batches,
    values: NDArray[np.float32],
    valid: NDArray[np.bool_],
) -> float:
    """CCC over all valid frames, overlapping segments averaged."""
    model.eval()
    sums = torch.zeros(len(values), 3, dtype=torch.float64)
    for batch in validation():
        found = activate(Task.VA, _outputs(model, batch)).double()
        counted = batch["real"][..., None].double()
        rows = torch.cat([found * counted, counted], dim=-1)
        sums.index_add_(0, batch["frames"].flatten(), rows.flatten(0, 1))
    predictions = (sums[:, :2] / sums[:, 2:]).numpy()
    return score(Task.VA, predictions[valid], values[valid]).value
