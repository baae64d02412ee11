"""What an epoch gave; apart from the training loop, so that readers of results load no PyTorch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


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
