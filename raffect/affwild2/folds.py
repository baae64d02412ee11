"""Folds: source videos in k parts with about the same labels, for all tasks at once.

Whatever is trained with `--fold 1/5`, encoder or model, of whatever task, has seen no video of
fold 1: the parts are of all annotated videos, those of both official splits and of all tasks, and
both subjects of a video and its unsuffixed partners lie in one part.

Not scikit-learn's StratifiedGroupKFold: it takes one class per frame, where a frame has up to 12
action units, 2 values and an expression, and its parts may change with its version while a model
is bound to `1/5` by name. Made to do it (each label's share as repeated samples), its parts of 580
simulated videos differed by .7 to 1.8 % (root mean square over labels), these by .4 to 1.5.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raffect.affwild2.labels import VideoLabels, load_labels
from raffect.affwild2.tasks import SPECS, Fold, Split, Task, parse_fold, source_of
from raffect.errors import SettingsError
from raffect.store import Store

Labels = Mapping[Task, Mapping[str, VideoLabels]]
LEAST_VIDEOS = 4
"""To fit on one group and judge on the other, each of several videos."""
_BINS = np.linspace(-1, 1, 6, dtype=np.float32)[1:-1]
_WHOLE = 2**20


def count_labels(task: Task, values: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[np.int64]:
    """What of a video's labels `(frames, label_width)` is to be balanced, `(columns,)`.

    Whether it has a valid frame, how many, and how many are of each expression, of each active
    unit, or of each fifth of the range of valence and of arousal.
    """
    known = values[valid]
    if task is Task.VA:
        # As the store rounds them, so that the annotation files give the same counts.
        fifth = np.digitize(known.astype(np.float32), _BINS)
        columns = [np.bincount(column, minlength=len(_BINS) + 1) for column in fifth.T]
    elif task is Task.EXPR:
        columns = [np.bincount(known[:, 0].astype(np.int64), minlength=SPECS[task].outputs)]
    else:
        columns = [(known == 1).sum(axis=0)]
    return np.concatenate([[len(known) > 0, len(known)], *columns]).astype(np.int64)


def share_out(counts: Mapping[str, NDArray[np.int64]], parts: int) -> dict[str, int]:
    """The part, from 0, of each name, so that all parts have about the same share of each column.

    The largest first, each to the part that has least of what it brings. In whole numbers, so
    that every machine decides alike; the order of `counts` does not matter.
    """
    names = sorted(counts)
    table = np.stack([counts[name] for name in names])
    shares = table * _WHOLE // np.maximum(table.sum(axis=0), 1)
    sizes = shares.sum(axis=1).tolist()
    filled = np.zeros((parts, table.shape[1]), np.int64)
    found = {}
    for i in sorted(range(len(names)), key=lambda i: (-sizes[i], names[i])):
        # Of equals the emptiest, so that no part stays empty where there are enough names.
        part = int(np.lexsort((filled.sum(axis=1), filled @ shares[i]))[0])
        filled[part] += shares[i]
        found[names[i]] = part
    return found


def assign_folds(labels: Labels, folds: int) -> dict[str, int]:
    """The fold, from 1, of each source video with labels of any task.

    Raises:
        SettingsError: There are fewer sources than folds.
    """
    blank = {task: count_labels(task, *_no_labels(task)) for task in Task}
    counts: dict[str, dict[Task, NDArray[np.int64]]] = {}
    for task, videos in labels.items():
        for name, of in videos.items():
            own = counts.setdefault(source_of(name), dict(blank))
            own[task] = own[task] + count_labels(task, of.values, of.valid)
    if len(counts) < folds:
        raise SettingsError(
            f"{len(counts)} source videos are annotated, too few for {folds} folds.",
            f"--fold i/k with at most {len(counts)} folds (both subjects of a video count once)",
            "Give a smaller k.",
        )
    table = {name: np.concatenate([own[task] for task in Task]) for name, own in counts.items()}
    return {name: part + 1 for name, part in share_out(table, folds).items()}


def _no_labels(task: Task) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    return np.empty((0, SPECS[task].label_width), np.float32), np.empty(0, np.bool_)


def choose_fold(labels: Labels, task: Task, fold: Fold) -> dict[str, VideoLabels]:
    """A task's labels with the fold's videos as validation, and all others as training videos.

    Raises:
        SettingsError: There are fewer sources than folds, or one of the two has no valid frame.
    """
    folds = assign_folds(labels, fold.of)
    chosen = {}
    for name, of in labels[task].items():
        own = folds[source_of(name)] == fold.number
        chosen[name] = replace(of, split=Split.VALIDATION if own else Split.TRAIN)
    has = {of.split for of in chosen.values() if of.valid.any()}
    if has != set(Split):
        where = f"Outside of fold {fold}" if Split.VALIDATION in has else f"In fold {fold}"
        sources = len({source_of(name) for name, of in chosen.items() if of.valid.any()})
        raise SettingsError(
            f"{where} no frame has a valid {task.value.upper()} label.",
            f"a fold with labels of the task, which {sources} source videos have",
            "Give a smaller k, or another fold.",
        )
    return chosen


def load_fold(store: Store, task: Task, fold: str | None) -> dict[str, VideoLabels]:
    """The annotated videos of a task in order of names, in the splits of a fold `i/k`.

    Without one, in the official splits.

    Raises:
        NotThereError: The store has no dataset.
        SettingsError: As `choose_fold`.
    """
    if fold is None:
        return load_labels(store, task)
    return choose_fold({each: load_labels(store, each) for each in Task}, task, parse_fold(fold))


def check_fold(store: Store, task: Task, fold: str | None) -> None:
    """Say what is wrong with a fold before anything is written under a name; as `load_fold`."""
    if fold is not None:
        load_fold(store, task, fold)


def count_seen(
    trained: Mapping[str, VideoLabels], validation: Mapping[str, VideoLabels]
) -> tuple[int, int]:
    """How many of the labelled videos of `validation`'s validation split are of source videos in
    `trained`'s training split, and how many there are."""
    sources = {
        source_of(name)
        for name, of in trained.items()
        if of.split is Split.TRAIN and of.valid.any()
    }
    held = [
        name for name, of in validation.items() if of.split is Split.VALIDATION and of.valid.any()
    ]
    return sum(source_of(name) in sources for name in held), len(held)


