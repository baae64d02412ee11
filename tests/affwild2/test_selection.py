"""Judging many models by their sums."""

from __future__ import annotations

import numpy as np
import pytest

from raffect.affwild2.evaluation import bootstrap
from raffect.affwild2.scores import score
from raffect.affwild2.selection import (
    FEWEST_VIDEOS,
    expected_of_best,
    jackknife,
    judge,
    score_models,
)
from raffect.affwild2.sums import score_sums, sums_of_videos
from raffect.affwild2.tasks import SPECS, Task
from tests.benchmarks.bench_selection import measure, simulate

VIDEOS, MODELS = 7, 5


def frames_of(task: Task, models: int = MODELS) -> tuple[list[list[np.ndarray]], list[np.ndarray]]:
    """Predictions of some models, better from one to the next, and labels of some videos."""
    rng = np.random.default_rng(4)
    counts = rng.integers(20, 60, VIDEOS)
    outputs = SPECS[task].outputs
    predictions: list[list[np.ndarray]] = [[] for _ in range(models)]
    labels = []
    for count in counts:
        if task is Task.VA:
            true = np.clip(rng.normal(rng.normal(0, 0.4, 2), 0.2, (count, 2)), -1, 1)
            target = true
        elif task is Task.EXPR:
            true = rng.integers(0, outputs, (count, 1))
            target = np.eye(outputs)[true[:, 0]]
        else:
            true = rng.integers(0, 2, (count, outputs))
            target = true.astype(float)
        labels.append(true)
        for model, own in enumerate(predictions):
            noise = rng.normal(0, 0.6 - 0.08 * model, target.shape)
            own.append(target + noise)
    return predictions, labels


@pytest.mark.parametrize("task", Task)
def test_scores_of_models_are_those_of_their_frames(task):
    predictions, labels = frames_of(task)
    sums = np.stack([sums_of_videos(task, own, labels) for own in predictions])
    times = np.random.default_rng(0).multinomial(VIDEOS, np.full(VIDEOS, 1 / VIDEOS), 20)
    found = score_models(task, times, sums)
    for model, own in enumerate(predictions):
        assert found[:, model] == pytest.approx(score_sums(task, times, sums[model]), abs=1e-12)
        for row in range(3):
            taken = np.repeat(np.arange(VIDEOS), times[row])
            whole = score(
                task,
                np.concatenate([own[v] for v in taken]),
                np.concatenate([labels[v] for v in taken]),
            )
            assert found[row, model] == pytest.approx(whole.value, abs=1e-9)


def resamples() -> np.ndarray:
    return np.random.default_rng(0).multinomial(VIDEOS, np.full(VIDEOS, 1 / VIDEOS), 1000)


def test_a_constant_prediction_scores_nothing():
    labels = [np.full((4, 2), 0.1 * v) for v in range(VIDEOS)]
    constant = sums_of_videos(Task.VA, [np.full((4, 2), 0.3)] * VIDEOS, labels)
    same = sums_of_videos(Task.VA, [np.full((4, 2), 0.1)] * VIDEOS, [labels[1]] * VIDEOS)
    ones = np.ones((1, VIDEOS))
    assert score_models(Task.VA, ones, constant[None])[0, 0] == pytest.approx(0, abs=1e-12)
    assert score_models(Task.VA, ones, same[None])[0, 0] == 0


@pytest.mark.parametrize("task", Task)
def test_intervals_and_differences_are_paired(task):
    predictions, labels = frames_of(task)
    sums = np.stack([sums_of_videos(task, own, labels) for own in predictions])
    everyone = np.ones(MODELS, dtype=bool)
    found = judge(task, sums, everyone, everyone, reference=1)
    assert found is not None
    assert found.intervals[0] == pytest.approx(bootstrap(task, predictions[0], labels), abs=1e-9)
    assert found.probability_best.sum() == pytest.approx(1)
    assert found.probability_best.argmax() == MODELS - 1
    versus = found.versus_reference
    assert versus is not None
    assert versus.values[1] == 0
    assert versus.intervals[1].tolist() == [0, 0]
    low, high = versus.intervals[-1]
    assert low < versus.values[-1] < high
    # Independent oracle: the same resamples of two models' frames.
    scores = score_models(task, resamples(), sums)
    gaps = scores[:, -1] - scores[:, 1]
    assert [low, high] == pytest.approx(np.quantile(gaps, [0.025, 0.975]))


def test_only_candidates_may_be_the_best():
    predictions, labels = frames_of(Task.AU)
    sums = np.stack([sums_of_videos(Task.AU, own, labels) for own in predictions])
    candidates = np.array([True, True, False, False, False])
    found = judge(Task.AU, sums, candidates, candidates)
    assert found is not None
    assert found.versus_reference is None
    assert found.versus_best is not None
    assert found.versus_best.reference == 1
    assert found.probability_best[2:].tolist() == [0, 0, 0]
    nobody = judge(Task.AU, sums, np.zeros(MODELS, bool), candidates)
    assert nobody is not None
    assert nobody.expected is None
    assert nobody.probability_best.tolist() == [0] * MODELS


