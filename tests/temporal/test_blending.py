"""One prediction per frame: what a frame more may change, and what a seam may show."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from raffect.affwild2.labels import VideoLabels
from raffect.affwild2.tasks import Split, Task
from raffect.config import SegmentConfig
from raffect.settings import override
from raffect.temporal.blending import make_blend
from raffect.temporal.inference import load_bundle, predict, predict_features, predict_split
from raffect.temporal.model import TemporalModel, activate
from raffect.temporal.segments import index_segments
from raffect.temporal.timelines import build_timelines
from raffect.temporal.train import train
from raffect.temporal.training import Trainer
from tests.temporal.builders import DIM, fill, make_video, small_config, small_videos

WINDOW, STRIDE = 60, 40


def timelines_of(lengths, lines=None):
    """Videos with a crop in every frame, and `lines` annotated ones."""
    rows = np.arange(sum(lengths))
    starts = np.cumsum([0, *lengths])
    crops = {
        str(i): (np.arange(1, n + 1), rows[starts[i] : starts[i] + n])
        for i, n in enumerate(lengths)
        if n
    }
    labels = {
        str(i): VideoLabels(str(i), Split.TRAIN, np.zeros((n, 2), np.float32), np.ones(n, bool))
        for i, n in enumerate(lines or lengths)
    }
    return build_timelines(list(labels), crops, {Task.VA: labels})


@given(
    st.lists(st.integers(1, 70), min_size=1, max_size=4),
    st.integers(4, 30),
    st.booleans(),
    st.data(),
)
def test_every_frame_has_a_weight_that_its_place_alone_decides(lengths, window, ahead, data):
    stride = data.draw(st.integers(1, window))
    timelines = timelines_of(lengths)
    blend = make_blend(timelines, SegmentConfig(window=window, stride=stride), ahead)
    numbers = np.arange(len(blend.segments))
    weights = blend.weights(numbers)
    assert (weights > 0).all()
    assert (weights <= 1).all()
    covered = np.zeros(timelines.frames)
    for start, real, own in zip(blend.segments.start, blend.segments.real, weights, strict=True):
        covered[start : start + real] += own[:real]
    assert (covered > 0).all()
    assert ((blend.settled >= 0) & (blend.settled <= 1)).all()
    # Where looking back counts at all, there are segments that do.
    back = np.zeros(timelines.frames, bool)
    for number in blend.backward:
        start, real = blend.segments.start[number], blend.segments.real[number]
        back[start : start + real] = True
    assert back[blend.settled < 1].all()
    # The frames of the first video do not feel how long it is, nor which other videos there are.
    longer = timelines_of([lengths[0] + 1])
    more = make_blend(longer, SegmentConfig(window=window, stride=stride), ahead)
    count = int((blend.segments.start < lengths[0]).sum())
    assert np.array_equal(more.weights(np.arange(count)), weights[:count])
    assert np.array_equal(more.segments.start[:count], blend.segments.start[:count])


def test_segments_that_hardly_overlap_are_predicted_closer_together():
    blend = make_blend(timelines_of([100]), SegmentConfig(window=20, stride=20), False)
    assert np.diff(blend.segments.start).tolist() == [15] * 6


@pytest.mark.parametrize("kind", ["crossfade", "mean"])
@pytest.mark.parametrize("own", [1, 7, 20])
def test_prediction_may_have_a_stride_of_its_own(kind, own):
    config = SegmentConfig(window=20, stride=10, blend=kind, predict_stride=own)
    blend = make_blend(timelines_of([121]), config, True)
    assert set(np.diff(blend.segments.start)[:-1]) == {own}
    timelines = timelines_of([121])
    assert np.diff(index_segments(timelines, config).start)[0] == 10
    covered = np.zeros(121)
    numbers = np.arange(len(blend.segments))
    segments = zip(blend.segments.start, blend.segments.real, blend.weights(numbers), strict=True)
    for start, real, weights in segments:
        covered[start : start + real] += weights[:real]
    assert (covered > 0).all()


def small_model(task, **changes):
    config = small_config(task, segments__window=WINDOW, segments__stride=STRIDE, **changes)
    torch.manual_seed(0)
    return config, TemporalModel(config, DIM).eval()


def random_features(frames):
    return np.random.default_rng(1).normal(size=(frames, DIM)).astype(np.float16)


def test_a_constant_model_predicts_its_constant():
    config, model = small_model(Task.VA)
    with torch.no_grad():
        for value in model.heads["va"][-1].parameters():
            value.zero_()
        model.heads["va"][-1].bias.copy_(torch.tensor([0.25, -0.5]))
    found = predict(model, config, random_features(97), timelines_of([70, 3, 24], [71, 30, 24]))
    assert [len(own) for own in found] == [71, 30, 24]
    np.testing.assert_array_equal(np.concatenate(found), [[0.25, -0.5]] * 125)


def test_one_segment_of_a_model_that_looks_back_is_its_output():
    config, model = small_model(Task.AU, model__transformer__layers=0)
    features = random_features(9)
    x = torch.from_numpy(features).float()[None]
    with torch.inference_mode():
        plain = activate(Task.AU, model(x, torch.ones(1, 9, dtype=torch.bool))[Task.AU])[0]
    timelines = timelines_of([9])
    np.testing.assert_allclose(predict(model, config, features, timelines)[0], plain, atol=1e-6)


@pytest.mark.parametrize("layers", [1, 2])
def test_looking_back_only_is_what_a_video_that_ends_there_shows(layers):
    """With one layer to the bit of float32; with several no frame behind can be felt, either."""
    _, model = small_model(Task.VA, model__transformer__layers=layers)
    x = torch.from_numpy(random_features(12)).float()[None]
    present = torch.ones(1, 12, dtype=torch.bool)
    with torch.inference_mode():
        back = model(x, present, None, True)[Task.VA]
        for end in (1, 5, 11):
            cut = model(x[:, :end], present[:, :end], None, layers > 1)[Task.VA]
            torch.testing.assert_close(back[:, end - 1], cut[:, -1], atol=1e-5, rtol=0)


def appended(predict_first, lengths):
    """The largest changes by a frame more, before the last segment and in it."""
    outside = inside = 0.0
    for length in lengths:
        change = np.abs(predict_first(length + 1)[:length] - predict_first(length)).max(axis=1)
        cut = max(0, length - WINDOW)
        outside = max(outside, change[:cut].max(initial=0.0))
        inside = max(inside, change[cut:].max())
    return outside, inside


LENGTHS = (20, 39, 40, 41, 58, 59, 60, 61, 79, 80, 81, 99, 100, 101, 119, 120, 139, 140)
"""Around the window, and where a segment more begins or the last one is just whole."""


@pytest.mark.parametrize("layers", [0, 1, 3])
@pytest.mark.parametrize("task", list(Task))
def test_a_frame_more_changes_no_prediction_before_the_last_segment(task, layers):
    config, model = small_model(task, model__transformer__layers=layers)
    features = random_features(150)

    def first(length):
        return predict(model, config, features[:length], timelines_of([length]))[0]

    outside, inside = appended(first, LENGTHS)
    assert outside <= 1e-6
    assert inside < (0.01 if layers else 1e-6)


def trained(task_data, task, positions):
    """A trained model, its settings, and features of new videos of its kind."""
    config = small_config(
        task,
        segments__window=WINDOW,
        segments__stride=STRIDE,
        optimiser__epochs=6,
        model__transformer__positions=positions,
    )
    trainer = Trainer(config, task_data(task))
    while not trainer.done:
        trainer.run_epoch()
    videos = (make_video("new", Split.VALIDATION, 450, seed).features for seed in range(30))
    return trainer.model, config, [features.astype(np.float16) for features in videos]


@pytest.mark.parametrize("task", list(Task))
def test_a_frame_more_hardly_moves_what_a_trained_model_predicts(task_data, task):
    """Where segments slide with the end and count evenly, it is ten times as much."""
    model, config, (features, *_) = trained(task_data, task, "sinusoidal")

    def first(length, blend="crossfade"):
        chosen = override(config, {"segments.blend": blend})
        return predict(model, chosen, features[:length], timelines_of([length]))[0]

    outside, inside = appended(first, LENGTHS)
    assert outside <= 1e-6
    assert inside < 0.01
    assert appended(lambda length: first(length, "mean"), LENGTHS)[1] > 0.02


@pytest.mark.parametrize("task", list(Task))
def test_a_seam_is_no_step(task_data, task):
    """Neighbouring frames where a segment begins or ends differ by as much as elsewhere.

    Averaged evenly it is a quarter more. (A model with positions changes with the place in the
    segment, seams or not.)
    """
    model, config, videos = trained(task_data, task, "none")
    seams, others = [], []
    for features in videos:
        found = predict(model, config, features, timelines_of([len(features)]))[0]
        steps = np.abs(np.diff(found, axis=0)).mean(axis=1)
        starts = np.arange(STRIDE, len(found) - WINDOW, STRIDE)
        at = np.zeros(len(steps), bool)
        at[starts - 1] = at[starts + WINDOW - STRIDE - 1] = True
        seams.append(steps[at])
        others.append(steps[~at])
    ratio = np.concatenate(seams).mean() / np.concatenate(others).mean()
    assert 0.9 < ratio < 1.1


@pytest.mark.parametrize("task", list(Task))
def test_crops_alone_decide_whatever_the_annotation_has(store, task):
    """A folder of crops ends with its last one; annotations mostly have more lines."""
    videos = small_videos()
    fill(store, videos)
    train(store, small_config(task), "clip", "m")
    bundle = load_bundle(store, "models/m")
    expected = {p.video: p.values for p in predict_split(store, bundle, Split.VALIDATION)}
    for video in videos:
        if video.name in expected:
            last = int(video.frames.max())
            values = expected[video.name]
            assert len(values) > last
            found = predict_features(bundle, video.features, video.frames, last)
            np.testing.assert_allclose(found, values[:last], atol=1e-6)
            assert (values[last:] == values[last - 1]).all()
            longer = predict_features(bundle, video.features, video.frames, last + 30)
            np.testing.assert_allclose(longer[:last], found, atol=1e-6)


def test_frames_behind_the_last_crop_are_not_trained_on():
    timelines = timelines_of([5, 0, 3], [8, 4, 2])
    assert timelines.lengths.tolist() == [8, 4, 3]
    assert timelines.seen.tolist() == [5, 4, 3]
    assert len(timelines.trained_labels()[Task.VA].valid) == 12
