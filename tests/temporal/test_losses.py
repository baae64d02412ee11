import numpy as np
import pytest
import torch
from torch.nn.functional import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    log_softmax,
)

from raffect.affwild2.scores import concordance_correlation_coefficient
from raffect.affwild2.tasks import SPECS, Task
from raffect.config import LossConfig
from raffect.temporal.checks import describe_gaps
from raffect.temporal.losses import (
    ActionUnitLoss,
    ExpressionLoss,
    ValenceArousalLoss,
    WeightedLosses,
    task_loss,
)
from raffect.temporal.timelines import FrameLabels
from raffect.training.reduce import LOCAL


def loss_of(loss, outputs, values, known):
    return loss.value(loss.statistics(outputs, values, known))


@pytest.fixture
def va():
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(3, 20, 2, generator=generator)
    values = torch.rand(3, 20, 2, generator=generator) * 2 - 1
    known = (torch.rand(3, 20, 1, generator=generator) < 0.7).expand(3, 20, 2)
    return outputs, torch.where(known, values, -5.0), known


@pytest.mark.parametrize(("share", "mse"), [(0.5, 0.0), (0.3, 0.0), (0.8, 0.4), (0.5, 1.0)])
def test_valence_arousal_loss_agrees_with_numpy(va, share, mse):
    outputs, values, known = va
    x, y = outputs[known[..., 0]].numpy(), values[known[..., 0]].numpy()
    ccc = [concordance_correlation_coefficient(x[:, i], y[:, i]) for i in range(2)]
    squares = ((x.astype(float) - y) ** 2).mean(axis=0)
    expected = 2 * sum(
        weight * ((1 - mse) * (1 - ccc[i]) + mse * squares[i])
        for i, weight in enumerate((share, 1 - share))
    )
    loss = ValenceArousalLoss(LossConfig(valence_share=share, mse_share=mse))
    assert float(loss_of(loss, *va)) == pytest.approx(expected, abs=1e-9)


def test_the_default_valence_arousal_loss_is_the_recipe(va):
    outputs, values, known = va
    x, y = outputs[known[..., 0]].numpy(), values[known[..., 0]].numpy()
    recipe = sum(1 - concordance_correlation_coefficient(x[:, i], y[:, i]) for i in range(2))
    assert float(loss_of(ValenceArousalLoss(LossConfig()), *va)) == pytest.approx(recipe)


@pytest.fixture
def expr():
    generator = torch.Generator().manual_seed(1)
    outputs = torch.randn(2, 15, 8, generator=generator)
    values = torch.randint(8, (2, 15, 1), generator=generator).float()
    known = torch.rand(2, 15, 1, generator=generator) < 0.7
    return outputs, torch.where(known, values, -1.0), known


COUNTS = np.array([100, 50, 20, 5, 1, 3, 70, 300])


@pytest.mark.parametrize(("power", "smoothing"), [(0.0, 0.0), (0.5, 0.0), (0.0, 0.2), (1.0, 0.3)])
def test_expression_loss_agrees_with_torch(expr, power, smoothing):
    outputs, values, known = expr
    config = LossConfig(class_weight_power=power, label_smoothing=smoothing)
    weight = torch.from_numpy(np.maximum(COUNTS, 1).astype(float) ** -power)
    mask = known[..., 0]
    expected = cross_entropy(
        outputs[mask].double(),
        values[mask][:, 0].long(),
        weight=weight,
        label_smoothing=smoothing,
    )
    # Smoothing spreads absolute weights, so both sides need the same scale.
    scaled = cross_entropy(
        outputs[mask].double(),
        values[mask][:, 0].long(),
        weight=weight / weight.mean(),
        label_smoothing=smoothing,
    )
    assert float(scaled) == pytest.approx(float(expected))
    ours = loss_of(ExpressionLoss(config, COUNTS), *expr)
    assert float(ours) == pytest.approx(float(expected), abs=1e-9)


