"""The penultimate layer is what the projection multiplies, for each kind of tower."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from open_clip.timm_model import TimmModel
from torch import Tensor, nn

from raffect.clip.encoder import FrameEncoder, build_encoder
from raffect.clip.images import Preprocessing
from raffect.clip.layers import use_layer
from raffect.clip.tower import Tower
from raffect.config import EncoderConfig
from raffect.errors import SettingsError


def ours(model: str) -> FrameEncoder:
    return build_encoder(EncoderConfig(model=model, pretrained=None))


def timm(proj: str | None, trunk: str = "test_vit") -> FrameEncoder:
    visual = TimmModel(trunk, 24, 160, pool="avg", proj=proj)
    seen = Preprocessing(160, 160, (0.0,) * 3, (1.0,) * 3)
    return FrameEncoder(EncoderConfig(model=trunk), Tower(visual, 24, seen, visual, {}))


@pytest.mark.parametrize(
    ("make", "project", "width"),
    [
        (lambda: ours("raffect-tiny-vit"), lambda v, x: x @ v.proj, 128),
        (lambda: ours("raffect-tiny"), lambda v, x: v.attnpool.c_proj(x), 256),
        (lambda: timm("linear"), lambda v, x: v.head.proj(x), 64),
        (lambda: timm("mlp"), lambda v, x: v.head.mlp(x), 64),
        (lambda: timm(None), lambda v, x: v.trunk.head(x), 64),
        (lambda: timm(None, "test_resnet"), lambda v, x: v.trunk.fc(x), 96),
    ],
    ids=["vit", "resnet", "timm-linear", "timm-mlp", "timm-classifier", "timm-resnet"],
)
def test_projected_again_it_is_the_towers_output(
    make: Callable[[], FrameEncoder], project: Callable[[nn.Module, Tensor], Tensor], width: int
):
    whole = make().eval()
    encoder = use_layer(copy.deepcopy(whole), "penultimate")
    seen = encoder.preprocessing
    images = torch.rand(3, 3, seen.height, seen.width)
    with torch.no_grad():
        features = encoder.encode(images)
        assert features.shape == (3, encoder.dim) == (3, width)
        projected = project(whole.visual, features)
        torch.testing.assert_close(projected, whole.encode(images), rtol=1e-4, atol=1e-5)


def test_the_projected_layer_is_the_encoder_as_it_is():
    encoder = ours("raffect-tiny-vit")
    assert use_layer(encoder, "projected").dim == 64
    assert encoder.visual.proj is not None


def test_a_tower_that_ends_without_a_projection_is_refused():
    encoder = timm("none")
    with pytest.raises(SettingsError, match="no projection") as caught:
        use_layer(encoder, "penultimate")
    assert caught.value.next_step
