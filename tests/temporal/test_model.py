import itertools
import math

import pytest
import torch
from torch import nn

from raffect.affwild2.tasks import SPECS, Task
from raffect.config import TCNConfig, TemporalConfig, recipe
from raffect.errors import SettingsError
from raffect.settings import override
from raffect.temporal.checks import check_model
from raffect.temporal.model import (
    TCN,
    TemporalModel,
    activate,
    count_parameters,
    sinusoids,
)
from tests.temporal.builders import DIM, small_config

SHAPES = list(itertools.product((0, 1, 3), (0, 2)))


def model_of(depth, layers, **changes):
    torch.manual_seed(0)
    config = small_config(
        Task.VA, model__tcn__depth=depth, model__transformer__layers=layers, **changes
    )
    model = TemporalModel(config, DIM).eval()
    # At its start of zero, the embedding of missing crops would hide mistakes.
    nn.init.normal_(model.missing)
    return model


def present_of(batch, frames):
    return torch.rand(batch, frames, generator=torch.Generator().manual_seed(5)) < 0.8


@pytest.mark.parametrize(("depth", "layers"), SHAPES)
@pytest.mark.parametrize("content", [0.0, 1e3, float("nan"), float("inf")])
def test_real_frames_do_not_depend_on_the_content_of_padding(depth, layers, content):
    model = model_of(depth, layers)
    x, present = torch.randn(2, 12, DIM), present_of(2, 12)
    real = torch.arange(12) < torch.tensor([[12], [5]])
    other, gone = x.clone(), present.clone()
    other[1, 5:], gone[1, 5:] = content, False
    expected = model(x, present, real)[Task.VA][real]
    assert torch.isfinite(expected).all()
    assert torch.equal(model(other, gone, real)[Task.VA][real], expected)


@pytest.mark.parametrize(("depth", "layers"), SHAPES)
@pytest.mark.parametrize("training", [False, True])
def test_real_frames_do_not_depend_on_the_amount_of_padding(depth, layers, training):
    none = {"model__tcn__dropout": 0, "model__transformer__dropout": 0, "model__head_dropout": 0}
    model = model_of(depth, layers, **none).train(training)
    x, present = torch.randn(1, 7, DIM), present_of(1, 7)
    expected = model(x, present)[Task.VA]
    for padding in (0, 1, 30):
        longer = torch.cat([x, torch.randn(1, padding, DIM)], dim=1)
        there = torch.cat([present, torch.zeros(1, padding, dtype=torch.bool)], dim=1)
        real = (torch.arange(7 + padding) < 7)[None]
        got = model(longer, there, real)[Task.VA][:, :7]
        assert torch.allclose(got, expected, atol=1e-6)


@pytest.mark.parametrize(("depth", "layers"), SHAPES)
def test_padded_frames_get_no_gradient_and_real_ones_do(depth, layers):
    model = model_of(depth, layers).train()
    x = torch.randn(2, 12, DIM, requires_grad=True)
    real = torch.arange(12) < torch.tensor([[12], [5]])
    model(x, present_of(2, 12), real)[Task.VA][real].square().sum().backward()
    assert not x.grad[~real].any()
    assert (x.grad[real].abs().sum(dim=1) > 0).all()


def test_the_tcn_sees_no_later_frame_and_as_far_back_as_its_dilations_reach():
    tcn = TCN(4, TCNConfig(depth=3, channels=(6, 5), kernel=3, dropout=0)).eval()
    x = torch.randn(1, 4, 60, requires_grad=True)
    y = tcn(x)
    assert y.shape == (1, 5, 60)
    y[..., 40].sum().backward()
    touched = x.grad.abs().sum(dim=1)[0].nonzero().flatten()
    reach = 2 * 2 * (1 + 2 + 4)
    assert touched.min() == 40 - reach
    assert touched.max() == 40


