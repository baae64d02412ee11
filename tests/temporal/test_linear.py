"""The linear floor against scikit-learn's Ridge, windows and thresholds in plain loops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from raffect.affwild2.scores import binary_f1, score
from raffect.affwild2.tasks import Split, Task
from raffect.errors import DataError
from raffect.store import Store
from raffect.temporal import linear
from raffect.temporal.data import TaskData, load_task_data
from raffect.temporal.linear import ALPHAS, HALF_WIDTHS, LinearFit, group_videos, linear_floor
from raffect.temporal.timelines import NO_ROW, Timelines
from tests.temporal.builders import fill, make_video, small_videos


def frames_of(data: TaskData, timelines: Timelines, half: int, every: int = 1):
    """Video, window mean and label of every so many-th valid frame of each video."""
    labels, found = timelines.labels[data.task], []
    for i, video in enumerate(timelines.videos):
        start, stop = timelines.offsets[i], timelines.offsets[i + 1]
        rows = [
            np.zeros(data.features.shape[1]) if row == NO_ROW else data.features[row]
            for row in timelines.row[start:stop]
        ]
        valid = [t for t in range(stop - start) if labels.valid[start + t]]
        for t in valid[::every]:
            near = rows[max(0, t - half) : t + half + 1]
            found.append(
                (video, np.mean(near, axis=0, dtype=np.float64), labels.values[start + t])
            )
    videos, x, y = zip(*found, strict=True)
    return np.array(videos), np.stack(x), np.stack(y)


def fit(task: Task, x, y, alpha: float, counts) -> Ridge:
    centred = x - np.average(x, axis=0, weights=weights_of(task, y, counts))
    squares = (weights_of(task, y, counts)[:, None] * centred**2).sum(axis=0)
    target = np.eye(8)[y[:, 0].astype(int)] if task is Task.EXPR else y.astype(np.float64)
    ridge = Ridge(alpha=alpha * squares.mean(), solver="svd")
    return ridge.fit(x, target, sample_weight=weights_of(task, y, counts))


def weights_of(task: Task, y, counts):
    if task is not Task.EXPR:
        return np.ones(len(y))
    return np.array([np.sqrt(counts.mean() / counts[int(label)]) for label in y[:, 0]])


def thresholds_of(p, y):
    """Of all predictions of a unit the one with the largest F1, the largest of equals."""
    tried = [sorted(set(column), reverse=True) for column in p.T]
    return [
        max(of, key=lambda t, i=i: binary_f1((p[:, i : i + 1] >= t) * 1.0, y[:, i : i + 1])[0])
        for i, of in enumerate(tried)
    ]


def judged(task: Task, p, y, thresholds=None) -> float:
    if task is Task.AU:
        p = (p >= (thresholds_of(p, y) if thresholds is None else thresholds)) * 1.0
    return score(task, p.clip(-1, 1) if task is Task.VA else p, y).value


@pytest.mark.parametrize("task", list(Task))
@pytest.mark.parametrize("most", [10**6, 100])
@pytest.mark.slow
def test_the_floor_is_that_of_scikit_learn(
    task: Task,
    most: int,
    task_data: Callable[..., TaskData],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(linear, "MOST_FRAMES", most)
    data = task_data(task)
    found = linear_floor(data)
    groups = group_videos(data)
    known = data.train.labels[task].values[data.train.labels[task].valid]
    every = -(-len(known) // most)
    counts = np.bincount(known[:, 0].astype(int).clip(0), minlength=8)
    tried = {}
    for half in HALF_WIDTHS:
        videos, x, y = frames_of(data, data.train, half, every)
        of = np.array([groups[video] for video in videos])
        for alpha in ALPHAS:
            p = np.empty((len(y), len(score(task, *perfect(task, y)).parts)))
            for group in set(of):
                own = of == group
                p[own] = fit(task, x[~own], y[~own], alpha, counts).predict(x[own])
            tried[half, alpha] = judged(task, p, y), p
    best = max(tried, key=lambda key: tried[key][0])
    assert (found.half_width, found.alpha) == best
    _, x, y = frames_of(data, data.train, best[0], every)
    _, x_new, y_new = frames_of(data, data.validation, best[0])
    p = fit(task, x, y, best[1], counts).predict(x_new)
    units = thresholds_of(tried[best][1], y) if task is Task.AU else None
    assert found.score.value == pytest.approx(judged(task, p, y_new, units), abs=1e-9)


def perfect(task: Task, y):
    return (np.eye(8)[y[:, 0].astype(int)] if task is Task.EXPR else y), y


@pytest.fixture
def va(task_data: Callable[..., TaskData]) -> TaskData:
    return task_data(Task.VA)


def same(a: LinearFit, b: LinearFit) -> bool:
    return bool(np.isclose(a.score.value, b.score.value, rtol=0, atol=1e-9))


def test_the_scale_of_features_changes_nothing_nor_that_of_one_of_two_sets(va: TaskData) -> None:
    assert same(linear_floor(replace(va, features=va.features * np.float16(64))), linear_floor(va))
    two = replace(va, dims=(5, 7))
    scale = np.repeat([1.0, 1024.0], two.dims)
    assert same(linear_floor(replace(two, features=two.features * scale)), linear_floor(two))
    assert not same(linear_floor(replace(va, features=va.features * scale)), linear_floor(va))


def test_features_too_wide_for_it_are_refused_at_once(va: TaskData) -> None:
    with pytest.raises(DataError, match="3,001 features"):
        linear_floor(replace(va, dims=(1, 3_000)))


def test_constant_features_predict_the_mean(va: TaskData) -> None:
    constant = replace(va, features=np.ones_like(va.features))
    assert abs(linear_floor(constant).score.value) < 1e-6


def test_both_subjects_of_a_video_are_in_one_group_and_validation_chooses_nothing(
    store: Store,
) -> None:
    pairs = [
        make_video(f"t{i}{side}", Split.TRAIN, 40 + i, 9 * i)
        for i in range(6)
        for side in ("_left", "_right")
    ]
    fill(store, [*pairs, make_video("v", Split.VALIDATION, 50, 1)])
    data = load_task_data(store, "clip", Task.VA)
    groups = group_videos(data)
    assert set(groups.values()) == {0, 1, 2, 3}
    assert all(groups[f"t{i}_left"] == groups[f"t{i}_right"] for i in range(6))
    labels = data.validation.labels[Task.VA]
    turned = {Task.VA: replace(labels, values=-labels.values)}
    other = linear_floor(replace(data, validation=replace(data.validation, labels=turned)))
    found = linear_floor(data)
    assert (other.half_width, other.alpha) == (found.half_width, found.alpha)


def test_a_single_training_video_and_one_without_a_crop(store: Store) -> None:
    bare = make_video("bare", Split.VALIDATION, 30, 2)
    bare = replace(bare, frames=bare.frames[:0], features=bare.features[:0])
    fill(store, [make_video("only", Split.TRAIN, 80, 3), bare, small_videos()[-1]])
    found = linear_floor(load_task_data(store, "clip", Task.AU))
    assert 0 < found.score.value < 1
