from __future__ import annotations

import pytest
import torch
from torch import nn

from raffect.temporal.dropout import Dropout, SelfAttention, drop


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5, 1e-4])
def test_elements_are_dropped_at_the_rate_and_independently(rate: float) -> None:
    torch.manual_seed(0)
    count = 1 << 20
    found = drop(torch.ones(count), rate)
    dropped = found == 0
    error = (rate * (1 - rate) / count) ** 0.5
    assert float(dropped.float().mean()) == pytest.approx(rate, abs=5 * error + 2**-17)
    assert found.unique().tolist() == [0.0, pytest.approx(1 / (1 - rate), rel=2**-15)]
    assert float(found.mean()) == pytest.approx(1, abs=5 * error / (1 - rate))
    # Elements of one draw, of neighbouring ones, and each of the four places in a draw.
    for apart in (1, 2, 3, 4, 5, 8):
        both = (dropped[apart:] & dropped[:-apart]).float().mean()
        spread = (rate**2 * (1 - rate**2) / count) ** 0.5
        assert float(both) == pytest.approx(rate**2, abs=6 * spread + 2**-16)
    for place in range(4):
        share = float(dropped[place::4].float().mean())
        assert share == pytest.approx(rate, abs=2 * 5 * error + 2**-17)


@pytest.mark.parametrize("shape", [(1,), (3, 5), (2, 3, 7), (0, 4)])
def test_any_shape_is_dropped_and_learned_through(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, requires_grad=True)
    found = drop(x, 0.5)
    found.sum().backward()
    assert found.shape == x.shape
    assert x.grad is not None
    assert torch.equal(found, x * x.grad)


def test_a_seed_gives_the_same_masks_and_evaluation_none() -> None:
    x, layer = torch.ones(1000), Dropout(0.3)
    torch.manual_seed(5)
    first = layer(x)
    assert not torch.equal(layer(x), first)
    torch.manual_seed(5)
    assert torch.equal(layer(x), first)
    assert layer.eval()(x) is x
    assert float(drop(x, 0.9999999).max()) in (0.0, 65536.0)
    assert drop(x.double(), 0.5).dtype == torch.float64


def encoder(rate: float) -> nn.TransformerEncoderLayer:
    torch.manual_seed(0)
    return nn.TransformerEncoderLayer(16, 4, 8, rate, batch_first=True)


@pytest.mark.parametrize("causal", [False, True])
def test_attention_is_that_of_torch(causal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    torch_s, own = encoder(0.0), encoder(0.2)
    state = torch.get_rng_state()
    own.self_attn = SelfAttention.of(own.self_attn)
    assert torch.equal(torch.get_rng_state(), state)
    assert own.state_dict().keys() == torch_s.state_dict().keys()
    x = torch.randn(3, 7, 16)
    padding = torch.zeros(3, 7, dtype=torch.bool)
    padding[1, 5:] = True
    masks = {"src_mask": torch.ones(7, 7, dtype=torch.bool).triu(1) if causal else None}
    expected = torch_s(x, **masks, src_key_padding_mask=padding)
    # With masks that drop nothing, to see the rest of it.
    monkeypatch.setattr("raffect.temporal.dropout.drop", lambda x, rate: x)
    for layer in (own.dropout, own.dropout1, own.dropout2):
        layer.p = 0.0
    found = own(x, **masks, src_key_padding_mask=padding)
    torch.testing.assert_close(found, expected)
    monkeypatch.undo()
    assert not torch.allclose(own(x, **masks, src_key_padding_mask=padding), expected)
    own.eval()
    torch.testing.assert_close(own(x, **masks, src_key_padding_mask=padding), expected)
    padding[1] = True
    assert own.train()(x, **masks, src_key_padding_mask=padding).isfinite().all()
