"""The gradient of a batch that comes in parts, as that of the whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from raffect.affwild2.tasks import Task
from raffect.temporal.batches import Batch
from raffect.temporal.losses import WeightedLosses


def backward(
    forward: Callable[[Batch], dict[Task, Tensor]],
    losses: WeightedLosses,
    micro_batches: Sequence[Batch],
    alone: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> Tensor:
    """Leave the gradient of a batch's loss on the model; returns the loss.

    A loss is a function f of sums S over all frames (losses.py), not a mean over micro-batches:
    CCC is not additive. So several of them are passed twice, as in GradCache (Gao et al., "Scaling
    Deep Contrastive Learning Batch Size under Memory Limited Setup", 2021): first without a graph
    for S, then each with its own graph, into which f'(S) is backpropagated. The random state is
    put back for the second pass, so that dropout masks are the same. Memory is that of the
    largest micro-batch, at the price of one more forward pass. All workers pass equally many
    micro-batches, disjoint parts of the batch; within `alone` (reduce.py) they do not join their
    gradients, which the last one does.
    """
    if len(micro_batches) == 1:
        (only,) = micro_batches
        loss: Tensor = losses(forward(only), only.values, only.known)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()
    device = micro_batches[0].x.device
    states, sums = [], []
    with torch.no_grad():
        for batch in micro_batches:
            states.append(_random_state(device))
            sums.append(losses.statistics(forward(batch), batch.values, batch.known))
    total = losses.reducer.sum_in_place(torch.stack(sums).sum(0)).requires_grad_()
    loss = losses.value(total)
    (slope,) = torch.autograd.grad(loss, total)
    # DDP takes the mean over workers of gradients that belong to a sum (reduce.py).
    slope = slope * losses.reducer.size
    for batch, state in zip(micro_batches, states, strict=True):
        _set_random_state(device, state)
        with nullcontext() if batch is micro_batches[-1] else alone():
            own = losses.statistics(forward(batch), batch.values, batch.known)
            own.backward(slope)  # type: ignore[no-untyped-call]
    return loss.detach()


def _random_state(device: torch.device) -> Tensor:
    if device.type == "cuda":
        return torch.cuda.get_rng_state(device)
    return torch.random.get_rng_state()


def _set_random_state(device: torch.device, state: Tensor) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.random.set_rng_state(state)
