"""What the best of many trials is worth on new videos, by several estimators, where it is known.

    python -m tests.benchmarks.bench_selection [--replications N]

Simulated sums of videos: each video has labels of its own and its own difficulty, at which all
trials fail alike; each trial errs on each video in its own way, besides. A trial's quality is the
size of its own errors, exp(spread * normal); at spread 0 all trials are equal. The true worth of a
quality is its mean score over as many new videos. Printed are each estimator's bias in thousandths
and, below it, its mean squared error relative to that of the plain best score:

- plain: the best score as it is.
- out-of-bag: BBC-CV (Tsamardinos et al. 2018), each resample's winner on the videos left out.
- optimism: Harrell's, of each resample's winner; paired: of the differences to the mean trial.
- shrinkage, replay: the two halves of raffect's estimator `half`, see selection.expected_of_best.

`tail` are sweeps in which a third of the trials is much worse; `halving` those in which the better
third of trials went on from a first comparison (and their errors with them).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.polynomial import Polynomial
from numpy.typing import NDArray

from raffect.affwild2.selection import expected_of_best, jackknife, score_models
from raffect.affwild2.tasks import Task

Floats = NDArray[np.float64]

_RESAMPLES = 200
_CLASSES = np.array([0.29, 0.03, 0.02, 0.03, 0.15, 0.12, 0.05, 0.31])
_RATES = np.array(
    [0.118, 0.05, 0.154, 0.266, 0.397, 0.344, 0.245, 0.028, 0.031, 0.026, 0.627, 0.074]
)
_QUALITIES = np.linspace(-1.6, 1.6, 17)
_TRUTHS = {Task.VA: 1000, Task.EXPR: 300, Task.AU: 300}
"""Sets of new videos over which the true worth is averaged."""


def simulate(task: Task, rng: np.random.Generator, videos: int, quality: Floats) -> Floats:
    """Sums `(trials, videos, sums, columns)` of trials whose own errors are exp(quality)."""
    frames = np.exp(rng.normal(8.3, 0.7, (videos, 1)))
    size = np.exp(quality)[:, None, None]
    trials = len(quality)
    if task is Task.VA:
        shape = (trials, videos, 2)
        true, within = (
            rng.normal(0, 0.25, (videos, 2)),
            0.2 * np.exp(rng.normal(0, 0.3, (videos, 2))),
        )
        shared = 0.2 * np.exp(rng.normal(0, 0.3, (videos, 2)))
        means = true + rng.normal(0, 0.15, (videos, 2)) + size * rng.normal(0, 0.12, shape)
        own = size * 0.22 * np.exp(rng.normal(0, 0.2, shape))
        alike = np.tanh(rng.normal(0, 0.25, (videos, 2)) + rng.normal(0, 0.25, shape))
        covariance = within**2 + alike * within * own
        variance = within**2 + shared**2 + own**2 + 2 * alike * within * own
        parts = [1.0, means, true, frames * variance, frames * within**2, frames * covariance]
        sums = np.stack([np.broadcast_to(part, shape) for part in parts], axis=2)
        sums[:, :, 0] = frames
        return sums
    if task is Task.EXPR:
        shape = (trials, videos, 8, 8)
        counts = frames * rng.dirichlet(2 * _CLASSES, videos)
        logits = 0.5 * np.log(_CLASSES) + rng.normal(0, 0.7, (videos, 8, 8))
        logits = logits + size[..., None] * rng.normal(0, 0.7, shape)
        logits += np.eye(8) * (2.2 - 0.8 * quality[:, None, None, None])
        chosen = np.exp(logits)
        return counts[:, :, None] * chosen / chosen.sum(axis=-1, keepdims=True)
    shape = (trials, videos, 12)
    worse = 0.6 * quality[:, None, None]
    positive = frames / (1 + np.exp(np.log(1 / _RATES - 1) - rng.normal(0, 1.2, (videos, 12))))

    def rate(base: float, by: Floats) -> Floats:
        error = rng.normal(0, 0.7, (videos, 12)) + size * rng.normal(0, 0.9, shape)
        return np.asarray(1 / (1 + np.exp(-base - error - by)))

    hits = positive * rate(0.4, -worse)
    predicted = hits + (frames - positive) * rate(-2.2, worse)
    return np.stack([hits, predicted, np.broadcast_to(positive, shape)], axis=2)


def scores_of(task: Task, sums: Floats) -> Floats:
    """Scores of the trials on all of their videos."""
    return score_models(task, np.ones((1, sums.shape[1])), sums)[0]


@cache
def worth(task: Task, videos: int) -> Polynomial:
    """The mean score of a quality over sets of so many videos."""
    rng = np.random.default_rng(1)
    found = np.zeros(len(_QUALITIES))
    for _ in range(_TRUTHS[task]):
        found += scores_of(task, simulate(task, rng, videos, _QUALITIES))
    # Of degree 9: one of degree 5 is off by .003, as much as the biases that are looked for.
    return Polynomial.fit(_QUALITIES, found / _TRUTHS[task], 9)


def estimate(task: Task, sums: Floats, rng: np.random.Generator) -> dict[str, float]:
    """All estimators on one sweep."""
    videos = sums.shape[1]
    scores = scores_of(task, sums)
    best, plain = int(scores.argmax()), float(scores.max())
    times = rng.multinomial(videos, np.full(videos, 1 / videos), _RESAMPLES)
    resampled = score_models(task, times, sums)
    winners, rows = resampled.argmax(axis=1), np.arange(_RESAMPLES)
    left_out = times == 0
    some = left_out.any(axis=1)
    out_of_bag = score_models(task, left_out[some], sums)[np.arange(some.sum()), winners[some]]
    optimism = (resampled[rows, winners] - scores[winners]).mean()
    common = (resampled.mean(axis=1) - scores.mean()).mean()
    noise = jackknife(task, sums)
    half = expected_of_best(scores, noise)
    shrunk = _shrunk(scores, noise, best)
    return {
        "plain": plain,
        "out-of-bag": float(out_of_bag.mean()),
        "optimism": plain - float(optimism),
        "paired": plain - float(optimism - common),
        "shrinkage": shrunk,
        "replay": 2 * half - shrunk,
        "half": half,
    }


def _shrunk(scores: Floats, noise: Floats, best: int) -> float:
    apart = scores - scores.mean()
    errors = ((noise - noise.mean(axis=1, keepdims=True)) ** 2).sum(axis=0)
    true = max(0.0, float((apart**2).sum() - errors.sum()) / (len(scores) - 1))
    return float(scores.mean() + apart[best] * true / (true + errors[best]))


def even(rng: np.random.Generator, trials: int, spread: float) -> Floats:
    """Qualities of trials that were drawn from one distribution."""
    return np.clip(rng.normal(0, spread, trials), _QUALITIES[0], _QUALITIES[-1])


def tail(rng: np.random.Generator, trials: int, spread: float) -> Floats:
    """Two thirds near the best, a third worse and wide apart: a search that has converged."""
    bad = np.arange(trials) < trials // 3
    drawn = np.where(bad, rng.normal(2, 2, trials), rng.normal(0, 0.3, trials)) * spread
    return np.clip(drawn, _QUALITIES[0], _QUALITIES[-1])


@dataclass(frozen=True)
class Line:
    """Bias, its standard error, and mean squared error of each estimator."""

    bias: Mapping[str, float]
    squared: Mapping[str, float]
    error: float


def measure(
    task: Task,
    videos: int,
    trials: int,
    spread: float,
    replications: int,
    draw: Callable[[np.random.Generator, int, float], Floats] = even,
    halving: bool = False,
    seed: int = 0,
) -> Line:
    """The estimators over so many simulated sweeps."""
    rng = np.random.default_rng(seed)
    truth = worth(task, videos)
    off: dict[str, list[float]] = {}
    drift = []
    for _ in range(replications):
        quality = draw(rng, trials, spread)
        if halving:
            state = int(rng.integers(1 << 31))
            early = simulate(task, np.random.default_rng(state), videos, quality + 0.5)
            kept = scores_of(task, early).argsort()[::-1][: trials // 3]
            whole = simulate(task, np.random.default_rng(state), videos, quality)
            sums, kept_quality = whole[kept], quality[kept]
        else:
            sums, whole, kept_quality = (of := simulate(task, rng, videos, quality)), of, quality
        found = estimate(task, sums, rng)
        true = truth(kept_quality[scores_of(task, sums).argmax()])
        # All trials' mean error is 0 in truth: what it is here is luck that all estimators share.
        drift.append(float((scores_of(task, whole) - truth(quality)).mean()))
        for name, value in found.items():
            off.setdefault(name, []).append(value - true)
    errors = {name: np.array(values) for name, values in off.items()}
    luck = np.array(drift)
    return Line(
        bias={name: float((of - luck).mean()) for name, of in errors.items()},
        squared={name: float(((of - luck.mean()) ** 2).mean()) for name, of in errors.items()},
        error=float((errors["half"] - luck).std() / np.sqrt(replications)),
    )


def show(name: str, line: Line) -> None:
    """Print a line of the table."""
    shown = "".join(f"{1000 * bias:11.1f}" for bias in line.bias.values())
    plain = line.squared["plain"]
    below = "".join(f"{squared / plain:11.2f}" for squared in line.squared.values())
    print(f"{name:28}{shown}  ± {1000 * line.error:.1f}\n{'':28}{below}", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--replications", type=int, default=60)
    replications = parser.parse_args().replications
    began = time.perf_counter()
    names = ("plain", "out-of-bag", "optimism", "paired", "shrinkage", "replay", "half")
    print(f"{'':28}" + "".join(f"{name:>11}" for name in names))
    worst: dict[str, float] = dict.fromkeys(names, 0.0)
    for task in Task:
        for videos in (9, 40, 76):
            # VA is cheap, and 9 videos are none of Aff-Wild2's sets.
            for trials in (12, 60, 200) if videos > 9 else (60,):
                few = replications if trials < 200 else max(2, replications // 3)
                for spread in (0.0, 0.15, 0.3):
                    line = measure(task, videos, trials, spread, few)
                    show(f"{task.value:5}{videos:3} videos {trials:3} x {spread:.2f}", line)
                    if videos > 9:
                        worst = {n: max(worst[n], abs(line.bias[n])) for n in names}
    shown = "".join(f"{1000 * worst[name]:11.1f}" for name in names)
    print(f"{'largest bias, 40 and 76':28}{shown}")
    for trials in (12, 60):
        for spread in (0.15, 0.3):
            line = measure(Task.VA, 40, trials, spread, replications, tail)
            show(f"va tail 40    {trials:3} x {spread:.2f}", line)
            line = measure(Task.VA, 40, trials, spread, replications, halving=True)
            show(f"va halving 40 {trials:3} x {spread:.2f}", line)
    print(f"{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
