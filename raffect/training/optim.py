"""Optimisation that all models share: schedule, averaged weights, weight decay, state."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

_UNDECAYED = re.compile(
    r"(?:class_embedding|cls_token|reg_token|dist_token|positional_embedding|pos_embed"
    r"|relative_position_bias_table|logit_scale|head_scale|parametrizations\.\w+\.original0)$"
)
"""Embeddings, gains, biases that have several axes, by their names in open_clip, timm, torch.

`original0` is the gain of a weight-normed kernel.
"""


class Schedule(Protocol):
    """The settings of a learning-rate schedule."""

    @property
    def lr(self) -> float:
        """The highest rate."""

    @property
    def epochs(self) -> int:
        """Length of the schedule."""

    @property
    def warmup_epochs(self) -> float:
        """Length of the warm-up; may be a fraction of an epoch."""


def learning_rate(settings: Schedule, step: int, steps_per_epoch: int) -> float:
    """Rate of a step (from 0): linear over the warm-up, then a cosine towards 0 at the end."""
    warm = settings.warmup_epochs * steps_per_epoch
    if step < warm:
        return settings.lr * min(1.0, (step + 1) / warm)
    rest = settings.epochs * steps_per_epoch - warm
    share = min(1.0, (step - warm) / max(rest, 1.0))
    return settings.lr * 0.5 * (1 + math.cos(math.pi * share))


@torch.no_grad()
def update_average(mean: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """Move the averaged weights (EMA) towards the model's; buffers are copied.

    The decay grows as (1 + step) / (10 + step) up to `decay`, as in TensorFlow's
    ExponentialMovingAverage: the random start is forgotten at once, also in a short run.
    """
    weight = 1 - min(decay, (1 + step) / (10 + step)) if decay else 1.0
    into: list[Tensor] = list(mean.parameters())
    of: list[Tensor] = list(model.parameters())
    torch._foreach_lerp_(into, of, weight)
    for target, source in zip(mean.buffers(), model.buffers(), strict=True):
        target.copy_(source)


def is_decayed(name: str, parameter: nn.Parameter) -> bool:
    """Whether AdamW's weight decay acts on a parameter: on matrices and convolution kernels only.

    Norms, biases, slopes, gains and embeddings are not decayed (as in BEiT, Bao et al. 2021, and
    open_clip): they are few, and near 0 they switch off what they belong to. The direction of a
    weight-normed kernel is: the function does not depend on its length, but each step is at right
    angles to it and lengthens it, so that without decay its steps turn it less and less
    (van Laarhoven, "L2 Regularization versus Batch and Weight Normalization", 2017).
    """
    return parameter.ndim > 1 and _UNDECAYED.search(name) is None


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """All parameters for AdamW, in a group that is decayed and one that is not (`is_decayed`)."""
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, parameter in model.named_parameters():
        groups[is_decayed(name, parameter)].append(parameter)
    return [
        {"params": groups[True], "weight_decay": weight_decay},
        {"params": groups[False], "weight_decay": 0.0},
    ]


def _plain(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method without the decorator that tells torch.compile to leave it alone."""
    found: Callable[..., Any] = method.__wrapped__  # type: ignore[attr-defined]
    return found


class AdamW(torch.optim.AdamW):
    """That of torch, without torch.compile, which is not used here.

    Torch's decorators import it, in each process that trains, for more than a second. On the CPU
    the kernel that does all in one pass takes a third of the time.
    """

    def __init__(self, groups: Sequence[dict[str, Any]], lr: float) -> None:
        on_cpu = all(p.device.type == "cpu" for group in groups for p in group["params"])
        super().__init__(groups, lr=lr, fused=on_cpu or None)

    add_param_group = _plain(torch.optim.Optimizer.add_param_group)
    state_dict = _plain(torch.optim.Optimizer.state_dict)
    load_state_dict = _plain(torch.optim.Optimizer.load_state_dict)
    zero_grad = _plain(torch.optim.Optimizer.zero_grad)
    step = torch.no_grad()(_plain(torch.optim.Adam.step))


def optimiser_tensors(model: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as tensors named `parameter/key`, for safetensors."""
    names = _names(model, optimiser)
    return {
        f"{names[index]}/{key}": value
        for index, state in optimiser.state_dict()["state"].items()
        for key, value in state.items()
    }


def load_optimiser_tensors(
    model: nn.Module, optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]
) -> None:
    """Put back what `optimiser_tensors` returned."""
    index = {name: index for index, name in enumerate(_names(model, optimiser))}
    state: dict[int, dict[str, Tensor]] = {}
    for full, value in tensors.items():
        name, _, key = full.rpartition("/")
        state.setdefault(index[name], {})[key] = value
    # Torch's own way puts each tensor where it belongs: AdamW's step count stays on the CPU.
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": state, "param_groups": groups})


def _names(model: nn.Module, optimiser: torch.optim.Optimizer) -> list[str]:
    """Names of the optimiser's parameters, in the order of the indices in its state."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return [names[id(own)] for group in optimiser.param_groups for own in group["params"]]