def test_order_matters_through_positions_alone():
    """Without a TCN and positions, the Transformer sees a set of frames."""
    x, present = torch.randn(1, 9, DIM), torch.ones(1, 9, dtype=torch.bool)
    turned = x.flip(1)
    for positions, same in (("none", True), ("sinusoidal", False)):
        model = model_of(0, 2, model__transformer__positions=positions)
        forward, back = model(x, present)[Task.VA], model(turned, present)[Task.VA].flip(1)
        assert torch.allclose(forward, back, atol=1e-5) == same


def test_a_missing_crop_changes_the_output_once_its_embedding_is_learned():
    model = model_of(1, 1)
    x, there = torch.randn(1, 6, DIM), torch.ones(1, 6, dtype=torch.bool)
    gone = there.clone()
    gone[0, 2] = False
    assert not torch.allclose(model(x, there)[Task.VA], model(x, gone)[Task.VA])
    nn.init.zeros_(model.missing)
    assert torch.equal(model(x, there)[Task.VA], model(x, gone)[Task.VA])


def test_transformer_layers_start_out_different():
    first, second = model_of(0, 2).transformer.layers
    assert not torch.equal(first.linear1.weight, second.linear1.weight)
    assert not torch.equal(first.self_attn.in_proj_weight, second.self_attn.in_proj_weight)


@pytest.mark.parametrize("task", list(Task))
def test_the_recipe_on_clip_features(task):
    config = recipe(task)
    model = TemporalModel(config, 512).eval()
    assert [block.first.convolution.out_channels for block in model.tcn.blocks] == [768, 256, 128]
    assert [block.first.convolution.dilation for block in model.tcn.blocks] == [(1,), (2,), (4,)]
    assert len(model.transformer.layers) == 8
    with torch.no_grad():
        outputs = model(torch.randn(1, 300, 512), torch.ones(1, 300, dtype=torch.bool))
    assert {t: tuple(o.shape) for t, o in outputs.items()} == {task: (1, 300, SPECS[task].outputs)}


def test_auxiliary_heads_exist_for_weights_above_zero_only():
    config = small_config(Task.VA, losses__auxiliary__expr=0.2)
    outputs = TemporalModel(config, DIM)(torch.randn(1, 4, DIM), torch.ones(1, 4, dtype=bool))
    assert {task: o.shape[-1] for task, o in outputs.items()} == {Task.VA: 2, Task.EXPR: 8}


def test_parameters_are_counted_without_making_the_model():
    config = small_config(Task.AU, losses__auxiliary__va=0.1)
    made = sum(value.numel() for value in TemporalModel(config, DIM).parameters())
    assert count_parameters(config, DIM) == made


def test_settings_that_do_not_go_together_are_listed_at_once():
    config = override(
        TemporalConfig(task=Task.VA),
        {
            "model.transformer.heads": 3,
            "segments.stride": 400,
            "segments.predict_stride": 301,
            "losses.auxiliary.va": 0.5,
            "model.head": "batchnorm",
            "optimiser.accumulation": 2,
        },
    )
    with pytest.raises(SettingsError) as caught:
        check_model(config)
    for name in (
        "model.transformer.heads = 3",
        "segments.stride = 400",
        "segments.predict_stride = 301",
        "losses.auxiliary.va",
        "model.head = batchnorm",
    ):
        assert name in str(caught.value)
    # Heads do not matter where there is no Transformer.
    check_model(small_config(Task.VA, model__transformer__heads=3, model__transformer__layers=0))


def test_sinusoids_are_those_of_the_paper():
    table = sinusoids(50, 7, torch.device("cpu"))
    assert table.shape == (50, 7)
    assert float(table[13, 4]) == pytest.approx(math.sin(13 / 10_000 ** (4 / 7)), abs=1e-5)
    assert float(table[13, 5]) == pytest.approx(math.cos(13 / 10_000 ** (4 / 7)), abs=1e-5)


@pytest.mark.parametrize("task", list(Task))
def test_predictions_are_in_the_range_of_the_task(task):
    values = activate(task, torch.randn(30, SPECS[task].outputs) * 5)
    assert values.max() <= 1
    assert values.min() >= (-1 if task is Task.VA else 0)
    if task is Task.EXPR:
        assert torch.allclose(values.sum(dim=-1), torch.ones(30))
