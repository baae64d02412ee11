"""Weights of the small ViT in files, and tags of open_clip for it that other weights have."""

from __future__ import annotations

import warnings
from pathlib import Path

import open_clip
import pytest
import torch
from huggingface_hub import constants
from open_clip import factory, pretrained
from torch import Tensor, nn

from raffect.clip.tower import find_architecture
from raffect.config import EncoderConfig

MODEL = "raffect-tiny-vit"
TAGS = {
    "openai": pretrained._pcfg(quick_gelu=True),
    "laion": pretrained._pcfg(),
    "siglip": pretrained._slpcfg(),
    "clipa": pretrained._apcfg(),
    "mobile": pretrained._mccfg(),
}


def config(weights: object, **changes: object) -> EncoderConfig:
    given = None if weights is None else str(weights)
    return EncoderConfig.model_validate({"model": MODEL, "pretrained": given, **changes})


def make_clip(quick_gelu: bool = False, seed: int = 5, model: str = MODEL) -> nn.Module:
    """open_clip's own model, with random weights."""
    find_architecture(model)
    torch.manual_seed(seed)
    return open_clip.create_model(model, force_quick_gelu=quick_gelu).eval()


def save_clip(folder: Path, clip: nn.Module, name: str = "weights.pt") -> Path:
    torch.save(clip.state_dict(), folder / name)
    return folder / name


def give_tags(patch: pytest.MonkeyPatch, weights: Path | str = "", model: str = MODEL) -> None:
    """Give the small architecture tags, whose download is a file that is here already."""
    patch.setitem(pretrained._PRETRAINED, model, TAGS)
    patch.setattr(constants, "HF_HUB_OFFLINE", True)
    patch.setattr(factory, "download_pretrained", lambda tag: str(weights))


def save_archive(folder: Path, clip: nn.Module, buffers: tuple[str, ...] = ()) -> Path:
    """The model as a TorchScript archive; OpenAI's have three more buffers."""
    for name in buffers:
        if hasattr(clip, name):
            delattr(clip, name)
        clip.register_buffer(name, torch.tensor(64))

    def encode(images: Tensor) -> Tensor:
        features: Tensor = clip.visual(images)
        return features

    clip.forward = encode
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(clip, torch.rand(1, 3, 64, 64), check_trace=False)
    traced.save(folder / "archive.pt")
    return folder / "archive.pt"
