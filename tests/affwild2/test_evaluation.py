import time

import numpy as np
import pytest

from raffect.affwild2.evaluation import bootstrap, evaluate, score_sums, video_sums
from raffect.affwild2.labels import VideoLabels
from raffect.affwild2.predictions import VideoPredictions
from raffect.affwild2.scores import score
from raffect.affwild2.tasks import SPECS, Split, Task
from raffect.errors import DataError


def make(task, lengths=(40, 1, 25, 60, 33), seed=0):
    """Noisy predictions for every line, and labels some of which are invalid."""
    rng = np.random.default_rng(seed)
    spec = SPECS[task]
    predictions, labels = {}, {}
    for i, length in enumerate(lengths):
        if task is Task.VA:
            values = rng.uniform(-1, 1, (length, 2))
            guess = np.clip(values + rng.normal(0.1, 0.4, (length, 2)), -1, 1)
        elif task is Task.EXPR:
            values = rng.choice(7, (length, 1))
            guess = rng.random((length, 8)) + np.eye(8)[values[:, 0]] * 0.5
        else:
            values = rng.random((length, 12)) < np.linspace(0, 0.7, 12)
            guess = np.clip(values + rng.normal(0, 0.5, (length, 12)), 0, 1)
        values = values.astype(np.float32)
        values[1::7] = spec.invalid
        video = f"v{i}"
        labels[video] = VideoLabels(video, Split.VALIDATION, values, spec.valid(values))
        frames = np.arange(1, length + 1, dtype=np.int32)
        predictions[video] = VideoPredictions(video, frames, guess)
    return predictions, labels


def valid_rows(predictions, labels):
    """Predictions and labels of the valid frames, per video."""
    guess = [predictions[v].values[of.valid] for v, of in labels.items()]
    return guess, [of.values[of.valid] for of in labels.values()]


@pytest.mark.parametrize("task", list(Task))
def test_the_score_is_that_of_all_valid_frames_pooled(task):
    predictions, labels = make(task)
    guess, true = valid_rows(predictions, labels)
    result = evaluate(task, predictions, labels)
    expected = score(task, np.concatenate(guess), np.concatenate(true))
    assert (result.score, result.parts) == (expected.value, expected.parts)
    assert result.frames == sum(len(rows) for rows in true)
    assert result.videos == 5
    assert result.interval[0] < result.score < result.interval[1]


def test_frames_in_any_order_and_superfluous_ones_change_nothing():
    predictions, labels = make(Task.VA)
    expected = evaluate(Task.VA, predictions, labels)
    first = predictions["v0"]
    frames = np.append(first.frames, np.int32(9000))[::-1].copy()
    values = np.append(first.values, [[9.0, 9.0]], axis=0)[::-1].copy()
    predictions["v0"] = VideoPredictions("v0", frames, values)
    predictions["other"] = VideoPredictions("other", frames, values)
    assert evaluate(Task.VA, predictions, labels) == expected


def test_missing_frames_are_listed():
    predictions, labels = make(Task.EXPR)
    del predictions["v1"]
    first = predictions["v0"]
    predictions["v0"] = VideoPredictions("v0", first.frames[:-2], first.values[:-2])
    predictions["v2"] = VideoPredictions("v2", first.frames[:0], first.values[:0])
    with pytest.raises(DataError) as caught:
        evaluate(Task.EXPR, predictions, labels)
    missing = 2 + 1 + int(labels["v2"].valid.sum())
    assert f"{missing} valid frames have no prediction" in caught.value.got
    assert "v0/00039.jpg, v0/00040.jpg, v1/00001.jpg, v2/00001.jpg" in caught.value.got
    assert "more" in caught.value.got


def test_a_frame_without_a_valid_label_needs_no_prediction():
    predictions, labels = make(Task.AU)
    expected = evaluate(Task.AU, predictions, labels)
    for video, of in labels.items():
        own = predictions[video]
        predictions[video] = VideoPredictions(video, own.frames[of.valid], own.values[of.valid])
    assert evaluate(Task.AU, predictions, labels) == expected


@pytest.mark.parametrize("labels", [{}, None])
def test_nothing_to_evaluate_against(labels):
    if labels is None:
        values = np.full((3, 2), -5, np.float32)
        labels = {"a": VideoLabels("a", Split.VALIDATION, values, np.zeros(3, bool))}
    with pytest.raises(DataError, match="no valid VA label"):
        evaluate(Task.VA, {}, labels)


@pytest.mark.parametrize("task", list(Task))
def test_the_bootstrap_scores_of_sums_are_those_of_the_frames(task):
    guess, true = valid_rows(*make(task))
    sums = np.stack([video_sums(task, p, y) for p, y in zip(guess, true, strict=True)])
    rng = np.random.default_rng(1)
    for _ in range(20):
        drawn = rng.integers(0, len(sums), len(sums))
        expected = score(
            task,
            np.concatenate([guess[i] for i in drawn]),
            np.concatenate([true[i] for i in drawn]),
        )
        found = score_sums(task, sums[drawn].sum(axis=0).reshape(1, -1))
        assert found[0] == pytest.approx(expected.value, abs=1e-9)


def test_the_interval_follows_the_seed_and_narrows_with_more_videos():
    predictions, labels = make(Task.VA, (30,) * 8)
    few = valid_rows(predictions, labels)
    many = valid_rows(*make(Task.VA, (30,) * 80))
    assert bootstrap(Task.VA, *few, seed=4) == bootstrap(Task.VA, *few, seed=4)
    assert bootstrap(Task.VA, *few, seed=4) != bootstrap(Task.VA, *few, seed=5)
    width = [high - low for low, high in (bootstrap(Task.VA, *few), bootstrap(Task.VA, *many))]
    assert width[1] < 0.6 * width[0]


def test_a_single_video_has_an_interval_without_width():
    predictions, labels = make(Task.EXPR, (30,))
    result = evaluate(Task.EXPR, predictions, labels)
    assert result.interval == pytest.approx((result.score, result.score))


def test_constant_predictions_score_zero_in_every_resample():
    predictions, labels = make(Task.VA)
    constant = {
        video: VideoPredictions(video, of.frames, np.full_like(of.values, 0.1))
        for video, of in predictions.items()
    }
    result = evaluate(Task.VA, constant, labels)
    assert result.score == 0.0
    assert result.interval == pytest.approx((0.0, 0.0), abs=1e-9)


@pytest.mark.parametrize("task", list(Task))
def test_a_validation_split_of_real_size_takes_seconds(task):
    predictions, labels = make(task, (5000,) * 80)
    began = time.perf_counter()
    evaluate(task, predictions, labels)
    assert time.perf_counter() - began < 10
