from __future__ import annotations

import pytest

from raffect.clip.encoder import build_encoder
from raffect.clip.optimiser import depth_of, make_optimiser, set_rate
from raffect.config import EncoderConfig
from tests.clip.clip_data import tiny_config


@pytest.mark.parametrize(
    ("name", "depth"),
    [
        ("visual.conv1.weight", 0),
        ("visual.class_embedding", 0),
        ("visual.positional_embedding", 0),
        ("visual.ln_pre.bias", 0),
        ("visual.transformer.resblocks.0.attn.in_proj_weight", 1),
        ("visual.transformer.resblocks.11.mlp.c_fc.weight", 12),
        ("visual.transformer.resblocks.3.attn.parametrizations.in_proj_weight.0.a", 4),
        ("visual.ln_post.weight", None),
        ("visual.proj", None),
        ("head.linear.weight", None),
        ("visual.layer1.0.conv1.weight", 1),
        ("visual.layer4.2.bn3.weight", 4),
        ("visual.attnpool.positional_embedding", None),
        ("visual.trunk.patch_embed.proj.weight", 0),
        ("visual.trunk.blocks.7.norm1.weight", 8),
    ],
)
def test_a_parameters_depth_follows_from_its_name(name: str, depth: int | None):
    assert depth_of(name) == depth


def test_rates_fall_towards_the_stem_and_only_matrices_are_decayed():
    config = tiny_config(layer_decay=0.5, weight_decay=0.1)
    encoder = build_encoder(EncoderConfig(model="raffect-tiny-vit", pretrained=None))
    optimiser = make_optimiser(encoder, config)
    names = {id(p): name for name, p in encoder.named_parameters()}
    found = {
        names[id(p)]: (group["scale"], group["weight_decay"])
        for group in optimiser.param_groups
        for p in group["params"]
    }
    assert len(found) == len(names)
    assert found["head.linear.weight"] == (1.0, 0.1)
    assert found["head.linear.bias"] == (1.0, 0.0)
    assert found["visual.transformer.resblocks.3.mlp.c_fc.weight"] == (0.5, 0.1)
    assert found["visual.transformer.resblocks.0.ln_1.weight"] == (0.5**4, 0.0)
    assert found["visual.conv1.weight"] == (0.5**5, 0.1)
    assert found["visual.positional_embedding"] == (0.5**5, 0.0)
    set_rate(optimiser, 1e-2)
    assert {group["lr"] for group in optimiser.param_groups} == {
        1e-2 * 0.5**below for below in range(6)
    }
