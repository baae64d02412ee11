import numpy as np
import pytest
import torch
from torch import nn

from raffect.affwild2.labels import VideoLabels
from raffect.affwild2.tasks import Split, Task
from raffect.temporal import inference
from raffect.temporal.inference import measure_latency, predict
from raffect.temporal.model import TemporalModel
from raffect.temporal.segments import segment_starts
from raffect.temporal.timelines import build_timelines
from raffect.training.reduce import Reducer
from tests.temporal.builders import DIM, small_config


def make_timelines(lengths):
    labels = {
        f"v{i}": VideoLabels(
            f"v{i}", Split.VALIDATION, np.zeros((n, 2), np.float32), np.ones(n, bool)
        )
        for i, n in enumerate(lengths)
    }
    starts = np.cumsum([0, *lengths])
    crops = {
        f"v{i}": (np.arange(1, n + 1), np.arange(starts[i], starts[i] + n))
        for i, n in enumerate(lengths)
    }
    return build_timelines(list(labels), crops, {Task.VA: labels})


class Position(nn.Module):
    """Answers with each frame's feature and its position in the segment."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x, present, real=None, back_only=False):
        position = torch.arange(x.shape[1]).expand(x.shape[:2]) / 100
        return {Task.VA: torch.stack([x[..., 0], position], dim=-1) + self.weight}


@pytest.mark.parametrize("blend", ["crossfade", "mean"])
def test_segments_are_joined_by_their_weights_and_frames_stay_in_order(blend):
    """In plain NumPy; segments of 8 at stride 5 overlap by 3."""
    config = small_config(Task.VA, segments__window=8, segments__stride=5, segments__blend=blend)
    lengths = (17, 3, 8)
    timelines = make_timelines(lengths)
    features = (np.arange(28)[:, None] / 100 * np.ones(2)).astype(np.float16)
    found = predict(Position(), config, features, timelines)
    assert [len(values) for values in found] == list(lengths)
    rise = np.array([0.25, 0.5, 0.75, 1, 1, 1, 1, 1])
    for i, length in enumerate(lengths):
        sums, weights = np.zeros(length), np.zeros(length)
        even = blend == "mean"
        for start in segment_starts(length, 8, 5) if even else range(0, length, 5):
            stop = min(start + 8, length)
            weight = np.minimum(1 if start == 0 else rise, rise[::-1])[: stop - start]
            weight = np.ones(stop - start) if even else weight
            sums[start:stop] += weight * np.arange(stop - start) / 100
            weights[start:stop] += weight
        np.testing.assert_allclose(found[i][:, 1], sums / weights, atol=1e-6)
        own = features[timelines.offsets[i] : timelines.offsets[i] + length, 0]
        np.testing.assert_allclose(found[i][:, 0], own.astype(np.float32), atol=1e-6)


def test_the_batch_size_does_not_matter(monkeypatch):
    config = small_config(Task.VA)
    torch.manual_seed(0)
    model = TemporalModel(config, DIM)
    timelines = make_timelines((70, 5, 44))
    features = np.random.default_rng(0).normal(size=(119, DIM)).astype(np.float16)
    before = predict(model, config, features, timelines)
    monkeypatch.setattr(inference, "BATCH", 1)
    for a, b in zip(before, predict(model, config, features, timelines), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_predicting_has_no_dropout_and_leaves_the_mode_as_it_was():
    config = small_config(Task.VA, model__head_dropout=0.9)
    model = TemporalModel(config, DIM).train()
    timelines = make_timelines((30,))
    features = np.ones((30, DIM), np.float16)
    first, again = (predict(model, config, features, timelines)[0] for _ in range(2))
    assert np.array_equal(first, again)
    assert model.training


def test_latency_is_measured_per_thousand_frames():
    config = small_config(Task.VA)
    assert 0 < measure_latency(TemporalModel(config, DIM), config, frames=500) < 60_000


def test_a_gpus_precision_of_training_is_not_that_of_prediction():
    """As a GPU trains by default in bfloat16, which is 3 decimals: a CPU predicts the same."""
    plain = small_config(Task.VA)
    torch.manual_seed(0)
    model = TemporalModel(plain, DIM)
    timelines = make_timelines((70,))
    features = np.random.default_rng(0).normal(size=(70, DIM)).astype(np.float16)
    found = predict(model, small_config(Task.VA, run__precision="bfloat16"), features, timelines)
    assert np.array_equal(found[0], predict(model, plain, features, timelines)[0])


class Shared(Reducer):
    """Worker `rank` of `size`, whose sums are kept to be added up."""

    def __init__(self, rank, size, kept):
        self.rank, self.size, self.kept = rank, size, kept

    def sum_in_place(self, values):
        self.kept.append(values.clone())
        return torch.stack(self.kept).sum(0)


def test_workers_together_predict_what_one_does(monkeypatch):
    monkeypatch.setattr(inference, "BATCH", 2)
    config = small_config(Task.VA)
    torch.manual_seed(0)
    model = TemporalModel(config, DIM)
    timelines = make_timelines((70, 5, 44))
    features = np.random.default_rng(0).normal(size=(119, DIM)).astype(np.float16)
    alone = np.concatenate(predict(model, config, features, timelines))
    kept = []
    for rank in range(3):
        found = predict(model, config, features, timelines, Shared(rank, 3, kept))
    np.testing.assert_allclose(np.concatenate(found), alone, atol=1e-7)
