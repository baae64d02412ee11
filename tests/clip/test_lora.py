from __future__ import annotations

import pytest
import torch

from raffect.clip.encoder import FrameEncoder, build_encoder
from raffect.clip.lora import add_lora, plain_state
from raffect.config import EncoderConfig
from raffect.errors import SettingsError


@pytest.fixture
def encoder() -> FrameEncoder:
    return build_encoder(EncoderConfig(model="raffect-tiny-vit", pretrained=None)).eval()


def test_adapters_change_nothing_until_they_are_trained(encoder: FrameEncoder):
    images = torch.rand(2, 3, 64, 64)
    before = encoder(images)
    add_lora(encoder.visual, 4)
    torch.testing.assert_close(encoder(images), before)


def test_only_the_adapters_and_the_head_learn_and_attention_is_among_them(encoder: FrameEncoder):
    total = sum(p.numel() for p in encoder.visual.parameters())
    add_lora(encoder.visual, 2)
    learning = {name: p for name, p in encoder.named_parameters() if p.requires_grad}
    assert all(name.startswith("head.") or name.endswith((".0.a", ".0.b")) for name in learning)
    assert any("attn.parametrizations.in_proj_weight" in name for name in learning)
    assert any("out_proj.parametrizations.weight" in name for name in learning)
    assert sum(p.numel() for p in learning.values()) < 0.1 * total


def test_merging_keeps_the_function_and_the_plain_names(encoder: FrameEncoder):
    plain = build_encoder(encoder.config).eval()
    add_lora(encoder.visual, 4)
    optimiser = torch.optim.SGD([p for p in encoder.parameters() if p.requires_grad], lr=1.0)
    images = torch.rand(4, 3, 64, 64)
    before = encoder(images).detach()
    for _ in range(2):
        encoder(images).square().sum().backward()
        optimiser.step()
    after = encoder(images).detach()
    assert (after - before).abs().max() > 1e-3
    plain.load_state_dict(plain_state(encoder))
    torch.testing.assert_close(plain(images), after)
    torch.testing.assert_close(encoder(images), after)


def test_a_plain_models_state_is_its_own(encoder: FrameEncoder):
    state = plain_state(encoder)
    assert list(state) == list(encoder.state_dict())
    assert torch.equal(state["head.linear.weight"], encoder.head.linear.weight)


def test_a_tower_without_linear_maps_is_refused():
    with pytest.raises(SettingsError, match="LoRA"):
        add_lora(torch.nn.Sequential(torch.nn.Conv2d(3, 3, 3)), 4)
