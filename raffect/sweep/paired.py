"""Models compared video by video: what two scores of the same videos say of each other."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raffect.affwild2.evaluation import CONFIDENCE, RESAMPLES
from raffect.affwild2.sums import VideoSums, score_sums
from raffect.affwild2.tasks import Task
from raffect.store import Files, Store, files_of
from raffect.store.layout import SUMS
from raffect.sweep.records import TrialRow, model_files

Sums = NDArray[np.float64]
"""Of one model's predictions, `(videos, sums, columns)`, see affwild2.sums."""
ScoredVideos = tuple[tuple[str, ...], Sums]
"""Names of videos, and a model's sums of them."""
_READERS = 32
"""Files that are read at a time: a bucket answers one request after 10 to 100 ms."""
_MOST_KEPT = 2048
"""Trials whose sums a process keeps, tens of KB each: a board reads its sweeps again and again."""
_kept: dict[tuple[str, int], ScoredVideos] = {}
_keeping = threading.Lock()


@dataclass(frozen=True)
class Paired:
    """A score less another one of the same videos, and its 95 % interval over these."""

    difference: float
    interval: tuple[float, float]

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.interval[0] > 0 or self.interval[1] < 0


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
    return read_all_sums(store, [row]).get(row.number, (None, None))[1]


def sums_of(store: Store, folder: str | Files, epoch: int) -> Sums | None:
    """The sums of an epoch of a model; None where they were not kept."""
    found = _read(files_of(store, folder), epoch)
    return None if found is None else found[1]


def read_all_sums(store: Store, rows: Sequence[TrialRow]) -> dict[int, ScoredVideos]:
    """By number: the videos of each trial, and their sums at its best epoch.

    Trials that kept none are left out: those without a model, and those of raffect before 0.4.
    """

    found: dict[int, ScoredVideos | None] = {}
    missing = []
    for row in rows:
        listed = {str(entry["name"]).rpartition("/")[2]: entry["sha256"] for entry in row.files}
        if row.model is not None and row.best_epoch is not None and (not listed or SUMS in listed):
            key = (listed.get(SUMS, ""), row.best_epoch)
            with _keeping:
                found[row.number] = known = _kept.get(key)
            if known is None:
                missing.append((row, key))

    def read(row: TrialRow, key: tuple[str, int]) -> None:
        found[row.number] = _keep(key, _read(model_files(store, row), key[1]))

    with ThreadPoolExecutor(_READERS) as pool:
        list(pool.map(lambda one: read(*one), missing))
    return {number: of for number, of in found.items() if of is not None}


def _read(files: Files, epoch: int) -> ScoredVideos | None:
    try:
        sums = files.parse(SUMS, VideoSums.from_bytes)
    except FileNotFoundError:
        return None
    # A copy: the other epochs take a hundred times the memory.
    return (sums.videos, sums.at(epoch).copy()) if epoch in sums.epochs else None


def _keep(key: tuple[str, int], found: ScoredVideos | None) -> ScoredVideos | None:
    if found is not None and key[0]:
        with _keeping:
            _kept[key] = found
            for oldest in list(_kept)[:-_MOST_KEPT]:
                del _kept[oldest]
    return found
