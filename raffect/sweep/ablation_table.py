"""The table of an ablation: each variant's scores, and how far it is from the full model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any, TypedDict

from raffect.store import Store
from raffect.sweep.ablation import by_variant
from raffect.sweep.leaderboard import SweepView
from raffect.sweep.paired import paired_interval, read_all_sums
from raffect.sweep.records import TrialRow


class AblationJson(TypedDict):
    """A row in `raffect ablate TASK --json`."""

    name: str
    without: Mapping[str, Any]
    scores: Sequence[float | None]
    mean: float | None
    spread: float | None
    difference: float | None
    interval: Sequence[float] | None


@dataclass(frozen=True)
class AblationRow:
    """A variant's scores.

    Attributes:
        without: What it changes of the base, by dotted setting.
        seeds: As many as of any variant.
        scores: By seed, each of its best epoch on validation; None where the trial failed, or has
            not ended.
        difference: Mean over the seeds that both have of its score less that of the full model.
        interval: Of the difference, 95 %, over resamples of the validation videos.
        parameters: Trained values of the model.
        reason: Why a trial failed; empty if none did.
    """

    name: str
    without: Mapping[str, Any]
    seeds: tuple[int, ...]
    scores: tuple[float | None, ...]
    difference: float | None = None
    interval: tuple[float, float] | None = None
    parameters: int | None = None
    reason: str = ""

    @property
    def known(self) -> list[float]:
        """The scores that there are."""
        return [score for score in self.scores if score is not None]

    @property
    def mean(self) -> float | None:
        """Mean of the scores."""
        return mean(self.known) if self.known else None

    @property
    def spread(self) -> float | None:
        """Sample standard deviation of the scores; None of fewer than two."""
        return stdev(self.known) if len(self.known) > 1 else None

    def to_json(self) -> AblationJson:
        """As in `raffect ablate TASK --json`."""
        return {
            "name": self.name,
            "without": dict(self.without),
            "scores": list(self.scores),
            "mean": self.mean,
            "spread": self.spread,
            "difference": self.difference,
            "interval": None if self.interval is None else list(self.interval),
        }


def tabulate(store: Store, view: SweepView) -> list[AblationRow]:
    """The table of an ablation's sweep, the full model first; also while it runs."""
    variants = list(by_variant(view.rows))
    seeds = sorted({seed for _, trials in variants for seed in trials})
    sums = {number: of for number, (_, of) in read_all_sums(store, view.rows).items()}
    full = _scored(variants[0][1]) if variants else {}
    found = []
    for place, (variant, trials) in enumerate(variants):
        own = _scored(trials)
        both = [seed for seed in own if seed in full] if place else []
        pairs = [(sums.get(own[seed].number), sums.get(full[seed].number)) for seed in both]
        whole = [
            (ours, theirs) for ours, theirs in pairs if ours is not None and theirs is not None
        ]
        gaps = [_score(own[seed]) - _score(full[seed]) for seed in both]
        found.append(
            AblationRow(
                name=variant.name,
                without=variant.without,
                seeds=tuple(seeds),
                scores=tuple(_score(own[s]) if s in own else None for s in seeds),
                difference=mean(gaps) if gaps else None,
                interval=paired_interval(view.task, whole)
                if whole and len(whole) == len(pairs)
                else None,
                parameters=next((r.parameters for r in trials.values() if r.parameters), None),
                reason=next((row.reason for row in trials.values() if row.reason), ""),
            )
        )
    return found


def _scored(trials: Mapping[int, TrialRow]) -> dict[int, TrialRow]:
    return {seed: row for seed, row in sorted(trials.items()) if row.full_score is not None}


def _score(row: TrialRow) -> float:
    assert row.full_score is not None
    return row.full_score
