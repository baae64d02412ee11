from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from raffect.clip.encoder import build_encoder
from raffect.clip.optimiser import (
    average,
    depth_of,
    load_state_tensors,
    make_optimiser,
    rate,
    set_rate,
    state_tensors,
)
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


def test_the_rate_warms_up_and_falls_to_zero():
    rates = [rate(step, 100, 10) for step in range(100)]
    assert rates[:3] == pytest.approx([0.1, 0.2, 0.3])
    assert rates[9] == rates[10] == 1.0
    assert rates[55] == pytest.approx(0.5)
    assert rates[99] == pytest.approx(0.5 * (1 + math.cos(math.pi * 89 / 90)))
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rate(200, 100, 10) == pytest.approx(0)


def test_the_average_is_that_of_its_definition():
    model, mean = nn.Linear(2, 1), nn.Linear(2, 1).requires_grad_(False)
    expected = mean.weight.clone()
    for step in range(30):
        with torch.no_grad():
            model.weight.add_(1.0)
        average(mean, model, 0.7, step)
        decay = min(0.7, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * model.weight.detach()
    torch.testing.assert_close(mean.weight, expected)


def test_no_averaging_is_the_model_itself_and_statistics_are_copied():
    model, mean = nn.BatchNorm1d(3), nn.BatchNorm1d(3).requires_grad_(False)
    with torch.no_grad():
        model.weight.add_(1.0)
    model(torch.randn(8, 3))
    average(mean, model, 0.0, 5)
    assert torch.equal(mean.weight, model.weight)
    assert torch.equal(mean.running_mean, model.running_mean)
    assert mean.num_batches_tracked == 1


def test_the_optimisers_state_goes_there_and_back():
    def one_step(model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
        model(torch.ones(1, 4)).square().sum().backward()
        optimiser.step()
        optimiser.zero_grad()

    torch.manual_seed(0)
    first, second = nn.Linear(4, 2), nn.Linear(4, 2)
    a, b = (make_optimiser(model, tiny_config()) for model in (first, second))
    one_step(first, a)
    second.load_state_dict(first.state_dict())
    load_state_tensors(second, b, {k: v.clone() for k, v in state_tensors(first, a).items()})
    one_step(first, a)
    one_step(second, b)
    assert torch.equal(first.weight, second.weight)
