"""The gradient of a batch that does not fit into memory at once: the same, part by part."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from raffect.affwild2.tasks import Task
from raffect.temporal.batches import Batch
from raffect.temporal.losses import WeightedLosses

Forward = Callable[[Batch], dict[Task, Tensor]]


def backward(forward: Forward, losses: WeightedLosses, parts: Sequence[Batch]) -> Tensor:
    """Leave the gradient of the parts' common loss on the model; returns the loss.

    A loss is a function f of sums S over all frames (losses.py), and no mean over parts: CCC of
    half a batch is another thing. So several parts are passed twice, as in GradCache (Gao et al.,
    "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup", 2021): first
    without a gradient for S, then each with its own graph, down which f'(S) is sent. Dropout
    falls the same way both times. Memory is that of the largest part; one more forward pass is
    the price.

    Args:
        forward: The model's outputs of a part.
        losses: The losses, which know of other workers; each of these passes as many parts.
        parts: Disjoint parts of the batch.
    """
    if len(parts) == 1:
        only = parts[0]
        loss: Tensor = losses(forward(only), only.values, only.known)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()
    device = parts[0].x.device
    states, sums = [], []
    with torch.no_grad():
        for part in parts:
            states.append(_random_state(device))
            sums.append(losses.statistics(forward(part), part.values, part.known))
    total = losses.reducer.sum_in_place(torch.stack(sums).sum(0)).requires_grad_()
    loss = losses.value(total)
    (slope,) = torch.autograd.grad(loss, total)
    # DDP takes the mean over workers of gradients that belong to a sum (reduce.py).
    slope = slope * losses.reducer.size
    for part, state in zip(parts, states, strict=True):
        _set_random_state(device, state)
        own = losses.statistics(forward(part), part.values, part.known)
        own.backward(slope)  # type: ignore[no-untyped-call]
    return loss.detach()


def _random_state(device: torch.device) -> Tensor:
    state: Tensor
    if device.type == "cuda":
        state = torch.cuda.get_rng_state(device)
    else:
        state = torch.random.get_rng_state()
    return state


def _set_random_state(device: torch.device, state: Tensor) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.random.set_rng_state(state)
