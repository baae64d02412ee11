"""The numbers of an ablation's table against plain NumPy, and how it is written."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import f1_score

from raffect.affwild2.evaluation import RESAMPLES
from raffect.affwild2.sums import VideoSums, sums_of_videos
from raffect.affwild2.tasks import Task
from raffect.store import Store
from raffect.store.layout import SUMS, trial_folder
from raffect.sweep.ablation import Variant
from raffect.sweep.ablation_table import AblationRow, tabulate
from raffect.sweep.paired import paired_interval
from raffect.sweep.records import TrialRow
from tests.report.views import row, view
from tests.sweep import tiny

Videos = list[NDArray[Any]]


def made_up(task: Task, noise: float, seed: int) -> tuple[Videos, Videos]:
    """Predictions and labels of five videos; the labels are the same for every seed."""
    rng, own = np.random.default_rng(0), np.random.default_rng(seed)
    labels, predictions = [], []
    for frames in (20, 35, 50, 8, 27):
        latent = np.tanh(np.cumsum(rng.normal(0, 0.3, (frames, 2)), axis=0))
        noisy = latent + own.normal(0, noise, latent.shape)
        if task is Task.VA:
            labels.append(latent)
            predictions.append(noisy)
        elif task is Task.EXPR:
            labels.append(classes(latent))
            predictions.append(np.eye(8)[classes(noisy)[:, 0]])
        else:
            labels.append((latent[:, :1] > np.linspace(-0.5, 0.5, 12)).astype(float))
            predictions.append((noisy[:, :1] > np.linspace(-0.5, 0.5, 12)).astype(float))
    return predictions, labels


def classes(latent: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.digitize(latent[:, :1], np.linspace(-0.9, 0.9, 7))


def plain_score(task: Task, x: NDArray[Any], y: NDArray[Any]) -> float:
    if task is Task.VA:
        gaps = (x.mean(0) - y.mean(0)) ** 2
        covariance = ((x - x.mean(0)) * (y - y.mean(0))).mean(0)
        return float((2 * covariance / (x.var(0) + y.var(0) + gaps)).mean())
    more = {"average": "macro", "zero_division": 0}
    if task is Task.EXPR:
        return float(f1_score(y[:, 0], x.argmax(1), labels=range(8), **more))
    return float(np.mean([f1_score(y[:, k], x[:, k], zero_division=0) for k in range(12)]))


@pytest.mark.parametrize("task", Task)
@pytest.mark.slow
def test_the_paired_interval_is_that_of_frames_pooled_resample_by_resample(task: Task):
    ours = [made_up(task, 0.3, seed) for seed in (1, 2)]
    theirs = [made_up(task, 0.2, seed) for seed in (3, 4)]
    sums = [
        (sums_of_videos(task, *a), sums_of_videos(task, *b))
        for a, b in zip(ours, theirs, strict=True)
    ]
    resamples = 60
    times = np.random.default_rng(7).multinomial(5, np.full(5, 0.2), size=resamples)
    expected = []
    for taken in times:
        chosen = np.repeat(np.arange(5), taken)

        def score_of(pair: tuple[Videos, Videos], chosen: NDArray[Any] = chosen) -> float:
            x, y = (np.concatenate([of[video] for video in chosen]) for of in pair)
            return plain_score(task, x, y)

        gaps = [score_of(a) - score_of(b) for a, b in zip(ours, theirs, strict=True)]
        expected.append(np.mean(gaps))
    found = paired_interval(task, sums, seed=7, resamples=resamples)
    assert found == pytest.approx(np.quantile(expected, [0.025, 0.975]), abs=1e-9)


def test_pairing_is_narrower_than_two_intervals_and_a_model_is_as_good_as_itself():
    a = sums_of_videos(Task.VA, *made_up(Task.VA, 0.3, 1))
    b = sums_of_videos(Task.VA, *made_up(Task.VA, 0.2, 2))
    assert paired_interval(Task.VA, [(a, a)]) == (0.0, 0.0)
    low, high = paired_interval(Task.VA, [(a, b)])
    assert paired_interval(Task.VA, [(b, a)]) == pytest.approx((-high, -low))
    assert RESAMPLES == 1000


def trial(
    store: Store, number: int, variant: Variant, seed: int, noise: float, **more: Any
) -> TrialRow:
    """A trial with sums in the store, whose score is theirs."""
    attributes = variant.attributes(tiny.base(), seed)
    if more:
        return row(number, attributes=attributes, **more)
    predictions, labels = made_up(Task.VA, noise, 10 + number)
    values = sums_of_videos(Task.VA, predictions, labels)
    names = tuple(f"v{i}" for i in range(5))
    kept = VideoSums(Task.VA, names, (1, 2), np.stack([values * 0, values]))
    store.write_bytes(f"{trial_folder('s', number)}/{SUMS}", kept.to_bytes())
    score = plain_score(Task.VA, np.concatenate(predictions), np.concatenate(labels))
    return row(number, scores=[0.0, score, 0.0], attributes=attributes)


def test_the_table_pairs_the_seeds_that_both_have(store: Store):
    full, tcn = Variant("full"), Variant("without TCN", {"model.tcn.depth": 0})
    gone = Variant("segments.window=8", {"segments.window": 8})
    rows = [
        trial(store, 0, full, 0, 0.1),
        trial(store, 1, tcn, 0, 0.3),
        trial(store, 2, gone, 0, 0, state="FAIL", reason="nan: the loss"),
        trial(store, 3, full, 1, 0.1),
        trial(store, 4, tcn, 1, 0, state="FAIL", reason="nan: the loss"),
        trial(store, 5, gone, 1, 0, state="RUNNING"),
    ]
    table = tabulate(store, view(rows))
    assert [one.name for one in table] == ["full", "without TCN", "segments.window=8"]
    assert table[0].scores == (rows[0].score, rows[3].score)
    assert table[0].mean == pytest.approx((rows[0].score + rows[3].score) / 2)
    assert table[0].spread == pytest.approx(abs(rows[0].score - rows[3].score) / 2**0.5)
    assert table[1].scores == (rows[1].score, None)
    assert table[1].spread is None
    assert table[1].difference == pytest.approx(rows[1].score - rows[0].score)
    sums = [
        VideoSums.from_bytes(store.read_bytes(f"{trial_folder('s', n)}/{SUMS}")).at(2)
        for n in (1, 0)
    ]
    assert table[1].interval == paired_interval(Task.VA, [(sums[0], sums[1])])
    assert table[2].scores == (None, None)
    assert (table[2].mean, table[2].difference, table[2].interval) == (None, None, None)
    assert table[2].reason == "nan: the loss"
    assert table[2].to_json() == {
        "name": "segments.window=8",
        "without": {"segments.window": 8},
        "scores": [None, None],
        "mean": None,
        "spread": None,
        "difference": None,
        "interval": None,
    }
    # Trials that kept no sums have a difference and no interval.
    store.delete("sweeps/s")
    bare = tabulate(store, view(rows))
    assert (bare[1].difference, bare[1].interval) == (table[1].difference, None)
    assert tabulate(store, view([])) == []


ROWS = [
    AblationRow("full", {}, (0, 1), (0.58, 0.59), parameters=12),
    AblationRow(
        "without losses.mse_share", {"losses.mse_share": 0.0}, (0, 1), (0.5, None), -0.08,
        (-0.1, 0.0123), 12,
    ),
    AblationRow("x & y", {"a": "b"}, (0, 1), (None, None)),
]  # fmt: skip


def test_the_json_of_a_row_is_a_contract():
    found = ROWS[0].to_json()
    assert list(found) == [
        "name", "without", "scores", "mean", "spread", "difference", "interval",
    ]  # fmt: skip
    assert found["mean"] == pytest.approx(0.585)
    assert ROWS[1].to_json()["interval"] == [-0.1, 0.0123]
