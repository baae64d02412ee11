"""What the best trial's model predicts on validation: its score's interval, its errors, videos.

Predicting takes as long as one validation of training. What came of it is kept in the sweep's
folder, so that a report that is written again needs neither the model nor the features.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError

from raffect import __version__
from raffect.affwild2.labels import VideoLabels, load_labels
from raffect.affwild2.predictions import VideoPredictions
from raffect.affwild2.tasks import SPECS, Split, Task
from raffect.errors import RaffectError, StoreError
from raffect.report.confusion import confusion_of
from raffect.report.judged import Judged, Shown
from raffect.report.tables import Cell, rounded, table
from raffect.store import Store, sweep_folder
from raffect.sweep.leaderboard import SweepView, model_folder_of
from raffect.sweep.rows import TrialRow
from raffect.temporal.bundle import load_bundle, predict_split
from raffect.temporal.evaluation import evaluate
from raffect.temporal.metrics import binary_f1, class_f1, score

KEPT = "judged.json"
MOST_POINTS = 800
"""Points of a curve; more than the pixels that it has."""
NO_MODEL = "No trial has a score yet."
_FAILURES = (RuntimeError, ValueError, KeyError, TypeError, OSError, SafetensorError)
"""What a model that another version wrote, a damaged file or too little memory may raise."""


def judge(store: Store, view: SweepView) -> Judged | str:
    """What the best trial's model predicts, or why that can't be told."""
    row = view.best
    if row is None:
        return NO_MODEL
    key = f"{sweep_folder(view.name)}/{KEPT}"
    identity = {"version": __version__, "model": row.model, "score": row.score}
    kept = _kept(store, key, identity)
    if kept is not None:
        return kept
    try:
        found = _predict(store, view.task, row)
    except RaffectError as error:
        return error.got
    except _FAILURES as error:
        # All else on the page does not depend on it.
        return f"The model of {row.model} could not predict: {type(error).__name__}: {error}"
    with contextlib.suppress(StoreError):
        store.write_json(key, {"of": identity, "judged": asdict(found)})
    return found


def _kept(store: Store, key: str, identity: Mapping[str, Any]) -> Judged | None:
    try:
        kept = store.read_json(key)
    except (FileNotFoundError, ValueError):
        return None
    return from_json(kept["judged"]) if kept.get("of") == identity else None


def from_json(tree: Mapping[str, Any]) -> Judged:
    """What `dataclasses.asdict` made of a Judged."""
    tables = {
        name: table(tree[name]["name"], tree[name]["columns"], tree[name]["rows"])
        for name in ("confusion", "per_video", "curves")
    }
    shown = tuple(Shown(**one) for one in tree["shown"])
    low, high = tree["interval"]
    return Judged(**{**tree, **tables, "interval": (low, high), "shown": shown})


def _predict(store: Store, task: Task, row: TrialRow) -> Judged:
    bundle = load_bundle(store, model_folder_of(row))
    predictions = {each.video: each for each in predict_split(store, bundle, Split.VALIDATION)}
    labels = load_labels(store, task)
    validation = {name: of for name, of in labels.items() if of.split is Split.VALIDATION}
    return judged_of(task, str(row.model), predictions, validation)


def judged_of(
    task: Task,
    model: str,
    predictions: Mapping[str, VideoPredictions],
    labels: Mapping[str, VideoLabels],
) -> Judged:
    """What predictions are worth.

    Args:
        task: The task.
        model: Whose predictions these are.
        predictions: By video, of every frame from the first on.
        labels: By video.

    Raises:
        DataError: A valid frame has no prediction, or no frame is valid.
    """
    found = evaluate(task, predictions, labels)
    videos = {name: of for name, of in labels.items() if of.valid.any()}
    pairs = {
        name: (predictions[name].values[: len(of.valid)][of.valid], of.values[of.valid])
        for name, of in videos.items()
    }
    scores = {name: video_score(task, *pair) for name, pair in pairs.items()}
    shown = choose_videos(scores, videos)
    curves = [_curve(task, predictions[one.video].values, videos[one.video], one) for one in shown]
    return Judged(
        model=model,
        score=found.score,
        interval=found.interval,
        frames=found.frames,
        videos=found.videos,
        confusion=confusion_of(
            task,
            np.concatenate([p for p, _ in pairs.values()]),
            np.concatenate([y for _, y in pairs.values()]),
        ),
        per_video=table(
            "videos",
            ("video", "frames", "score"),
            [(name, len(pairs[name][1]), scores[name]) for name in pairs],
        ),
        curves=table(
            "videos-over-time", curve_columns(task), [row for of in curves for row in of]
        ),
        shown=shown,
    )


def video_score(task: Task, predictions: NDArray[Any], labels: NDArray[Any]) -> float | None:
    """The score of one video alone; None where it has none.

    The challenge counts a class that occurs nowhere as 0, which no video of few classes could
    make up for: here the mean is over the classes or units that were seen or predicted in it.
    """
    if task is Task.VA:
        return score(task, predictions, labels).value
    if task is Task.EXPR:
        chosen, true = predictions.argmax(axis=1), labels[:, 0]
        values = class_f1(chosen, true, SPECS[task].outputs)
        occurs = np.isin(np.arange(SPECS[task].outputs), np.concatenate([chosen, true]))
    else:
        values = binary_f1(predictions, labels)
        occurs = (labels == 1).any(axis=0) | (predictions >= 0.5).any(axis=0)
    return float(values[occurs].mean()) if occurs.any() else None


def choose_videos(
    scores: Mapping[str, float | None], labels: Mapping[str, VideoLabels]
) -> tuple[Shown, ...]:
    """The videos with the best, the median and the worst score of their own."""
    ranked = sorted(
        ((name, value) for name, value in scores.items() if value is not None),
        key=lambda pair: (-pair[1], pair[0]),
    )
    if not ranked:
        return ()
    places = {"best": 0, "median": len(ranked) // 2, "worst": len(ranked) - 1}
    if len(ranked) < len(places):
        places.pop("median")
    found: dict[int, Shown] = {}
    for why, place in places.items():
        name, value = ranked[place]
        step = -(-len(labels[name].valid) // MOST_POINTS)
        frames = int(labels[name].valid.sum())
        found.setdefault(place, Shown(why, name, value, frames, step))
    return tuple(found.values())


def curve_columns(task: Task) -> tuple[str, ...]:
    """Columns of the table of videos over time; `true_...` is empty where nothing is valid."""
    columns = SPECS[task].columns
    return ("video", "frame", *(f"true_{name}" for name in columns), *columns)


def _curve(
    task: Task, predictions: NDArray[Any], labels: VideoLabels, shown: Shown
) -> list[list[Cell]]:
    rows: list[list[Cell]] = []
    unknown: list[Cell] = [None] * SPECS[task].outputs
    for index in range(0, len(labels.valid), shown.step):
        true = _true(task, labels.values[index]) if labels.valid[index] else unknown
        values = [rounded(value, 3) for value in predictions[index].tolist()]
        rows.append([labels.video, index + 1, *true, *values])
    return rows


def _true(task: Task, values: NDArray[Any]) -> list[Cell]:
    """Valence and arousal as they are, classes and units as 0 and 1."""
    if task is Task.EXPR:
        return [int(index == values[0]) for index in range(SPECS[task].outputs)]
    return [rounded(value, 3) if task is Task.VA else int(value) for value in values.tolist()]
