"""What the best trial's model predicts on validation: its score's interval, errors, and videos.

Predicting takes as long as one validation of training. The result is kept in the sweep's folder,
so that a report that is written again needs neither the model nor the features.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter
from safetensors import SafetensorError

from raffect import __version__
from raffect.affwild2.evaluation import evaluate
from raffect.affwild2.folds import load_fold
from raffect.affwild2.labels import VideoLabels
from raffect.affwild2.predictions import VideoPredictions
from raffect.affwild2.scores import binary_f1, class_f1, score
from raffect.affwild2.tasks import ACTION_UNIT_THRESHOLD, SPECS, Split, Task
from raffect.errors import DamagedError, RaffectError, StoreError
from raffect.report.data import ChosenVideo, Validation
from raffect.report.tables import Cell, Table, rounded, table
from raffect.store import Store, sweep_folder
from raffect.store.layout import JUDGED
from raffect.store.verified import read_sealed, reading, write_sealed
from raffect.sweep.leaderboard import SweepView
from raffect.sweep.records import TrialRow, model_files

MOST_POINTS = 800
"""Points of a curve; more than the pixels that it has."""
NO_MODEL = "No trial has a score yet."
BINS = 20
"""Of [-1, 1]: valence and arousal in steps of 0.1, about what annotators tell apart."""
BIN_MIDDLES = [round((2 * i + 1) / BINS - 1, 3) for i in range(BINS)]
_FAILURES = (RuntimeError, ValueError, KeyError, TypeError, OSError, SafetensorError)
"""What a model that another version wrote, a damaged file or too little memory may raise."""


def validate(store: Store, view: SweepView) -> Validation | str:
    """What the best trial's model predicts, or why that can't be told."""
    row = view.best
    if row is None:
        return NO_MODEL
    key = f"{sweep_folder(view.name)}/{JUDGED}"
    identity = {"version": __version__, "model": row.model, "score": row.score}
    kept = _read_kept(store, key, identity)
    if kept is not None:
        return kept
    try:
        found = _predict(store, view.task, row)
    except RaffectError as error:
        return error.got
    except _FAILURES as error:
        # The rest of the page does not depend on it.
        return f"The model of {row.model} could not predict: {type(error).__name__}: {error}"
    with contextlib.suppress(StoreError):
        write_sealed(store, key, {"of": identity, "judged": asdict(found)})
    return found


def _read_kept(store: Store, key: str, identity: Mapping[str, object]) -> Validation | None:
    """The result of an earlier report; None if it is of another model, or damaged."""
    try:
        kept = read_sealed(store, key)
        with reading(store, key):
            return from_json(kept["judged"]) if kept["of"] == identity else None
    except (FileNotFoundError, DamagedError):
        return None


def from_json(tree: object) -> Validation:
    """What `dataclasses.asdict` made of a Validation; a ValueError of anything else."""
    return TypeAdapter(Validation).validate_python(tree)


def _predict(store: Store, task: Task, row: TrialRow) -> Validation:
    # PyTorch takes seconds to load, and a result that was kept needs none of it.
    from raffect.temporal.inference import load_bundle, predict_split

    bundle = load_bundle(store, model_files(store, row))
    predictions = {each.video: each for each in predict_split(store, bundle, Split.VALIDATION)}
    labels = load_fold(store, task, bundle.config.fold)
    validation = {name: of for name, of in labels.items() if of.split is Split.VALIDATION}
    return validation_of(task, str(row.model), predictions, validation)


def validation_of(
    task: Task,
    model: str,
    predictions: Mapping[str, VideoPredictions],
    labels: Mapping[str, VideoLabels],
) -> Validation:
    """What a model's predictions of every frame, by video, are worth.

    A DataError if a valid frame has no prediction, or no frame is valid.
    """
    found = evaluate(task, predictions, labels)
    videos = {name: of for name, of in labels.items() if of.valid.any()}
    # By video the predictions (frames, outputs) and labels (frames, label_width) of valid frames.
    # There may be more predictions than annotated frames.
    pairs = {
        name: (predictions[name].values[: len(of.valid)][of.valid], of.values[of.valid])
        for name, of in videos.items()
    }
    scores = {name: video_score(task, *pair) for name, pair in pairs.items()}
    per_video = [(name, len(true), scores[name]) for name, (_, true) in pairs.items()]
    shown = choose_videos(scores, videos)
    return Validation(
        model=model,
        score=found.score,
        interval=found.interval,
        frames=found.frames,
        videos=found.videos,
        confusion=confusion_of(task, *map(np.concatenate, zip(*pairs.values(), strict=True))),
        per_video=table("videos", ("video", "frames", "score"), per_video),
        curves=_curves(task, predictions, videos, shown),
        shown=shown,
    )


def video_score(task: Task, predictions: NDArray[Any], labels: NDArray[Any]) -> float | None:
    """The score of one video alone; None where it has none.

    The challenge counts a class that occurs nowhere as 0, which no video of few classes could
    make up for: here the mean is over the classes or units that were seen or predicted in it.
    Predictions `(frames, outputs)` and labels `(frames, label_width)` are of valid frames only.
    """
    if task is Task.VA:
        return score(task, predictions, labels).value
    if task is Task.EXPR:
        chosen, true = predictions.argmax(axis=1), labels[:, 0]
        values = class_f1(chosen, true, SPECS[task].outputs)
        occurs = np.isin(np.arange(SPECS[task].outputs), np.concatenate([chosen, true]))
    else:
        values = binary_f1(predictions, labels)
        active = predictions >= ACTION_UNIT_THRESHOLD
        occurs = (labels == 1).any(axis=0) | active.any(axis=0)
    return float(values[occurs].mean()) if occurs.any() else None


def choose_videos(
    scores: Mapping[str, float | None], labels: Mapping[str, VideoLabels]
) -> tuple[ChosenVideo, ...]:
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
    found: dict[int, ChosenVideo] = {}
    for why, place in places.items():
        name, value = ranked[place]
        step = -(-len(labels[name].valid) // MOST_POINTS)
        frames = int(labels[name].valid.sum())
        found.setdefault(place, ChosenVideo(why, name, value, frames, step))
    return tuple(found.values())


def _curves(
    task: Task,
    predictions: Mapping[str, VideoPredictions],
    labels: Mapping[str, VideoLabels],
    videos: tuple[ChosenVideo, ...],
) -> Table:
    """These videos over time; a column `true_...` is empty where the frame is not valid."""
    columns = SPECS[task].columns
    rows: list[list[Cell]] = []
    for video in videos:
        of, values = labels[video.video], predictions[video.video].values
        for index in range(0, len(of.valid), video.step):
            true: list[Cell] = [None] * len(columns)
            if of.valid[index]:
                true = _true(task, of.values[index])
            predicted = [rounded(value, 3) for value in values[index].tolist()]
            rows.append([video.video, index + 1, *true, *predicted])
    names = ("video", "frame", *(f"true_{name}" for name in columns), *columns)
    return table("videos-over-time", names, rows)


def _true(task: Task, values: NDArray[Any]) -> list[Cell]:
    """Valence and arousal as they are, classes and units as 0 and 1."""
    if task is Task.EXPR:
        return [int(index == values[0]) for index in range(SPECS[task].outputs)]
    return [rounded(value, 3) if task is Task.VA else int(value) for value in values.tolist()]


def confusion_of(task: Task, predictions: NDArray[Any], labels: NDArray[Any]) -> Table:
    """Counts of frames by what is true and what is predicted.

    EXPR: all pairs of expressions, with the share of the frames of the true one. AU: true and
    false positives and negatives of each unit. VA: pairs of bins of both, with the share of the
    frames in the true one's bin; a bin is named by its middle. Arrays as in `video_score`.
    """
    count = {Task.VA: _valence_arousal, Task.EXPR: _expressions, Task.AU: _action_units}
    return count[task](predictions, labels)


def _expressions(predictions: NDArray[Any], labels: NDArray[Any]) -> Table:
    names = SPECS[Task.EXPR].columns
    counts = _pairs(labels[:, 0].astype(np.int64), predictions.argmax(axis=1), len(names))
    rows = [
        (true, predicted, int(counts[i, j]), _share(counts, i, j))
        for i, true in enumerate(names)
        for j, predicted in enumerate(names)
    ]
    return table("confusion", ("true", "predicted", "frames", "share_of_true"), rows)


def _action_units(predictions: NDArray[Any], labels: NDArray[Any]) -> Table:
    active, true = predictions >= ACTION_UNIT_THRESHOLD, labels == 1
    outcomes = (active & true, ~active & true, active & ~true, ~active & ~true)
    counts = np.stack([outcome.sum(axis=0) for outcome in outcomes], axis=1)
    columns = ("unit", "true_positives", "false_negatives", "false_positives", "true_negatives")
    rows = zip(SPECS[Task.AU].columns, counts.tolist(), strict=True)
    return table("confusion", columns, [(name, *own) for name, own in rows])


def _valence_arousal(predictions: NDArray[Any], labels: NDArray[Any]) -> Table:
    rows = []
    for column, name in enumerate(SPECS[Task.VA].columns):
        counts = _pairs(_bin(labels[:, column]), _bin(predictions[:, column]), BINS)
        rows += [
            (name, true, predicted, int(counts[i, j]), _share(counts, i, j))
            for i, true in enumerate(BIN_MIDDLES)
            for j, predicted in enumerate(BIN_MIDDLES)
            if counts[i].any()
        ]
    return table("confusion", ("part", "true", "predicted", "frames", "share_of_true"), rows)


def _bin(values: NDArray[Any]) -> NDArray[np.int64]:
    index = np.floor((values.astype(np.float64) + 1) * BINS / 2).astype(np.int64)
    return index.clip(0, BINS - 1)


def _pairs(true: NDArray[Any], predicted: NDArray[Any], kinds: int) -> NDArray[np.int64]:
    """`counts[true, predicted]`."""
    flat = np.bincount(true * kinds + predicted, minlength=kinds * kinds)
    return flat.reshape(kinds, kinds)


def _share(counts: NDArray[np.int64], i: int, j: int) -> float | None:
    total = int(counts[i].sum())
    return round(int(counts[i, j]) / total, 6) if total else None
