"""LoRA (Hu et al. 2021): a frozen weight plus a trained product of two thin matrices.

As a parametrisation of the weight, so that it also reaches the attention's stacked query, key and
value projection, which is a bare parameter of torch's module. One pair of matrices serves the
stacked projection as a whole.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from raffect.errors import SettingsError


class LowRank(nn.Module):
    """Adds `b @ a` to a weight `(outputs, inputs)`; starts as the identity (b = 0)."""

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        outputs, inputs = weight.shape
        self.a = nn.Parameter(torch.randn(rank, inputs) * rank**-0.5)
        self.b = nn.Parameter(torch.zeros(outputs, rank))

    def forward(self, weight: Tensor) -> Tensor:
        """The adapted weight."""
        return weight + self.b @ self.a


def add_lora(tower: nn.Module, rank: int) -> None:
    """Freeze a tower and adapt all its linear maps, those of the attention included.

    Raises:
        SettingsError: The tower has none.
    """
    tower.requires_grad_(False)
    targets: list[tuple[nn.Module, str]] = []
    for module in tower.modules():
        if isinstance(module, nn.Linear):
            targets.append((module, "weight"))
        elif isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None:
            targets.append((module, "in_proj_weight"))
    if not targets:
        raise SettingsError(
            "This architecture has no linear maps that LoRA could adapt.",
            "a vision transformer, or lora_rank=0",
            "Give --set lora_rank=0.",
        )
    for module, name in targets:
        adapter = LowRank(getattr(module, name), rank)
        parametrize.register_parametrization(module, name, adapter)


def plain_state(model: nn.Module) -> dict[str, Tensor]:
    """The state of the model with its adapters merged, under the names it has without them.

    torch's remove_parametrizations edits the module's class, which a deep copy shares with its
    original: it would break the model that is being trained.
    """
    adapted = {
        f"{prefix}.{name}": getattr(module, name).detach()
        for prefix, module in model.named_modules()
        if parametrize.is_parametrized(module)
        for name in module.parametrizations
    }
    kept = {k: v for k, v in model.state_dict().items() if ".parametrizations." not in k}
    return kept | adapted