@pytest.mark.parametrize(("power", "smoothing"), [(0.0, 0.1), (0.5, 0.1), (1.0, 0.3)])
def test_nothing_is_smoothed_towards_a_class_without_a_training_frame(expr, power, smoothing):
    """The label of a frame is shared among the seven classes that are there, in plain NumPy."""
    counts = np.array([100, 50, 20, 5, 1, 0, 70, 300])
    outputs, values, known = expr
    known = known & (values != 5)
    x = outputs[known[..., 0]].double().numpy()
    true = values[known].long().numpy()
    weight = np.where(counts > 0, np.maximum(counts, 1.0) ** -power, 0)
    log_p = x - np.log(np.exp(x).sum(axis=1, keepdims=True))
    target = (1 - smoothing) * np.eye(8)[true] + smoothing * (counts > 0) / 7
    expected = -(target * weight * log_p).sum() / weight[true].sum()
    config = LossConfig(class_weight_power=power, label_smoothing=smoothing)
    ours = loss_of(ExpressionLoss(config, counts), outputs, values, known)
    assert float(ours) == pytest.approx(expected, abs=1e-12)
    rest = outputs.clone().requires_grad_()
    loss_of(ExpressionLoss(config, counts), rest, values, known).backward()
    assert (rest.grad[..., 5] >= 0).all()


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_factor_agrees_with_its_formula(expr, gamma):
    outputs, values, known = expr
    mask = known[..., 0]
    log_p = log_softmax(outputs[mask].double(), dim=-1)
    picked = log_p.gather(1, values[mask].long())[:, 0]
    expected = (-((1 - picked.exp()) ** gamma) * picked).mean()
    ours = loss_of(ExpressionLoss(LossConfig(focal_gamma=gamma), COUNTS), *expr)
    assert float(ours) == pytest.approx(float(expected), abs=1e-9)


def test_focal_gradient_is_finite_where_the_model_is_certain():
    outputs = torch.tensor([[[80.0] + [0.0] * 7]], requires_grad=True)
    loss = ExpressionLoss(LossConfig(focal_gamma=0.5), COUNTS)
    loss_of(loss, outputs, torch.zeros(1, 1, 1), torch.ones(1, 1, 1, dtype=torch.bool)).backward()
    assert torch.isfinite(outputs.grad).all()


@pytest.fixture
def au():
    generator = torch.Generator().manual_seed(2)
    outputs = torch.randn(2, 15, 12, generator=generator)
    values = torch.randint(2, (2, 15, 12), generator=generator).float()
    known = torch.rand(2, 15, 12, generator=generator) < 0.7
    return outputs, torch.where(known, values, -1.0), known


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_action_unit_loss_agrees_with_torch(au, power):
    outputs, values, known = au
    positives, total = np.arange(1, 13), np.full(12, 40)
    weight = torch.from_numpy(((total - positives) / positives) ** power)
    every = binary_cross_entropy_with_logits(
        outputs.double(), values.double(), pos_weight=weight, reduction="none"
    )
    config = LossConfig(positive_weight_power=power)
    ours = loss_of(ActionUnitLoss(config, positives, total), *au)
    assert float(ours) == pytest.approx(float(every[known].mean()), abs=1e-9)


def make_loss(task, **settings):
    width = SPECS[task].label_width
    labels = FrameLabels(np.ones((4, width), np.float32), np.ones(4, bool))
    return task_loss(task, LossConfig(**settings), labels)


@pytest.mark.parametrize("task", list(Task))
def test_a_batch_without_valid_frames_has_loss_and_gradient_zero(task):
    spec = SPECS[task]
    outputs = torch.randn(2, 5, spec.outputs, requires_grad=True)
    values = torch.full((2, 5, spec.label_width), float(spec.invalid))
    known = torch.zeros(2, 5, spec.label_width, dtype=torch.bool)
    loss = loss_of(make_loss(task, mse_share=0.5, focal_gamma=1), outputs, values, known)
    loss.backward()
    assert loss.item() == 0.0
    assert outputs.grad is not None
    assert not outputs.grad.any()


@pytest.mark.parametrize("task", list(Task))
def test_outputs_at_unknown_labels_change_nothing(task, request):
    outputs, values, known = request.getfixturevalue(task.value)
    loss = make_loss(task, mse_share=0.3, label_smoothing=0.1)
    hidden = ~known if known.shape == outputs.shape else ~known[..., 0]
    changed = outputs.clone()
    changed[hidden] = 7.0
    assert float(loss_of(loss, outputs, values, known)) == float(
        loss_of(loss, changed, values, known)
    )