@pytest.mark.parametrize("videos", [1, 2, FEWEST_VIDEOS - 1])
def test_too_few_videos_say_nothing(videos):
    sums = simulate(Task.VA, np.random.default_rng(0), videos, np.zeros(3))
    assert judge(Task.VA, sums, np.ones(3, bool), np.ones(3, bool)) is None


def test_one_model_was_not_chosen():
    sums = simulate(Task.EXPR, np.random.default_rng(0), 10, np.zeros(1))
    found = judge(Task.EXPR, sums, np.ones(1, bool), np.ones(1, bool), reference=0)
    whole = score_models(Task.EXPR, np.ones((1, 10)), sums)[0, 0]
    assert found is not None
    assert found.expected == whole
    assert found.probability_best.tolist() == [1]


def test_equal_models_lose_nothing_by_the_choice():
    one = simulate(Task.AU, np.random.default_rng(0), 10, np.zeros(1))
    sums = np.repeat(one, 3, axis=0)
    found = judge(Task.AU, sums, np.ones(3, bool), np.ones(3, bool))
    assert found is not None
    assert found.expected == pytest.approx(score_models(Task.AU, np.ones((1, 10)), one)[0, 0])
    assert found.probability_best == pytest.approx(np.full(3, 1 / 3))


def test_clear_differences_are_hardly_corrected_and_luck_is():
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.002, (40, 12))
    clear = np.linspace(0.3, 0.6, 12)
    assert expected_of_best(clear, noise) == pytest.approx(0.6, abs=0.003)
    # As far apart as their errors alone put them.
    errors = rng.standard_normal(40) @ noise
    lucky = expected_of_best(0.5 + errors, noise)
    assert lucky == pytest.approx(0.5, abs=0.008)
    assert lucky < 0.5 + errors.max() - 0.008


def test_the_jackknife_is_of_the_scores_without_one_video():
    sums = simulate(Task.VA, np.random.default_rng(1), 6, np.zeros(2))
    rest = score_models(Task.VA, np.ones((1, 5)), sums[:, 1:])[0]
    found = jackknife(Task.VA, sums)
    without = np.stack(
        [score_models(Task.VA, np.ones((1, 5)), np.delete(sums, v, axis=1))[0] for v in range(6)]
    )
    assert without[0] == pytest.approx(rest)
    assert found == pytest.approx((without - without.mean(axis=0)) * np.sqrt(5 / 6))


@pytest.mark.parametrize(("task", "videos"), [(Task.VA, 40), (Task.AU, 76)])
def test_the_expected_score_is_right_where_the_plain_best_is_not(task, videos):
    """A slice of the benchmark's table; seeds are fixed."""
    line = measure(task, videos, trials=30, spread=0.0, replications=30)
    assert line.bias["plain"] > 0.012
    assert abs(line.bias["half"]) < 0.007
    assert line.squared["half"] < 0.8 * line.squared["plain"]
    apart = measure(task, videos, trials=30, spread=0.3, replications=30)
    assert abs(apart.bias["half"]) < 0.007
    assert apart.squared["half"] < 1.1 * apart.squared["plain"]


def test_the_expected_score_by_loops():
    """An oracle without vectors, on the jackknife of sums scored one by one."""
    sums = simulate(Task.EXPR, np.random.default_rng(3), 8, np.linspace(-0.1, 0.1, 4))
    models, videos = sums.shape[:2]
    ones = np.ones((1, videos), dtype=int)
    scores = [score_sums(Task.EXPR, ones, sums[k])[0] for k in range(models)]
    without = np.array(
        [
            [
                score_sums(Task.EXPR, ones[:, 1:], np.delete(sums[k], v, axis=0))[0]
                for k in range(models)
            ]
            for v in range(videos)
        ]
    )
    mean = sum(scores) / models
    parts = [[0.0] * models for _ in range(videos)]
    for v in range(videos):
        for k in range(models):
            own = without[v, k] - without[:, k].mean()
            common = without[v].mean() - without.mean()
            parts[v][k] = (own - common) * ((videos - 1) / videos) ** 0.5
    error = [sum(parts[v][k] ** 2 for v in range(videos)) for k in range(models)]
    true = max(0.0, (sum((s - mean) ** 2 for s in scores) - sum(error)) / (models - 1))
    best = max(range(models), key=lambda k: scores[k])
    share = [true / (true + e) for e in error]
    shrunk = mean + (scores[best] - mean) * share[best]
    half = np.random.default_rng(0).standard_normal((256, videos))
    optimism = []
    for draw in [*half, *-half]:
        errors = [sum(draw[v] * parts[v][k] for v in range(videos)) for k in range(models)]
        replayed = [(scores[k] - mean) * share[k] ** 0.5 + errors[k] for k in range(models)]
        optimism.append(errors[max(range(models), key=lambda k: replayed[k])])
    expected = (shrunk + scores[best] - sum(optimism) / len(optimism)) / 2
    everyone = np.ones(models, dtype=bool)
    found = judge(Task.EXPR, sums, everyone, everyone)
    assert found is not None
    assert true > 0
    assert found.expected == pytest.approx(min(expected, scores[best]), abs=1e-12)