def two_groups(
    task: Task,
    videos: Sequence[str],
    values: Iterable[NDArray[Any]],
    valid: Iterable[NDArray[np.bool_]],
) -> NDArray[np.int64]:
    """The group of each video, 0 or 1 `(videos,)`, to fit on one and judge on the other.

    `values` `(frames, label_width)` and `valid` `(frames,)` are the labels, per video. Both
    subjects of a source video are in one group, and labels are balanced.

    Raises:
        SettingsError: There are fewer than 4 videos with a valid frame, or they are of one source.
    """
    counts: dict[str, NDArray[np.int64]] = {}
    labelled = 0
    for video, own, known in zip(videos, values, valid, strict=True):
        source = source_of(video)
        of = count_labels(task, own, known)
        counts[source] = counts[source] + of if source in counts else of
        labelled += bool(known.any())
    groups = share_out(counts, 2) if counts else {}
    used = {groups[name] for name, count in counts.items() if count[0]}
    if labelled < LEAST_VIDEOS or len(used) < 2:
        raise SettingsError(
            f"{labelled} validation videos with valid {task.value.upper()} labels, of"
            f" {sum(count[0] > 0 for count in counts.values())} source videos, can't be divided"
            " for cross-fitting: fitting on one half and scoring on the other.",
            f"at least {LEAST_VIDEOS} such videos, of at least 2 source videos",
            "Leave out --postprocess fit (an ensemble: give --method mean), or validate on more"
            " videos.",
        )
    return np.array([groups[source_of(video)] for video in videos], np.int64)
