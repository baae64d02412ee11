"""Models compared video by video: what two scores of the same videos say of each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raffect.affwild2.evaluation import CONFIDENCE, RESAMPLES
from raffect.affwild2.sums import VideoSums, score_sums
from raffect.affwild2.tasks import Task
from raffect.store import Store
from raffect.store.layout import SUMS
from raffect.sweep.leaderboard import model_folder_of
from raffect.sweep.records import TrialRow

Sums = NDArray[np.float64]
"""Of one model's predictions, `(videos, sums, columns)`, see affwild2.sums."""


@dataclass(frozen=True)
class Paired:
    """A score less another one of the same videos, and its 95 % interval over these."""

    difference: float
    interval: tuple[float, float]


def paired_interval(
    task: Task, pairs: Sequence[tuple[Sums, Sums]], seed: int = 0, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """95 % interval of the mean over pairs of models of the first one's score less the second's.

    A percentile bootstrap over videos. All models are scored on the same resamples: most of what
    a resample does to a score it does to both of a pair, and cancels.

    Args:
        pairs: Sums of the same videos in the same order.
    """
    videos = len(pairs[0][0])
    share = np.full(videos, 1 / videos)
    times = np.random.default_rng(seed).multinomial(videos, share, size=resamples)
    scores: dict[int, NDArray[np.float64]] = {}
    for one in (one for pair in pairs for one in pair):
        if id(one) not in scores:
            scores[id(one)] = score_sums(task, times, one)
    apart = np.mean([scores[id(ours)] - scores[id(theirs)] for ours, theirs in pairs], axis=0)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(apart, [tail, 1 - tail])
    return float(low), float(high)


def read_sums(store: Store, row: TrialRow) -> Sums | None:
    """The sums of a trial's best epoch; None of a trial that left none, e.g. one of before 0.4."""
    if row.model is None or row.best_epoch is None:
        return None
    return sums_of(store, model_folder_of(row), row.best_epoch)


def sums_of(store: Store, folder: str, epoch: int) -> Sums | None:
    """The sums of an epoch of a model or a trial; None where they were not kept."""
    try:
        return VideoSums.from_bytes(store.read_bytes(f"{folder}/{SUMS}")).at(epoch)
    except FileNotFoundError:
        return None