@pytest.mark.parametrize("task", list(Task))
def test_statistics_of_parts_add_up_to_the_whole(task, request):
    outputs, values, known = request.getfixturevalue(task.value)
    loss = make_loss(task, class_weight_power=0.5, positive_weight_power=0.5)
    halves = ((0, 1), (1, len(outputs)))
    parts = [loss.statistics(outputs[a:b], values[a:b], known[a:b]) for a, b in halves]
    whole = loss.statistics(outputs, values, known)
    assert torch.allclose(sum(parts), whole, atol=1e-12)


def test_one_label_of_one_frame_gives_a_finite_gradient(va):
    outputs, values, _ = va
    outputs = outputs.clone().requires_grad_()
    known = torch.zeros(outputs.shape, dtype=torch.bool)
    known[0, 0] = True
    loss_of(ValenceArousalLoss(LossConfig()), outputs, values.clamp(-1, 1), known).backward()
    assert torch.isfinite(outputs.grad).all()


def test_class_weights_come_from_the_valid_labels():
    values = np.array([[0], [0], [0], [3], [-1]], np.float32)
    labels = FrameLabels(values, values[:, 0] >= 0)
    loss = task_loss(Task.EXPR, LossConfig(class_weight_power=1.0), labels)
    assert float(loss.weight[3] / loss.weight[0]) == pytest.approx(3.0)
    assert loss.weight.tolist() == pytest.approx([0.5, 0, 0, 1.5, 0, 0, 0, 0])


def test_positive_weights_count_each_known_unit():
    values = np.zeros((5, 12), np.float32)
    values[:1] = 1
    values[4, 0] = -1
    labels = FrameLabels(values, (values != -1).all(axis=1))
    loss = task_loss(Task.AU, LossConfig(positive_weight_power=1.0), labels)
    assert loss.weight[:2].tolist() == [3.0, 4.0]


def test_an_action_unit_that_is_always_the_same_has_a_plain_loss():
    """Nothing is there to balance: neither 10,000 / 1 nor 1 / 10,000 of frames that are not."""
    values = np.random.default_rng(0).integers(2, size=(10_000, 12)).astype(np.float32)
    values[:, 3], values[:, 4], values[:, 5] = 0, 1, -1
    labels = FrameLabels(values, np.zeros(len(values), bool))
    loss = task_loss(Task.AU, LossConfig(positive_weight_power=1.0), labels)
    assert loss.weight[3:6].tolist() == [1, 1, 1]
    outputs = torch.zeros(1, len(values), 12, requires_grad=True)
    known = torch.from_numpy(values != -1)[None]
    loss_of(loss, outputs, torch.from_numpy(values)[None], known).backward()
    assert not outputs.grad[..., 5].any()
    assert float(outputs.grad[..., 3].sum()) == pytest.approx(0.5 / 11, rel=1e-3)


def test_labels_that_are_absent_from_training_are_named():
    classes = np.array([[0], [1], [2], [3], [4], [-1]], np.float32)
    units = np.array([[0] * 12, [1] * 12], np.float32)
    units[:, 0], units[:, 1], units[:, 2], units[0, 3] = -1, 0, 1, -1
    found = describe_gaps(
        {
            Task.VA: FrameLabels(np.zeros((2, 2), np.float32), np.ones(2, bool)),
            Task.EXPR: FrameLabels(classes, classes[:, 0] >= 0),
            Task.AU: FrameLabels(units, np.zeros(2, bool)),
        }
    )
    assert [line.partition(":")[0] for line in found] == [
        "No training frame is labelled Sadness, Surprise, Other",
        "No training frame has a label of AU1",
        "No training frame has AU2 active",
        "No training frame has AU4, AU6 inactive",
    ]
    full = FrameLabels(np.arange(8, dtype=np.float32)[:, None], np.ones(8, bool))
    assert describe_gaps({Task.EXPR: full}) == []


def test_weighted_losses_add_up(va, expr):
    losses = {Task.VA: make_loss(Task.VA), Task.EXPR: make_loss(Task.EXPR)}
    both = WeightedLosses(losses, {Task.VA: 1.0, Task.EXPR: 0.3}, LOCAL)
    pairs = zip(va, expr, strict=True)
    inputs = [dict(zip((Task.VA, Task.EXPR), pair, strict=True)) for pair in pairs]
    expected = loss_of(losses[Task.VA], *va) + 0.3 * loss_of(losses[Task.EXPR], *expr)
    assert float(both(*inputs)) == pytest.approx(float(expected), abs=1e-12)
