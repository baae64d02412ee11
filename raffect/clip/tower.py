"""Image towers from open_clip: any of its architectures, and our own small one."""

from __future__ import annotations

import difflib
import json
import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import open_clip
import torch
from open_clip.factory import LOCAL_DIR_PREFIX
from torch import Tensor, nn

from raffect.clip.checkpoint import Checkpoint, read_checkpoint
from raffect.clip.facts import (
    REPOSITORY_CONFIG,
    Facts,
    facts_of,
    facts_of_file,
    facts_of_tag,
)
from raffect.clip.images import Preprocessing
from raffect.clip.layouts import load_weights
from raffect.clip.weights import (
    explained,
    fetch,
    find_weights,
    is_repository,
    network_bounded,
    read_repository,
)
from raffect.config import EncoderConfig
from raffect.errors import SettingsError
from raffect.text import first_line

ARCHITECTURES = Path(__file__).with_name("architectures")
_SHOWN = 12
"""How many architectures a message names."""
_NO_TEXT = {
    "text_cfg": {"context_length": 1, "vocab_size": 1, "width": 64, "heads": 1, "layers": 1},
    "custom_text": True,
}


@dataclass(frozen=True)
class Tower:
    """An image tower as open_clip built it.

    `visual` maps normalised images `(batch, 3, height, width)` to features `(batch, dim)`; `clip`
    is the whole model with its text tower, which only a prompt-initialised head needs; `has_text`
    says whether the weights hold that. `architecture` is open_clip's configuration of it.
    """

    visual: nn.Module
    dim: int
    preprocessing: Preprocessing
    clip: nn.Module
    architecture: Mapping[str, Any]
    has_text: bool = True

    @property
    def quick_gelu(self) -> bool:
        """Whether it computes with QuickGELU in place of GELU."""
        return bool(self.architecture.get("quick_gelu", False))


def build_tower(config: EncoderConfig, guess: bool = True) -> Tower:
    """Build an architecture with its weights, as they want it; random when `pretrained` is None.

    What a local file's weights were trained with may not be certain (`facts_of_file`): with
    `guess` that is a warning, without it an error.

    Raises:
        SettingsError: Unknown architecture or tag, an image size that it can't have, or a weights
            file that can't be read or belongs to another architecture.
        NotThereError: The weights file is missing, or the tag can't be downloaded.
    """
    architecture, pixels = find_architecture(config.model)
    weights = find_weights(config)
    checkpoint = None if weights is None else read_checkpoint(fetch(config, weights))
    unknown = None
    if weights is None or is_repository(config.model):
        facts = facts_of(architecture, pixels)
    elif checkpoint is not None and isinstance(weights, Path):
        facts, unknown = facts_of_file(config, architecture, checkpoint)
    else:
        facts = facts_of_tag(config.model, architecture, str(weights))
    architecture["quick_gelu"] = facts.quick_gelu
    tower = create_tower(config, architecture, facts, checkpoint)
    if unknown is not None and not guess:
        raise unknown
    if unknown is not None:
        warnings.warn(unknown, stacklevel=2)
    return tower


def create_tower(
    config: EncoderConfig,
    architecture: Mapping[str, Any],
    facts: Facts | None = None,
    weights: Checkpoint | None = None,
    device: str = "cpu",
) -> Tower:
    """A tower by open_clip's configuration of it; `facts` are the architecture's own if None.

    On the device `meta` it has shapes and no values.
    """
    # A text tower of Hugging Face's would have to be fetched, and no image needs it.
    foreign = "hf_model_name" in architecture["text_cfg"]
    built = {**architecture, **_NO_TEXT} if foreign else architecture
    is_timm = "timm_model_name" in architecture["vision_cfg"]
    has_text = not foreign
    with explained(config), TemporaryDirectory() as folder:
        Path(folder, REPOSITORY_CONFIG).write_text(json.dumps({"model_cfg": built}))
        clip = open_clip.create_model(
            f"{LOCAL_DIR_PREFIX}{folder}",
            device=device,
            force_image_size=None if is_timm else config.image_size,
            # Weights of a tower alone, e.g. timm's own, are never fetched behind the user's back.
            pretrained_image=False,
            pretrained_text=False,
        )
        if weights is not None:
            has_text = load_weights(clip, weights, config.model) and not foreign
        if is_timm and config.image_size is not None:
            # timm resizes position embeddings of its own models, once they are loaded.
            clip.visual.set_input_size(config.image_size)
    facts = facts or facts_of(architecture, {})
    dim, pixels = int(architecture["embed_dim"]), facts.preprocessing(clip.visual.image_size)
    return Tower(clip.visual, dim, pixels, clip, architecture, has_text)


def plain_architecture(
    architecture: Mapping[str, Any], image_size: int | None
) -> Mapping[str, Any]:
    """Arguments of open_clip.CLIP for the tower of an architecture, with next to no text tower."""
    vision = {**architecture["vision_cfg"]}
    if "timm_model_name" in vision:
        vision["timm_model_pretrained"] = False
    elif image_size is not None:
        vision["image_size"] = image_size
    return {
        "embed_dim": architecture["embed_dim"],
        "vision_cfg": vision,
        "text_cfg": _NO_TEXT["text_cfg"],
        "quick_gelu": bool(architecture.get("quick_gelu", False)),
    }


def find_architecture(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The open_clip configuration of an architecture, ours included, and a repository's pixels.

    Raises:
        SettingsError: None has that name; names those that are close.
        NotThereError: The repository of that name can't be had.
    """
    if is_repository(name):
        found = read_repository(name)
        return found["model_cfg"], found.get("preprocess_cfg") or {}
    _register_ours()
    known = open_clip.list_models()
    if name in known:
        config: dict[str, Any] = open_clip.get_model_config(name)
        return config, {}
    close = difflib.get_close_matches(name, known, n=_SHOWN, cutoff=0.5)
    raise SettingsError(
        f"open_clip has no architecture {name!r}.",
        f"{', '.join(close or known[:_SHOWN])} (of {len(known)}); or hf-hub:ORG/NAME",
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
    if not tower.has_text:
        raise SettingsError(
            f"The weights {config.pretrained} of {config.model} hold no text tower that can be "
            "used, and a prompt head begins with its text features.",
            "head=linear, or weights of a whole CLIP model",
            "Give --set head=linear.",
        )
    try:
        with network_bounded() if is_repository(config.model) else nullcontext():
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
