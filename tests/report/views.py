"""Leaderboards made up for the report's tests; no number here was ever measured."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from raffect.affwild2.labels import VideoLabels
from raffect.affwild2.predictions import VideoPredictions
from raffect.affwild2.tasks import SPECS, Split, Task
from raffect.config import recipe
from raffect.report.data import Validation
from raffect.report.validation import validation_of
from raffect.store import Manifest
from raffect.store.manifest import make_manifest
from raffect.sweep.leaderboard import SweepView
from raffect.sweep.records import TrialRow, rank
from raffect.temporal.epochs import EpochResult

FINISHED = make_manifest("sweep", {}, {"dataset": "d" * 64, "features/clip": "f" * 64}, [])


def row(
    number: int,
    state: str = "COMPLETE",
    scores: Sequence[float] = (),
    params: dict[str, Any] | None = None,
    reason: str | None = None,
    parts: Sequence[dict[str, float]] = (),
    recipe: bool = False,
    **more: Any,
) -> TrialRow:
    """A trial with these scores by epoch, two seconds each; trials end in the order of numbers."""
    curve = [
        EpochResult(
            epoch=epoch,
            score=score,
            loss=1 / epoch,
            parts=dict(parts[epoch - 1]) if parts else {},
            seconds=2.0,
            lr=1e-3,
        )
        for epoch, score in enumerate(scores, start=1)
    ]
    best = max(scores, default=None)
    made = TrialRow(
        number=number,
        state=state,
        score=best,
        epochs=len(curve),
        seconds=2.0 * len(curve),
        params=params or {},
        reason=reason,
        model=f"s:{number}" if state in ("COMPLETE", "PRUNED") else None,
        best_epoch=list(scores).index(best) + 1 if best is not None else None,
        curve=curve,
        parameters=1_000_000 + 1000 * number if curve else None,
        attributes={"recipe": True} if recipe else {},
        finished=_time(number) if state in ("COMPLETE", "PRUNED", "FAIL") else None,
    )
    return replace(made, **more)


def _time(number: int) -> str:
    return (datetime(2026, 11, 20, tzinfo=UTC) + timedelta(minutes=number)).isoformat()


def view(
    rows: Sequence[TrialRow],
    name: str = "s",
    task: Task = Task.VA,
    baseline: dict[str, Any] | None = None,
    manifest: Manifest | None = FINISHED,
    target: int | None = None,
    **more: Any,
) -> SweepView:
    """A leaderboard of these trials, in its order."""
    return SweepView(
        name=name,
        task=task,
        rows=sorted(rows, key=rank),
        config=recipe_of(task),
        counts=dict(Counter(r.state for r in rows)),
        target=len(rows) if target is None else target,
        baseline={"score": 0.0, "parts": {}} if baseline is None else baseline,
        manifest=manifest,
        **more,
    )


def recipe_of(task: Task) -> dict[str, Any]:
    return recipe(task).canonical()


def made_up(task: Task, trials: int = 50, seed: int = 0, finished: bool = True) -> SweepView:
    """A whole sweep: pruned and failed trials, conditional parameters, a plausible response."""
    dice = random.Random(f"{task.value} {seed}")
    level = {Task.VA: 0.55, Task.EXPR: 0.42, Task.AU: 0.52}[task]
    floor = {Task.VA: 0.0, Task.EXPR: 0.069, Task.AU: 0.295}[task]
    columns = SPECS[task].columns
    hardness = [dice.gauss(0, 0.12) for _ in columns]
    epochs = 12
    rows = []
    for number in range(trials):
        params = _params(dice, task, number)
        quality = level + _response(params) + dice.gauss(0, 0.012)
        scores, parts = [], []
        for epoch in range(1, epochs + 1):
            rise = 1 - math.exp(-epoch / 3.0)
            own = [
                max(0.0, floor + (quality + h - floor) * rise + dice.gauss(0, 0.01))
                for h in hardness
            ]
            parts.append(dict(zip(columns, own, strict=True)))
            scores.append(sum(own) / len(own))
        rows.append(_ended(dice, number, params, quality, level, scores, parts))
    if not finished:
        rows += [row(trials, "RUNNING", scores[:3], params), row(trials + 1, "WAITING", (), {})]
    floors = {
        name: floor + 0.4 * h if floor else 0.0 for name, h in zip(columns, hardness, strict=True)
    }
    linear = {name: value + 0.2 for name, value in floors.items()}
    return view(
        rows,
        name=task.value,
        task=task,
        linear_floor={"score": floor + 0.2, "parts": linear, "half_width": 15},
        baseline={"score": floor, "parts": {k: max(0.0, v) for k, v in floors.items()}},
        manifest=FINISHED if finished else None,
        target=trials if finished else trials + 10,
    )


def _ended(
    dice: random.Random,
    number: int,
    params: dict[str, Any],
    quality: float,
    level: float,
    scores: list[float],
    parts: list[dict[str, float]],
) -> TrialRow:
    luck = dice.random()
    if number and luck < 0.04:
        reason = f"nan: The loss is not finite in epoch {1 + number % 3}."
        return row(number, "FAIL", scores[: number % 3], params, reason, parts)
    if number and luck < 0.06:
        return row(number, "FAIL", (), params, "lost-actor: The actor died unexpectedly.")
    if number and quality < level - 0.02:
        kept = 2 if quality < level - 0.05 else 6
        return row(number, "PRUNED", scores[:kept], params, None, parts)
    return row(number, "COMPLETE", scores, params, None, parts, recipe=number == 0)


def _params(dice: random.Random, task: Task, number: int) -> dict[str, Any]:
    if number == 0:
        params: dict[str, Any] = {"model.tcn.depth": 3, "model.transformer.layers": 8}
        lr = 3e-5
    else:
        params = {
            "model.tcn.depth": dice.randint(0, 5),
            "model.transformer.layers": dice.choice([0, 1, 2, 4, 6, 8]),
        }
        lr = 10 ** dice.uniform(-5, -3)
    params |= {
        "optimiser.lr": lr,
        "model.tcn.dropout": 0.3 if number == 0 else dice.uniform(0.0, 0.5),
        "segments.window": 300 if number == 0 else dice.choice([100, 200, 300]),
    }
    if params["model.tcn.depth"]:
        params["model.tcn.kernel"] = 5 if number == 0 else dice.choice([3, 5, 7])
    if params["model.transformer.layers"]:
        params["model.transformer.positions"] = dice.choice(["sinusoidal", "none"])
    if task is Task.VA:
        params["losses.valence_share"] = 0.5 if number == 0 else dice.uniform(0.2, 0.8)
        params["losses.auxiliary.expr"] = 0.0 if number == 0 else dice.uniform(0.0, 0.5)
    if task is Task.EXPR:
        params["losses.class_weight_power"] = 0.0 if number == 0 else dice.uniform(0.0, 1.0)
    if task is Task.AU:
        params["losses.positive_weight_power"] = 0.0 if number == 0 else dice.uniform(0.0, 1.0)
    return params


def _response(params: dict[str, Any]) -> float:
    lr = -0.04 * (math.log10(params["optimiser.lr"]) + 4.0) ** 2
    depth = -0.006 * (params["model.tcn.depth"] - 3) ** 2
    layers = -0.0025 * (params["model.transformer.layers"] - 4) ** 2
    return lr + depth + layers


def made_up_videos(
    task: Task, lengths: Sequence[int] = (40, 900, 120, 300), seed: int = 0
) -> tuple[dict[str, VideoPredictions], dict[str, VideoLabels]]:
    """Predictions that are right but for noise, more of it from video to video."""
    rng = np.random.default_rng(seed)
    predictions, labels = {}, {}
    for index, length in enumerate(lengths):
        name, noise = f"video{index}", 0.1 + 0.2 * index
        latent = np.tanh(np.cumsum(rng.normal(0, 0.15, (length, 2)), axis=0))
        values = _labels(task, latent)
        noisy = _labels(task, latent + rng.normal(0, noise, latent.shape))
        if task is Task.EXPR:
            noisy = np.eye(8)[noisy[:, 0].astype(int)] * 0.9 + 0.0125
        elif task is Task.AU:
            noisy = np.clip(noisy * 0.8 + rng.uniform(0, 0.2, noisy.shape), 0, 1)
        values[:: max(length // 5, 1)] = SPECS[task].invalid
        valid = SPECS[task].valid(values)
        labels[name] = VideoLabels(name, Split.VALIDATION, values.astype(np.float32), valid)
        # As many predictions as there are crops: more than annotated lines.
        frames = np.arange(1, length + 3, dtype=np.int32)
        whole = np.concatenate([noisy, noisy[-2:]]).astype(np.float64)
        predictions[name] = VideoPredictions(name, frames, whole)
    return predictions, labels


def _labels(task: Task, latent: np.ndarray) -> np.ndarray:
    if task is Task.VA:
        return np.clip(latent, -1, 1)
    if task is Task.EXPR:
        return np.digitize(latent[:, :1], np.linspace(-0.9, 0.9, 7)).astype(float)
    return (latent[:, :1] > np.linspace(-0.5, 0.5, 12)).astype(float)


def made_up_validation(task: Task, lengths: Sequence[int] = (40, 900, 120, 300)) -> Validation:
    """What such predictions are worth."""
    return validation_of(task, "s:3", *made_up_videos(task, lengths))
