"""What the best trial's model predicts on validation, as plain numbers."""

from __future__ import annotations

from dataclasses import dataclass

from raffect.report.tables import Table


@dataclass(frozen=True)
class Shown:
    """A video whose curves are shown, and why.

    Attributes:
        why: best, median or worst.
        score: Of this video alone (predictions.video_score).
        frames: Valid frames.
        step: Every so many frames there is a point.
    """

    why: str
    video: str
    score: float
    frames: int
    step: int


@dataclass(frozen=True)
class Judged:
    """What the best trial's model is worth on validation.

    Attributes:
        model: `SWEEP:NUMBER`.
        score: Of these predictions; that of the leaderboard but for the device's rounding.
        interval: Percentile bootstrap over videos, 95 %.
        frames: Valid frames.
        videos: Videos with a valid frame.
        confusion: What was predicted for what (confusion.py).
        per_video: Each video's own score.
        curves: True and predicted values over time of the videos that are shown.
        shown: Which these are.
    """

    model: str
    score: float
    interval: tuple[float, float]
    frames: int
    videos: int
    confusion: Table
    per_video: Table
    curves: Table
    shown: tuple[Shown, ...]
