"""AdamW for a pretrained tower: layer decay, warm-up and cosine, averaged weights."""

from __future__ import annotations

import math
import re
from typing import Any

import torch
from torch import Tensor, nn

from raffect.config import FinetuneConfig

_BLOCK = re.compile(r"\.(?:resblocks|blocks|stages|layers)\.(\d+)\.|\.layer(\d)\.")
_STEM = re.compile(
    r"^visual\.(?:trunk\.)?(?:conv\d|bn\d|ln_pre|class_embedding|positional_embedding|stem"
    r"|patch_embed|cls_token|pos_embed|norm_pre)(?:\.|$)"
)
_UNDECAYED = ("class_embedding", "positional_embedding", "cls_token", "pos_embed")


def make_optimiser(model: nn.Module, config: FinetuneConfig) -> torch.optim.AdamW:
    """AdamW in groups: a layer's rate falls by `layer_decay` per layer below the head.

    Biases, norms and embeddings of position are not decayed (BEiT, Bao et al. 2021, and
    open_clip do the same). A group's `scale` multiplies the rate of the schedule.
    """
    depths = {name: depth_of(name) for name, _ in model.named_parameters()}
    blocks = [depth for depth in depths.values() if depth is not None]
    top = max(blocks, default=0) + 1
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        depth = depths[name]
        below = top - (top if depth is None else depth)
        decayed = parameter.ndim > 1 and not name.endswith(_UNDECAYED)
        group = groups.setdefault(
            (below, decayed),
            {
                "params": [],
                "scale": config.layer_decay**below,
                "weight_decay": config.weight_decay if decayed else 0.0,
            },
        )
        group["params"].append(parameter)
    return torch.optim.AdamW(list(groups.values()), lr=config.lr)


def depth_of(name: str) -> int | None:
    """Depth of a parameter by its name: 0 the stem, from 1 the blocks, None all above them."""
    block = _BLOCK.search(name)
    if block is not None:
        return int(block[1]) + 1 if block[1] is not None else int(block[2])
    return 0 if _STEM.search(name) else None


def rate(step: int, steps: int, warmup: int) -> float:
    """Share of the learning rate at a step (from 0): linear warm-up, then a cosine to zero."""
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def set_rate(optimiser: torch.optim.Optimizer, lr: float) -> None:
    """Give every group its rate."""
    for group in optimiser.param_groups:
        group["lr"] = lr * group["scale"]


@torch.no_grad()
def average(mean: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """Move the averaged weights towards the model's.

    The average forgets its random start at once: its decay grows as (1 + step) / (10 + step) up
    to `decay` (as in TensorFlow's ExponentialMovingAverage), so that short runs have one too.
    """
    weight = 1 - min(decay, (1 + step) / (10 + step)) if decay else 1.0
    into: list[Tensor] = list(mean.parameters())
    of: list[Tensor] = list(model.parameters())
    torch._foreach_lerp_(into, of, weight)
    for target, source in zip(mean.buffers(), model.buffers(), strict=True):
        target.copy_(source)


def state_tensors(model: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as tensors named `parameter/key`, for safetensors."""
    return {
        f"{name}/{key}": value
        for name, parameter in model.named_parameters()
        for key, value in optimiser.state.get(parameter, {}).items()
    }


def load_state_tensors(
    model: nn.Module, optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]
) -> None:
    """Put back what `state_tensors` returned."""
    parameters = dict(model.named_parameters())
    for full, value in tensors.items():
        name, _, key = full.rpartition("/")
        parameter = parameters[name]
        # AdamW keeps its step count on the CPU, its moments beside the parameter.
        place = value if key == "step" else value.to(parameter.device)
        optimiser.state[parameter][key] = place
