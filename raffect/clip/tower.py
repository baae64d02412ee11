"""Image towers from open_clip: any of its architectures, and our own small one."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import Tensor, nn

from raffect.clip.images import Preprocessing
from raffect.clip.weights import explained, find_weights
from raffect.config import EncoderConfig
from raffect.errors import SettingsError
from raffect.text import first_line

ARCHITECTURES = Path(__file__).with_name("architectures")
_SHOWN = 12
"""How many architectures a message names."""


@dataclass(frozen=True)
class Tower:
    """An image tower as open_clip built it.

    `visual` maps normalised images `(batch, 3, height, width)` to features `(batch, dim)`; `clip`
    is the whole model with its text tower, which only a prompt-initialised head needs.
    """

    visual: nn.Module
    dim: int
    preprocessing: Preprocessing
    clip: nn.Module


def build_tower(config: EncoderConfig) -> Tower:
    """Build an architecture with its weights; random ones when `pretrained` is None.

    Raises:
        SettingsError: Unknown architecture or tag, an image size that it can't have, or a weights
            file that can't be read or belongs to another architecture.
        NotThereError: The weights file is missing, or the tag can't be downloaded.
    """
    architecture = find_architecture(config.model)
    weights = find_weights(config)
    with explained(config, weights):
        clip = open_clip.create_model(
            config.model,
            pretrained=None if weights is None else str(weights),
            force_image_size=config.image_size,
            # Weights of a tower alone, e.g. timm's own, are never fetched behind the user's back.
            pretrained_image=False,
            pretrained_text=False,
            weights_only=True,
        )
    facts = open_clip.get_model_preprocess_cfg(clip)
    size = facts["size"]
    height, width = (size, size) if isinstance(size, int) else size
    preprocessing = Preprocessing(
        height, width, tuple(facts["mean"]), tuple(facts["std"]), facts["interpolation"]
    )
    return Tower(clip.visual, int(architecture["embed_dim"]), preprocessing, clip)


def find_architecture(name: str) -> dict[str, Any]:
    """The open_clip configuration of an architecture, ours included.

    Raises:
        SettingsError: None has that name; names those that are close.
    """
    _register_ours()
    known = open_clip.list_models()
    if name in known:
        config: dict[str, Any] = open_clip.get_model_config(name)
        return config
    close = difflib.get_close_matches(name, known, n=_SHOWN, cutoff=0.5)
    raise SettingsError(
        f"open_clip has no architecture {name!r}.",
        f"{', '.join(close or known[:_SHOWN])} (of {len(known)})",
        "Give one of them with --model.",
    )


@cache
def _register_ours() -> None:
    open_clip.add_model_config(ARCHITECTURES)


def embed_prompts(tower: Tower, config: EncoderConfig, prompts: list[str]) -> Tensor:
    """Unit-length text features `(prompts, dim)` from the architecture's text tower.

    Raises:
        SettingsError: The architecture's tokenizer is not at hand.
    """
    try:
        tokens = open_clip.get_tokenizer(config.model)(prompts)
    except (OSError, ImportError) as error:
        raise SettingsError(
            f"The tokenizer of {config.model} can't be loaded: {first_line(error)}",
            "head=linear, or an architecture with CLIP's own tokenizer",
            "Give --set head=linear.",
        ) from error
    with torch.inference_mode():
        features: Tensor = tower.clip.encode_text(tokens, normalize=True)  # type: ignore[operator]
    return features.clone()
