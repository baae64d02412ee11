"""What an epoch gave; apart from the training loop, so that readers of results load no PyTorch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, overload


@dataclass(frozen=True)
class EpochResult:
    """One epoch (from 1): its mean training loss, then the challenge's score on validation.

    The score is the mean of `parts`; `raw` is that before post-processing, None without any;
    `seconds` include validation; `lr` is the last step's.
    """

    epoch: int
    loss: float
    score: float
    parts: dict[str, float]
    seconds: float
    lr: float
    raw: float | None = None

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> EpochResult:
        """An epoch as a study or a model's metrics keep it; what is missing there is NaN."""
        return cls(
            epoch=int(stored["epoch"]),
            loss=stored.get("loss", math.nan),
            score=float(stored["score"]),
            parts=dict(stored.get("parts") or {}),
            seconds=stored.get("seconds", 0.0),
            lr=stored.get("lr", math.nan),
            raw=stored.get("raw"),
        )


class Curve(Sequence[EpochResult]):
    """Epochs as a study keeps them, read when someone looks: few of a long sweep's are shown."""

    def __init__(self, stored: Sequence[Mapping[str, Any]]) -> None:
        self._stored = stored

    @cached_property
    def _epochs(self) -> tuple[EpochResult, ...]:
        return tuple(map(EpochResult.read, self._stored))

    def __len__(self) -> int:
        return len(self._stored)

    @overload
    def __getitem__(self, at: int) -> EpochResult: ...

    @overload
    def __getitem__(self, at: slice) -> tuple[EpochResult, ...]: ...

    def __getitem__(self, at: int | slice) -> EpochResult | tuple[EpochResult, ...]:
        return self._epochs[at]

    def __eq__(self, other: object) -> bool:
        return self._epochs == (other._epochs if isinstance(other, Curve) else other)

    @property
    def seconds(self) -> float:
        """Of all of them."""
        return sum([float(epoch.get("seconds", 0.0)) for epoch in self._stored])

    @property
    def best(self) -> tuple[int, float] | None:
        """Number and score of the best one; of equals the first, as training has it."""
        scores = [float(epoch["score"]) for epoch in self._stored]
        if not scores:
            return None
        best = max(scores)
        return int(self._stored[scores.index(best)]["epoch"]), best
