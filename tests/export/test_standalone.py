"""What exported folders compute in plain torch and NumPy, against raffect itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raffect.affwild2.tasks import SPECS, Task
from raffect.config import TemporalConfig
from raffect.export.standalone.temporal import temporal
from raffect.export.standalone.video import postprocess, predict_video
from raffect.export.write import describe_prediction
from raffect.temporal.inference import predict
from raffect.temporal.model import TemporalModel
from raffect.temporal.postprocess import Filter, Postprocess
from raffect.temporal.postprocess import postprocess as ours
from raffect.temporal.timelines import build_timelines
from tests.export.made import KINDS, of_kind, random_model
from tests.temporal.builders import small_config

CLOSE = 2e-5


def both(
    config: TemporalConfig, model: TemporalModel, frames: np.ndarray, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """A video's predictions by raffect, and by the standalone programs."""
    x = np.random.default_rng(seed).normal(size=(len(frames), model.feature_dim))
    x = x.astype(np.float16)
    own = None if len(model.dims) == 1 else np.ones((len(frames), len(model.dims)), bool)
    rows = np.arange(len(frames))
    timelines = build_timelines(["v"], {"v": (frames, rows)}, {}, own=own)
    (expected,) = predict(model, config, x, timelines)
    member = {"config": config.canonical(), "sets": [{"dim": dim} for dim in model.dims]}
    weights = model.state_dict()

    def run(x, present, real, look_back):
        assert real.all()
        inputs = torch.from_numpy(x), torch.from_numpy(present), bool(look_back)
        with torch.inference_mode():
            return temporal(weights, member, *inputs).numpy()

    how = describe_prediction(config).canonical()
    return expected, predict_video(run, how, x, frames, len(model.dims))


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_model_predicts_the_same(kind: str):
    config, model = of_kind(kind)
    for length in (1, 2, 19, 20, 21, 150):
        expected, found = both(config, model, np.arange(1, length + 1))
        np.testing.assert_allclose(found, expected, atol=CLOSE)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_whatever_the_segments_and_gaps_are(data: st.DataObject):
    window = data.draw(st.integers(4, 30))
    changes = {
        "segments__window": window,
        "segments__stride": data.draw(st.integers(1, window)),
        "segments__blend": data.draw(st.sampled_from(["crossfade", "mean"])),
        "segments__predict_stride": data.draw(st.none() | st.integers(1, window)),
        "model__tcn__depth": data.draw(st.integers(0, 3)),
        "model__transformer__layers": data.draw(st.integers(0, 2)),
    }
    config = small_config(data.draw(st.sampled_from(list(Task))), **changes)
    frames = data.draw(st.sets(st.integers(1, 120), min_size=1, max_size=60))
    model = random_model(config, (3, 2) if data.draw(st.booleans()) else (4,))
    expected, found = both(config, model, np.array(sorted(frames)))
    np.testing.assert_allclose(found, expected, atol=CLOSE)


FILTERS = st.builds(
    Filter,
    kind=st.sampled_from(["mean", "median"]),
    half_width=st.integers(0, 60),
    shift=st.integers(0, 40),
)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_post_processing_is_the_same(data: st.DataObject):
    task = data.draw(st.sampled_from(list(Task)))
    outputs, length = SPECS[task].outputs, data.draw(st.integers(1, 90))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    count = outputs if task is Task.VA and data.draw(st.booleans()) else 1
    kinds = FILTERS.filter(lambda each: task is Task.EXPR or each.kind == "mean")
    levels = st.sampled_from([0.03125, 0.5, 0.875])
    values = Postprocess(
        filters=tuple(data.draw(kinds) for _ in range(count)),
        thresholds=tuple(data.draw(levels) for _ in range(outputs)) if task is Task.AU else (),
    )
    x = rng.dirichlet(np.full(outputs, 0.3), size=length).astype(np.float32)
    found = postprocess(task.value, values.canonical(), x)
    np.testing.assert_allclose(found, ours(task, values, x, length), atol=1e-6)
