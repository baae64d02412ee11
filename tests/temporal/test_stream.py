"""A stream tells of each frame what predicting the video up to it tells of its last frame."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raffect.affwild2.tasks import SPECS, Task
from raffect.temporal.inference import ModelBundle, predict_features
from raffect.temporal.model import TemporalModel, activate
from raffect.temporal.postprocess import CrossFitted, Filter, Postprocess
from raffect.temporal.stream import MOST_LANES, Stream
from tests.temporal.builders import DIM, small_config

EXACT = 1e-5
"""On values of at most 1; what differs is the order of sums."""


def bundle_of(task=Task.VA, post=None, **changes):
    """A model with random weights, of which none is at the value that it starts with."""
    config = small_config(task, **changes)
    torch.manual_seed(0)
    model = TemporalModel(config, DIM).eval()
    with torch.no_grad():
        for value in [*model.parameters(), *model.buffers()]:
            value.add_((torch.rand_like(value) - 0.5) * 0.3)
    fitted = (
        None if post is None else CrossFitted(groups=((), ()), applied=(post,) * 2, final=post)
    )
    return ModelBundle(
        config=config,
        model=model,
        metrics={},
        manifest=None,
        feature_dim=DIM,
        lineage={"features": "clip", "encoder": "clip", "sources": {}},
        postprocess=fitted,
    )


def clip(length, gaps=0.2, seed=0):
    """1-based frames with a crop, the first among them, and their features."""
    rng = np.random.default_rng(seed)
    frames = np.flatnonzero(np.append(0.0, rng.random(length - 1)) < 1 - gaps) + 1
    return frames, rng.normal(size=(len(frames), DIM)).astype(np.float32)


def stream_of(bundle, frames, features, length):
    """What a stream tells of each frame, `(length, outputs)`."""
    stream = Stream(bundle)
    seen = dict(zip(frames.tolist(), features, strict=True))
    told = [stream.step({0: seen[i]} if i in seen else {})[0] for i in range(1, length + 1)]
    return np.stack(told)


def cut_at(bundle, frames, features, length):
    """The same by predicting the video anew for each frame."""
    found = []
    for end in range(1, length + 1):
        kept = frames <= end
        found.append(predict_features(bundle, features[kept], frames[kept], end)[-1])
    return np.stack(found)


MODELS = {
    "recipe": {},
    "no-tcn": {"model__tcn__depth": 0},
    "no-transformer": {"model__transformer__layers": 0},
    "neither": {"model__tcn__depth": 0, "model__transformer__layers": 0},
    "two-layers": {"model__transformer__layers": 2},
    "without-positions": {"model__transformer__positions": "none"},
    "batchnorm": {"model__head": "batchnorm"},
    "zscore": {"model__input": "zscore"},
    "l2": {"model__input": "l2"},
    "wide-kernel": {"model__tcn__kernel": 7, "model__tcn__depth": 3},
    "no-overlap": {"segments__stride": 20},
    "own-stride": {"segments__predict_stride": 6},
    "auxiliary": {"losses__auxiliary__expr": 1.0},
}


@pytest.mark.parametrize("changes", MODELS.values(), ids=MODELS)
def test_a_frame_is_predicted_as_the_last_one_of_the_video_so_far(changes):
    bundle = bundle_of(**changes)
    frames, features = clip(47)
    told = stream_of(bundle, frames, features, 47)
    expected = cut_at(bundle, frames, features, 47)
    assert np.ptp(expected, axis=0).min() > 0.01
    np.testing.assert_allclose(told, expected, atol=EXACT)


MEAN, DELAYED = Filter(half_width=3), Filter(half_width=2, shift=4)
LATE = Filter(half_width=1, shift=30)
MEDIAN = Filter(kind="median", half_width=3, shift=2)
POST = [
    (Task.VA, Postprocess(filters=(MEAN, DELAYED))),
    (Task.VA, Postprocess(filters=(LATE,))),
    (Task.EXPR, Postprocess(filters=(MEDIAN,))),
    (Task.EXPR, Postprocess(filters=(Filter(kind="median", half_width=4),))),
    (Task.AU, Postprocess(filters=(DELAYED,), thresholds=(0.3,) * 12)),
]


@pytest.mark.parametrize(("task", "post"), POST)
def test_post_processing_that_looks_back_is_exact_without_a_transformer(task, post):
    bundle = bundle_of(task, post, model__transformer__layers=0)
    frames, features = clip(60)
    told = stream_of(bundle, frames, features, 60)
    np.testing.assert_allclose(told, cut_at(bundle, frames, features, 60), atol=EXACT)
    plain = stream_of(bundle_of(task, model__transformer__layers=0), frames, features, 60)
    assert np.abs(told - plain).max() > 0.01


def test_with_a_transformer_smoothing_takes_frames_as_they_were_told():
    post = Postprocess(filters=(Filter(half_width=2, shift=1),))
    frames, features = clip(50, gaps=0.0)
    told = stream_of(bundle_of(post=post), frames, features, 50)
    plain = stream_of(bundle_of(), frames, features, 50)
    for i in range(50):
        place = max(0, i - 1)
        expected = plain[max(0, place - 2) : min(place + 2, i) + 1].mean(axis=0)
        np.testing.assert_allclose(told[i], expected, atol=1e-6)


@pytest.mark.parametrize("layers", [0, 2])
def test_within_one_segment_it_is_a_batch_that_looks_back(layers):
    """The TCN's whole receptive field, and every position of the Transformer, over 400 frames."""
    bundle = bundle_of(
        segments__window=400,
        segments__stride=300,
        model__tcn__depth=5,
        model__tcn__kernel=4,
        model__transformer__layers=layers,
    )
    features = np.random.default_rng(1).normal(size=(1, 400, DIM)).astype(np.float16)
    x, present = torch.from_numpy(features).float(), torch.ones(1, 400, dtype=torch.bool)
    with torch.inference_mode():
        outputs = bundle.model(x, present, back_only=layers > 0)[Task.VA]
    # From frame 300 on a second segment runs, too.
    expected = activate(Task.VA, outputs)[0, :300].numpy()
    told = stream_of(bundle, np.arange(1, 301), features[0, :300], 300)
    np.testing.assert_allclose(told, expected, atol=EXACT)


