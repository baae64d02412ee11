"""A batch in parts has the gradient of the whole, dropout and several tasks included."""

import pytest
import torch

from raffect.affwild2.tasks import Task
from raffect.temporal.backward import backward
from raffect.temporal.training import Trainer
from tests.temporal.builders import NO_DROPOUT, small_config


def gradient(trainer):
    """Loss and gradient of the first batch."""
    trainer.model.train()
    loss = backward(trainer._forward, trainer._losses, next(iter(trainer._batches())))
    return loss, torch.cat([value.grad.flatten() for value in trainer.model.parameters()])


@pytest.mark.parametrize("task", list(Task))
@pytest.mark.parametrize("parts", [2, 3, 64])
def test_a_batch_in_parts_has_the_gradient_of_the_whole(task_data, task, parts):
    data = task_data(task)
    whole = Trainer(small_config(task, **NO_DROPOUT), data)
    parted = Trainer(small_config(task, optimiser__accumulation=parts, **NO_DROPOUT), data)
    torch.testing.assert_close(gradient(parted), gradient(whole), atol=1e-6, rtol=1e-4)
    assert len(next(iter(parted._batches()))) > 1


def test_dropout_falls_the_same_way_in_both_passes(task_data):
    """The loss of the first pass is the one that the second pass's graphs belong to."""
    trainer = Trainer(small_config(Task.VA, optimiser__accumulation=2), task_data(Task.VA))
    seen = []

    def forward(batch):
        outputs = trainer._forward(batch)
        seen.append(outputs[Task.VA].detach().clone())
        return outputs

    parts = next(iter(trainer._batches()))
    trainer.model.train()
    backward(forward, trainer._losses, parts)
    assert len(seen) == 4
    assert torch.equal(seen[0], seen[2])
    assert torch.equal(seen[1], seen[3])
    assert not torch.equal(trainer._forward(parts[0])[Task.VA], seen[0])


def test_an_auxiliary_loss_is_accumulated_too(task_data):
    data = task_data(Task.VA, Task.EXPR)
    settings = {**NO_DROPOUT, "losses__auxiliary__expr": 0.5}
    whole = Trainer(small_config(Task.VA, **settings), data)
    parted = Trainer(small_config(Task.VA, optimiser__accumulation=2, **settings), data)
    assert parted.run_epoch().loss == pytest.approx(whole.run_epoch().loss, abs=1e-4)
