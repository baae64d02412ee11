"""The head with batch norm: torch's own on the frames that are not padding."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from raffect.affwild2.tasks import Task
from raffect.temporal.heads import BatchNorm
from raffect.temporal.model import TemporalModel
from raffect.temporal.training import Trainer
from tests.temporal.builders import DIM, NO_DROPOUT, small_config


def test_it_is_that_of_torch_on_the_frames_that_count():
    torch.manual_seed(0)
    own, theirs = BatchNorm(6), nn.BatchNorm1d(6)
    with torch.no_grad():
        for module in (own, theirs):
            module.weight.copy_(torch.linspace(0.5, 2, 6))
            module.bias.copy_(torch.linspace(-1, 1, 6))
    for _ in range(3):
        x = torch.randn(4, 10, 6) * 3 + 5
        counts = torch.arange(10) < torch.tensor([[10], [3], [7], [1]])
        x, y = x.requires_grad_(), x.detach().clone().requires_grad_()
        found, expected = own(x, counts)[counts], theirs(y[counts])
        torch.testing.assert_close(found, expected)
        slope = torch.randn_like(expected)
        found.backward(slope)
        expected.backward(slope)
        torch.testing.assert_close(x.grad, y.grad)
        torch.testing.assert_close(own.weight.grad, theirs.weight.grad)
    torch.testing.assert_close(own.mean, theirs.running_mean)
    torch.testing.assert_close(own.variance, theirs.running_var)
    x = torch.randn(2, 10, 6)
    torch.testing.assert_close(
        own.eval()(x, torch.ones(2, 10) > 0), theirs.eval()(x.flatten(0, 1)).view_as(x)
    )


@pytest.mark.parametrize("content", [0.0, 1e3, float("nan")])
def test_training_does_not_feel_what_is_in_the_padding(content):
    torch.manual_seed(0)
    model = TemporalModel(small_config(Task.VA, model__head="batchnorm", **NO_DROPOUT), DIM)
    x, real = torch.randn(2, 12, DIM), torch.arange(12) < torch.tensor([[12], [5]])
    present = torch.ones(2, 12, dtype=torch.bool)
    other = x.clone()
    other[~real] = content
    found = [model(values, present, real)[Task.VA][real] for values in (x, other)]
    assert torch.equal(found[0], found[1])


def test_an_interrupted_training_goes_on_with_its_statistics(task_data):
    data, config = task_data(Task.EXPR), small_config(Task.EXPR, model__head="batchnorm")
    whole = Trainer(config, data)
    whole.run_epoch()
    saved = whole.save()
    again = Trainer(config, data)
    again.restore(saved)
    assert whole.run_epoch().score == again.run_epoch().score
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name
    assert (whole.model.heads["expr"].norm.mean != 0).all()