def test_persons_who_come_and_go_are_predicted_as_if_alone():
    bundle = bundle_of()
    length, starts = 70, {4: 1, 7: 6, 2: 33}
    clips = {person: clip(length - start + 1, 0.3, person) for person, start in starts.items()}
    stream, told = Stream(bundle), {person: [] for person in starts}
    for frame in range(1, length + 1):
        if frame == 50:
            stream.forget([7, 99])
        seen = {}
        for person, start in starts.items():
            frames, features = clips[person]
            at = np.flatnonzero(frames == frame - start + 1)
            if len(at) and not (person == 7 and frame >= 50):
                seen[person] = features[at[0]]
        for person, values in stream.step(seen).items():
            told[person].append(values)
    assert stream.persons == [4, 2]
    for person, start in starts.items():
        count = (50 if person == 7 else length + 1) - start
        alone = stream_of(bundle, *clips[person], length - start + 1)[:count]
        np.testing.assert_allclose(np.stack(told[person]), alone, atol=EXACT)


def test_who_is_away_for_a_window_begins_anew():
    bundle = bundle_of()
    features = np.random.default_rng(2).normal(size=(40, DIM)).astype(np.float32)
    stream = Stream(bundle)
    held = stream.step({0: features[0]})[0]
    for _ in range(stream.window - 1):
        assert np.array_equal(stream.step({})[0], held)
    assert stream.step({}) == {}
    again = [stream.step({0: row})[0] for row in features]
    alone = stream_of(bundle, np.arange(1, 41), features, 40)
    np.testing.assert_allclose(np.stack(again), alone, atol=EXACT)


@given(st.lists(st.integers(0, 25), min_size=1, max_size=12))
@settings(max_examples=8, deadline=None)
def test_frames_that_nobody_looked_at_are_held(gaps):
    bundle = bundle_of(post=Postprocess(filters=(DELAYED,)))
    rng = np.random.default_rng(3)
    stream, other = Stream(bundle), Stream(bundle)
    feature = None
    for gap in gaps:
        if gap >= stream.window:
            other.forget([0])
        for _ in range(gap if other.persons else 0):
            other.step({0: feature})
        feature = rng.normal(size=DIM)
        told = stream.step({0: feature}, skipped=gap)[0]
        np.testing.assert_allclose(told, other.step({0: feature})[0], atol=EXACT)


def test_segments_that_overlap_many_times_take_no_more_lanes():
    bundle = bundle_of(segments__predict_stride=1)
    assert Stream(bundle).lanes == MOST_LANES
    frames, features = clip(50, gaps=0.0)
    told = stream_of(bundle, frames, features, 50)
    as_said = bundle_of(segments__predict_stride=5)
    np.testing.assert_allclose(told, cut_at(as_said, frames, features, 50), atol=EXACT)


@pytest.mark.parametrize(
    ("filters", "frames"),
    [
        (None, 0),
        ((Filter(half_width=10),), 5),
        ((Filter(half_width=5, shift=8),), 8),
        ((Filter(half_width=0, shift=8), Filter(half_width=20, shift=10)), 11.5),
    ],
)
def test_the_lag_is_the_mean_age_of_the_frames_that_are_taken(filters, frames):
    post = None if filters is None else Postprocess(filters=filters)
    assert Stream(bundle_of(post=post)).lag == frames


def test_nobody_there_has_no_values():
    stream = Stream(bundle_of(Task.EXPR))
    assert stream.step({}, skipped=3) == {}
    assert stream.step({5: np.ones(DIM)})[5].shape == (SPECS[Task.EXPR].outputs,)
