import numpy as np
import pytest

from raffect.affwild2.scores import score
from raffect.affwild2.sums import VideoSums, score_sums, sums_of_videos
from raffect.affwild2.tasks import SPECS, Task


def make(task, videos=7, seed=0):
    """Predictions and labels of valid frames, of videos of different lengths."""
    rng = np.random.default_rng(seed)
    guess, true = [], []
    for frames in rng.integers(3, 60, videos):
        if task is Task.VA:
            true.append(rng.uniform(-1, 1, (frames, 2)).astype(np.float32))
            guess.append(0.6 * true[-1] + rng.normal(0, 0.2, (frames, 2)))
        elif task is Task.EXPR:
            true.append(rng.integers(0, 5, (frames, 1)).astype(np.float32))
            guess.append(np.eye(8)[true[-1][:, 0].astype(int)] + rng.normal(0, 0.7, (frames, 8)))
        else:
            true.append(rng.integers(0, 2, (frames, 12)).astype(np.float32))
            guess.append(np.clip(true[-1] + rng.normal(0, 0.5, (frames, 12)), 0, 1))
    return guess, true


def check_resamples(task, guess, true):
    """The scores of sums must be those of the frames of the videos that were drawn."""
    sums = sums_of_videos(task, guess, true)
    rng = np.random.default_rng(1)
    for _ in range(20):
        drawn = rng.integers(0, len(sums), len(sums))
        frames = (np.concatenate([of[i] for i in drawn]) for of in (guess, true))
        found = score_sums(task, np.bincount(drawn, minlength=len(sums))[None], sums)
        assert found[0] == pytest.approx(score(task, *frames).value, abs=1e-9)


@pytest.mark.parametrize("task", list(Task))
def test_the_scores_of_sums_are_those_of_the_frames(task):
    check_resamples(task, *make(task))


@pytest.mark.parametrize("spread", [1e-3, 1e-6])
def test_sums_keep_the_digits_of_values_that_lie_close_together(spread):
    near = [[0.7 + spread * of.astype(float) for of in values] for values in make(Task.VA)]
    check_resamples(Task.VA, *near)


def test_the_sums_of_expressions_are_confusion_counts():
    guess = np.eye(8)[[0, 3, 3]]
    (sums,) = sums_of_videos(Task.EXPR, [guess], [np.array([[0.0], [3.0], [5.0]])])
    expected = np.zeros((8, 8))
    expected[0, 0] = expected[3, 3] = expected[5, 3] = 1
    assert np.array_equal(sums, expected)


@pytest.mark.parametrize("task", list(Task))
def test_sums_come_back_from_their_file_to_the_bit(task):
    values = np.stack([sums_of_videos(task, *make(task, seed=seed)) for seed in (1, 2)])
    kept = VideoSums(task, tuple(f"{n}_löft" for n in range(7)), (1, 12), values)
    found = VideoSums.from_bytes(kept.to_bytes())
    assert (found.task, found.videos, found.epochs) == (task, kept.videos, (1, 12))
    assert np.array_equal(found.at(12), values[1])
    assert found.values.dtype == np.float64
    assert found.values.shape[-1] == SPECS[task].outputs
    with pytest.raises(ValueError, match="not in tuple"):
        found.at(2)
