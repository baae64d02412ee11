"""What scores of many models on the same videos are worth: intervals, differences, selection.

All of it follows from the models' sums per video (sums.py): a model's score on any resample of the
videos is exact, and the resamples are the same for all models, so that differences are paired. The
best of many is the luckiest of them, too; what it is worth on videos that chose nothing is
`expected_of_best`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raffect.affwild2.evaluation import CONFIDENCE, RESAMPLES
from raffect.affwild2.tasks import Task

Floats = NDArray[np.float64]

FEWEST_VIDEOS = 4
"""With fewer, scores of resamples say nothing about other videos."""
_REPLAYS = 512
_CONSTANT = 1e-13
"""Of a pooled spread relative to its square sums: below it is rounding."""


@dataclass(frozen=True)
class Differences:
    """Models against the one of index `reference`, on the same resamples.

    Attributes:
        values: `(models,)` score minus the reference's.
        intervals: `(models, 2)`, 95 %.
    """

    reference: int
    values: Floats
    intervals: Floats


@dataclass(frozen=True)
class Selection:
    """What `judge` finds of models; without a reference or a best one there are no differences.

    Attributes:
        intervals: `(models, 2)` of the scores, percentile bootstrap over videos, 95 %.
        probability_best: `(models,)` share of the resamples in which it is the best of the
            candidates; 0 for others.
        expected: Of the best candidate, see `expected_of_best`.
    """

    intervals: Floats
    probability_best: Floats
    expected: float | None
    versus_reference: Differences | None
    versus_best: Differences | None


def judge(
    task: Task,
    sums: Floats,
    candidates: NDArray[np.bool_],
    compared: NDArray[np.bool_],
    reference: int | None = None,
    seed: int = 0,
) -> Selection | None:
    """Judge models by their sums `(models, videos, sums, columns)`; None with too few videos.

    Args:
        candidates: Which may be the best, `(models,)`.
        compared: Those that were trained to the end. `expected` is of the choice among these (and
            the best): the scores of pruned trials differ by their epochs, too.
        reference: Index of the model to compare the others with.
        seed: Of the resamples.
    """
    models, videos = sums.shape[:2]
    if videos < FEWEST_VIDEOS or not models:
        return None
    times = np.random.default_rng(seed).multinomial(
        videos, np.full(videos, 1 / videos), size=RESAMPLES
    )
    resampled = score_models(task, times, sums)
    scores = score_models(task, np.ones((1, videos)), sums)[0]
    best, share, expected = None, np.zeros(models), None
    if candidates.any():
        best = int(np.where(candidates, scores, -np.inf).argmax())
        # Models that are equal on a resample share it.
        among = np.where(candidates, resampled, -np.inf)
        first = among == among.max(axis=1, keepdims=True)
        share = (first / first.sum(axis=1, keepdims=True)).mean(axis=0)
        chosen = compared & candidates
        chosen[best] = True
        expected = expected_of_best(scores[chosen], jackknife(task, sums[chosen]))

    def versus(other: int | None) -> Differences | None:
        if other is None:
            return None
        apart = _interval(resampled - resampled[:, [other]])
        return Differences(other, scores - scores[other], apart)

    return Selection(_interval(resampled), share, expected, versus(reference), versus(best))


def _interval(resampled: Floats) -> Floats:
    tail = (1 - CONFIDENCE) / 2
    return np.quantile(resampled, [tail, 1 - tail], axis=0).T


def score_models(task: Task, times: NDArray[np.generic], sums: Floats) -> Floats:
    """Scores `(resamples, models)` of the videos taken `times` `(resamples, videos)` each.

    The scores of `sums.score_sums` of each model, but for rounding (1e-12): one matrix product for
    all models, of sums around a centre that all have in common. `sums` are
    `(models, videos, sums, columns)`.
    """
    terms = _additive(task, sums)
    pooled = np.tensordot(np.asarray(times, dtype=np.float64), terms, axes=1)
    if task is not Task.VA:
        hits, both = np.moveaxis(pooled, 1, 0)
        return np.asarray((2 * hits / np.where(both > 0, both, 1.0)).mean(axis=-1))
    count, x, y, squares, products = np.moveaxis(pooled, 1, 0)
    mean_x, mean_y = x / count, y / count
    # Variances and the squared distance of the means: the squares of the means cancel.
    spread = squares / count - 2 * mean_x * mean_y
    covariance = products / count - mean_x * mean_y
    constant = spread <= _CONSTANT * (squares / count)
    ccc = np.where(constant, 0.0, 2 * covariance / np.where(constant, 1.0, spread))
    return np.asarray(ccc.mean(axis=-1))


def _additive(task: Task, sums: Floats) -> Floats:
    """What adds up over videos, `(videos, terms, models, columns)`."""
    if task is Task.VA:
        count, x, y, squares_x, squares_y, products = np.moveaxis(sums, 2, 0)
        # Means of the labels, column by column: predictions lie around them, too.
        centre = (count * y).sum(axis=(0, 1)) / count.sum(axis=(0, 1))
        x, y = x - centre, y - centre
        squares = squares_x + squares_y + count * (x * x + y * y)
        terms = [count, count * x, count * y, squares, products + count * x * y]
    elif task is Task.EXPR:
        hits = np.diagonal(sums, axis1=2, axis2=3)
        terms = [hits, sums.sum(axis=2) + sums.sum(axis=3)]
    else:
        terms = [sums[:, :, 0], sums[:, :, 1] + sums[:, :, 2]]
    return np.stack(terms).transpose(2, 0, 1, 3)


def jackknife(task: Task, sums: Floats) -> Floats:
    """Each video's part in the errors of the models' scores, `(videos, models)`.

    Scores without the video, less their mean over videos, scaled so that the products' sums over
    videos are the covariances of the scores (Efron and Stein 1981, "The jackknife estimate of
    variance"). In the benchmark they are right within 10 % for every score, where the bootstrap's
    variance is up to a third too small: a rare expression lies in few of the videos.
    """
    videos = sums.shape[1]
    without = score_models(task, 1.0 - np.eye(videos), sums)
    return np.asarray((without - without.mean(axis=0)) * np.sqrt((videos - 1) / videos))


def expected_of_best(scores: Floats, noise: Floats, seed: int = 0) -> float:
    """What the best of some models is worth on as many new videos, which chose nothing.

    The mean of two estimates. Both take the scores' differences to their mean for true differences
    plus errors with the covariance of the `jackknife`, which includes that models err alike on the
    same videos; the true differences' variance is what the errors leave of the observed one.

    - Shrinkage: the best one's difference, times the share of true variance in it (empirical
      Bayes: Efron and Morris 1975; Efron 2011, "Tweedie's formula and selection bias").
    - Replay: models whose true differences have that variance (the observed ones, shrunk less:
      Louis 1984) are scored with errors drawn anew, and the winner's mean error is taken off. It
      keeps the shape of the differences: beside a tail of bad models shrinkage does too little.

    tests/benchmarks/bench_selection.py compares it with others: the out-of-bag score (BBC-CV:
    Tsamardinos et al. 2018) is too low, as a score pooled over fewer videos lacks their spread,
    and Harrell's optimism is too small.

    Args:
        scores: `(models,)`.
        noise: `(videos, models)`, see `jackknife`.
        seed: Of the errors that are drawn.
    """
    models, best = len(scores), int(scores.argmax())
    if models == 1:
        return float(scores[0])
    apart = scores - scores.mean()
    noise = noise - noise.mean(axis=1, keepdims=True)
    variance = (noise**2).sum(axis=0)
    true = max(0.0, float((apart**2).sum() - variance.sum()) / (models - 1))
    whole = true + variance
    share = true / np.where(whole > 0, whole, 1.0)
    shrunk = scores.mean() + apart[best] * share[best]
    half = np.random.default_rng(seed).standard_normal((_REPLAYS // 2, len(noise)))
    errors = np.concatenate([half, -half]) @ noise
    winners = (apart * np.sqrt(share) + errors).argmax(axis=1)
    optimism = np.take_along_axis(errors, winners[:, None], axis=1).mean()
    return float(min(scores[best], (shrunk + scores[best] - optimism) / 2))
