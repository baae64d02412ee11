"""AdamW for a pretrained tower: the learning rate falls from the head to the stem."""

from __future__ import annotations

import re

import torch
from torch import nn

from raffect.config import FinetuneConfig
from raffect.training.optim import AdamW, is_decayed

_BLOCK = re.compile(r"\.(?:resblocks|blocks|stages|layers)\.(\d+)\.|\.layer(\d)\.")
_STEM = re.compile(
    r"^visual\.(?:trunk\.)?(?:conv\d|bn\d|ln_pre|class_embedding|positional_embedding|stem"
    r"|patch_embed|cls_token|pos_embed|norm_pre)(?:\.|$)"
)


def make_optimiser(model: nn.Module, config: FinetuneConfig) -> AdamW:
    """AdamW in groups: a layer's rate falls by `layer_decay` per layer below the head.

    A group's `scale` multiplies the rate of the schedule; `is_decayed` says what is decayed.
    """
    depths = {name: depth_of(name) for name, _ in model.named_parameters()}
    top = max((depth for depth in depths.values() if depth is not None), default=0) + 1
    # By layers below the head, and whether weights decay.
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            depth = depths[name]
            below = 0 if depth is None else top - depth
            groups.setdefault((below, is_decayed(name, parameter)), []).append(parameter)
    settings = [
        {
            "params": parameters,
            "scale": config.layer_decay**below,
            "weight_decay": config.weight_decay if decayed else 0.0,
        }
        for (below, decayed), parameters in groups.items()
    ]
    return AdamW(settings, lr=config.lr)


def depth_of(name: str) -> int | None:
    """Depth of a parameter by its name: 0 the stem, from 1 the blocks, None all above them."""
    block = _BLOCK.search(name)
    if block is not None:
        return int(block[1]) + 1 if block[1] is not None else int(block[2])
    return 0 if _STEM.search(name) else None


def set_rate(optimiser: torch.optim.Optimizer, lr: float) -> None:
    """Give every group its rate."""
    for group in optimiser.param_groups:
        group["lr"] = lr * group["scale"]
