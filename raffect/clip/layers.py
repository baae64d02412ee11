"""Which layer of a tower the features are: its projection into CLIP's space, or what is below."""

from __future__ import annotations

import torch
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from torch import nn

from raffect.clip.encoder import FrameEncoder
from raffect.config import Layer
from raffect.errors import SettingsError


def use_layer(encoder: FrameEncoder, layer: Layer) -> FrameEncoder:
    """The encoder itself, which encodes into this layer from now on, `encoder.dim` values wide.

    `penultimate` is the pooled output before the projection (ViT-B-16: 768 values, not 512). The
    encoder's head, which takes projected features, is no longer of use then.

    Raises:
        SettingsError: The tower ends without a projection of its own.
    """
    if layer == "penultimate":
        width = _drop_projection(encoder.visual)
        if width is None:
            raise SettingsError(
                f"layer = penultimate, and {encoder.config.model} has no projection that could be"
                " left out.",
                "projected (what the tower returns)",
                "Leave the setting layer at projected.",
            )
        encoder.dim = width
    return encoder


def _drop_projection(visual: nn.Module) -> int | None:
    """Take the last linear map, or MLP, from a tower; the width of what it was given."""
    if isinstance(visual, VisionTransformer) and visual.proj is not None:
        width = int(visual.proj.shape[0])
        visual.proj = None
        return width
    if isinstance(visual, ModifiedResNet):
        # The attention pooling multiplies by this matrix itself.
        projection = visual.attnpool.c_proj
        width = int(projection.in_features)
        projection.weight = nn.Parameter(torch.eye(width))
        projection.bias = nn.Parameter(torch.zeros(width))
        return width
    if isinstance(visual, TimmModel):
        for name, last in (("proj", "proj"), ("mlp", "mlp.fc1")):
            if hasattr(visual.head, name):
                width = int(visual.head.get_submodule(last).in_features)
                setattr(visual.head, name, nn.Identity())
                return width
        classifier = visual.trunk.get_classifier()
        if isinstance(classifier, nn.Linear):
            # timm's own classifier serves as the projection.
            visual.trunk.reset_classifier(0)
            return int(classifier.in_features)
    return None
