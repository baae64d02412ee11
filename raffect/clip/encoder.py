"""The frame encoder: image tower, expression head and preprocessing as one object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from typing import Any, Literal, NotRequired, TypedDict

import torch
from safetensors.torch import load as load_tensors
from torch import Tensor, nn
from torch.nn import functional

from raffect.affwild2.tasks import SPECS, Task
from raffect.clip.images import Preprocessing
from raffect.clip.tower import (
    Tower,
    build_tower,
    create_tower,
    embed_prompts,
    find_architecture,
)
from raffect.clip.weights import is_repository
from raffect.config import EncoderConfig
from raffect.settings import build
from raffect.store import Store, encoder_folder, files_of
from raffect.store.layout import CONFIG, ENCODER_WEIGHTS

CLASSES = SPECS[Task.EXPR].columns
HeadKind = Literal["linear", "prompt"]
_PROMPT = "a photo of a face with {} expression"
_ADJECTIVES = ("a neutral", "an angry", "a disgusted", "a fearful", "a happy", "a sad",
               "a surprised", "an unclear")  # fmt: skip
LOGIT_SCALE = 100.0
"""CLIP's own temperature (Radford et al. 2021, section 2.5: the scale is clipped at 100)."""


class EncoderDescription(TypedDict):
    """All of an encoder but its weights, as config.json holds it; `classes` in logit order.

    Encoders of before 0.3 have no `quick_gelu`: their activation is the architecture's.
    `architecture`, open_clip's configuration, is there where `encoder.model` names a repository.
    """

    encoder: Mapping[str, object]
    head: HeadKind
    dim: int
    classes: list[str]
    preprocessing: dict[str, Any]
    quick_gelu: NotRequired[bool]
    architecture: NotRequired[Mapping[str, Any]]


class ExpressionHead(nn.Module):
    """Features `(batch, dim)` to expression logits `(batch, 8)`.

    A prompt-initialised head starts as CLIP's zero-shot classifier: the cosine between a feature
    and the text features of the class names, times CLIP's scale (Wortsman et al. 2022).
    """

    def __init__(self, dim: int, dropout: float, kind: HeadKind = "linear") -> None:
        super().__init__()
        self.kind = kind
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(dim, len(CLASSES))
        nn.init.trunc_normal_(self.linear.weight, std=0.02)
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Logits of features."""
        if self.kind == "prompt":
            features = functional.normalize(features, dim=-1)
        logits: Tensor = self.linear(self.dropout(features))
        return logits


class FrameEncoder(nn.Module):
    """An open_clip image tower with an expression head, and the preprocessing it expects."""

    def __init__(self, config: EncoderConfig, tower: Tower, head: HeadKind = "linear") -> None:
        super().__init__()
        self.config = config
        self.dim = tower.dim
        self.preprocessing: Preprocessing = tower.preprocessing
        self.visual = tower.visual
        self.architecture = tower.architecture
        self.head = ExpressionHead(tower.dim, config.head_dropout, head)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", _per_channel(tower.preprocessing.mean), persistent=False)
        self.register_buffer("std", _per_channel(tower.preprocessing.std), persistent=False)

    def encode(self, images: Tensor) -> Tensor:
        """Features `(batch, dim)` of images `(batch, 3, height, width)` with values in [0, 1]."""
        encoded = self.visual((images - self.mean) / self.std)
        # Some towers return their tokens beside the pooled feature.
        features: Tensor = encoded[0] if isinstance(encoded, tuple) else encoded
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Expression logits `(batch, 8)` of images `(batch, 3, height, width)` in [0, 1]."""
        logits: Tensor = self.head(self.encode(images))
        return logits

    def describe(self) -> EncoderDescription:
        """All but the weights, as JSON types; `restore` builds the encoder from it."""
        found = EncoderDescription(
            encoder=self.config.canonical(),
            head=self.head.kind,
            dim=self.dim,
            classes=list(CLASSES),
            preprocessing=asdict(self.preprocessing),
            quick_gelu=bool(self.architecture.get("quick_gelu", False)),
        )
        if is_repository(self.config.model):
            found["architecture"] = self.architecture
        return found


def _per_channel(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values).view(1, 3, 1, 1)


def build_encoder(
    config: EncoderConfig, head: HeadKind = "linear", seed: int = 0, guess: bool = True
) -> FrameEncoder:
    """A frame encoder with pretrained weights, or random ones of this seed.

    With `guess`, weights of which it is not certain what they were trained with are a warning.

    Raises:
        SettingsError: The architecture or its weights can't be used (see `build_tower`).
        NotThereError: The weights file is missing, or the tag can't be downloaded.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tower = build_tower(config, guess)
        encoder = FrameEncoder(config, tower, head)
    if head == "prompt":
        prompts = [_PROMPT.format(adjective) for adjective in _ADJECTIVES]
        text = embed_prompts(tower, config, prompts)
        with torch.no_grad():
            encoder.head.linear.weight.copy_(LOGIT_SCALE * text)
    return encoder


def to_images(pixels: Any, device: torch.device | str = "cpu") -> Tensor:
    """Images `(batch, 3, height, width)` in [0, 1] from pixels `(batch, height, width, 3)`."""
    tensor = torch.as_tensor(pixels).to(device, non_blocking=True)
    return tensor.permute(0, 3, 1, 2).float() / 255


def restore(description: EncoderDescription, weights: bytes) -> FrameEncoder:
    """The encoder that `describe` described, with these weights; needs no network."""
    config = build(EncoderConfig, description["encoder"])
    architecture = {**(description.get("architecture") or find_architecture(config.model)[0])}
    architecture["quick_gelu"] = description.get(
        "quick_gelu", architecture.get("quick_gelu", False)
    )
    # The pretrained weights need not be loaded: those of the file replace them.
    tower = create_tower(config, architecture)
    facts = description["preprocessing"]
    seen = Preprocessing(**{**facts, "mean": tuple(facts["mean"]), "std": tuple(facts["std"])})
    encoder = FrameEncoder(config, replace(tower, preprocessing=seen), description["head"])
    encoder.load_state_dict(load_tensors(weights))
    return encoder


def load_encoder(store: Store, name: str) -> FrameEncoder:
    """A finished encoder of the store, in evaluation mode, on the CPU.

    Raises:
        NotThereError: The store has none of that name; names those it has.
        DamagedError: Its files are not what its manifest says.
    """
    files = files_of(store, encoder_folder(name))
    description = files.read_json(CONFIG)
    return files.parse(ENCODER_WEIGHTS, partial(restore, description)).eval()
