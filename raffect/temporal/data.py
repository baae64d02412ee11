"""The data of one task, read from the store once, as arrays that processes share."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from raffect.affwild2.labels import VideoLabels, codes_of, load_labels, runs
from raffect.affwild2.tasks import SPLIT_FOLDERS, Split, Task
from raffect.errors import ConflictError, NotThereError, StoreError
from raffect.settings import hash_json
from raffect.store import DATASET, Store, features_folder, read_manifest
from raffect.store.features import dtype_of, to_array
from raffect.temporal.timelines import Timelines, build_timelines, trainable

Crops = dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]]
"""Per video with crops, its 1-based frames and their feature rows."""


class Lineage(TypedDict):
    """What a model was made from: names of features and encoder, and folder to digest.

    `extract` has the settings by which the encoder's features were made, those at their defaults
    left out; models of earlier versions have none.
    """

    features: str
    encoder: str | None
    sources: dict[str, str]
    extract: NotRequired[dict[str, Any]]


@dataclass(frozen=True)
class TaskData:
    """Everything that training a model of a task needs; plain arrays, zero-copy through Ray.

    `features` `(rows, features)` float16 or float32 are of the videos of both splits only; `train`
    has the labels of auxiliary tasks as well; `digest` is that of the sources.
    """

    task: Task
    features: NDArray[np.floating]
    train: Timelines
    validation: Timelines
    digest: str
    lineage: Lineage


def load_task_data(
    store: Store, features: str, task: Task, auxiliary: Sequence[Task] = ()
) -> TaskData:
    """Features and labels of a task's train and validation videos.

    Auxiliary labels are those of the auxiliary task's own train split: a video may be in another
    split there, and its labels must not leak into training.

    Raises:
        NotThereError: There are no such features, the task has no label to train on or no valid
            frame in validation, or an auxiliary task has no label of the training videos.
        ConflictError: The features were made from another dataset.
    """
    sources = load_sources(store, features)
    manifest = read_manifest(store, features_folder(features))
    labels = load_labels(store, task)
    videos = {split: _videos_of(store, task, labels, split) for split in Split}
    train_labels = {task: labels}
    for other in auxiliary:
        if other is not task:
            theirs = load_labels(store, other).items()
            train_labels[other] = {name: of for name, of in theirs if of.split is Split.TRAIN}
    _check_auxiliary(task, videos[Split.TRAIN], train_labels)
    array, crops = read_features(
        store, features, {*videos[Split.TRAIN], *videos[Split.VALIDATION]}
    )
    return TaskData(
        task=task,
        features=array,
        train=build_timelines(videos[Split.TRAIN], crops, train_labels),
        validation=build_timelines(videos[Split.VALIDATION], crops, {task: labels}),
        digest=hash_json(sources),
        lineage={
            "features": features,
            "encoder": manifest.config.get("encoder"),
            "sources": {**manifest.sources, **sources},
            "extract": {k: v for k, v in manifest.config.items() if k != "encoder"},
        },
    )


def load_split(
    store: Store, features: str, task: Task, split: Split
) -> tuple[NDArray[np.floating], Timelines]:
    """Features and timelines of the videos of one split of a task.

    Raises:
        NotThereError: There are no such features, or the split has no annotated video.
    """
    load_sources(store, features)
    labels = load_labels(store, task)
    videos = [name for name, of in labels.items() if of.split is split]
    if not videos:
        raise _no_annotations(store, task, split)
    array, crops = read_features(store, features, videos)
    return array, build_timelines(videos, crops, {task: labels})


def load_sources(store: Store, features: str) -> dict[str, str]:
    """Digests of what the task data is made from, by folder.

    Raises:
        NotThereError: There are no such features.
        ConflictError: They were made from another dataset than the store's.
    """
    manifest = read_manifest(store, features_folder(features))
    dataset = read_manifest(store, DATASET).digest()
    if manifest.sources.get(DATASET, dataset) != dataset:
        raise ConflictError(
            f"The features {features!r} were made from another dataset than the store's.",
            "features of the dataset that is in the store now",
            f"Make them again: raffect extract --name {features} --overwrite",
        )
    return {DATASET: dataset, features_folder(features): manifest.digest()}


def check_lineage(store: Store, lineage: Lineage) -> None:
    """Refuse features that were made again since a model was trained on them.

    Raises:
        NotThereError: There are no such features.
        ConflictError: Others have their name now, or the dataset is another.
    """
    features = lineage["features"]
    trained_on = lineage["sources"][features_folder(features)]
    if load_sources(store, features)[features_folder(features)] != trained_on:
        raise ConflictError(
            f"The features {features!r} are not those that this model was trained on.",
            f"features with the digest {trained_on[:12]}",
            "Train a model on the features as they are now, or extract the former ones again.",
        )


def read_features(
    store: Store, features: str, videos: Collection[str]
) -> tuple[NDArray[np.floating], Crops]:
    """Features of some videos `(rows, features)` as stored, and where each crop's row is.

    One file is in memory at a time beside the array.
    """
    folder = features_folder(features)
    manifest = read_manifest(store, folder)
    # Rows of other videos are left over at the end: never written, they take no physical memory.
    shape = int(manifest.counts["rows"]), int(manifest.counts["dim"])
    array: NDArray[np.floating] = np.empty(shape, dtype_of(manifest.config))
    crops: Crops = {}
    used = 0
    for entry in manifest.files:
        if entry.name.endswith(".parquet"):
            table = _read_table(store, folder, entry.name)
            used = _take_rows(table, set(videos), array, used, crops)
    return array[:used], crops


def _read_table(store: Store, folder: str, name: str) -> pa.Table:
    data = store.read_bytes(f"{folder}/{name}")
    try:
        return pq.read_table(pa.BufferReader(data))
    except pa.ArrowInvalid:
        raise StoreError(
            f"{store.where(folder)}/{name} is damaged.",
            "the Parquet file that `raffect extract` wrote",
            "Make the features again with `raffect extract --overwrite`.",
        ) from None


def _take_rows(
    table: pa.Table, wanted: set[str], array: NDArray[np.floating], used: int, crops: Crops
) -> int:
    """Copy the rows of wanted videos behind the `used` ones; the new number of used rows."""
    if not table.num_rows:
        return used
    names, codes = codes_of(table["video"])
    frames = table["frame"].to_numpy().astype(np.int64)
    values = to_array(table)
    for start, stop in runs(codes):
        name = names[codes[start]]
        if name not in wanted:
            continue
        end = used + stop - start
        array[used:end] = values[start:stop]
        rows = np.arange(used, end, dtype=np.int64)
        before = crops.get(name, (rows[:0], rows[:0]))
        own = np.concatenate([before[0], frames[start:stop]])
        crops[name] = own, np.concatenate([before[1], rows])
        used = end
    return used


def _videos_of(
    store: Store, task: Task, labels: Mapping[str, VideoLabels], split: Split
) -> list[str]:
    videos = [name for name, of in labels.items() if of.split is split]
    # Labels of single AUs are trained on; the score wants whole frames.
    usable = _can_train if split is Split.TRAIN else _can_score
    if not any(usable(task, labels[name]) for name in videos):
        raise _no_annotations(store, task, split)
    return videos


def _can_train(task: Task, labels: VideoLabels) -> bool:
    return bool(trainable(task, labels.values, labels.valid).any())


def _can_score(task: Task, labels: VideoLabels) -> bool:
    return bool(labels.valid.any())


def _check_auxiliary(
    task: Task, videos: Sequence[str], labels: Mapping[Task, Mapping[str, VideoLabels]]
) -> None:
    """Refuse the loss of a task of which no training video has a label: it would be 0."""
    missing = [
        other.value
        for other, of in labels.items()
        if not any(_can_train(other, of[name]) for name in videos if name in of)
    ]
    if missing:
        raise NotThereError(
            f"There are no training labels of {', '.join(missing)} for the videos of {task}.",
            "auxiliary losses of tasks with labels",
            f"Leave losses.auxiliary of {', '.join(missing)} at 0; with `tune`, use a space that"
            f" does not search it, e.g. --space tune_spaces.{task}.",
        )


def _no_annotations(store: Store, task: Task, split: Split) -> NotThereError:
    return NotThereError(
        f"The dataset in {store.uri} has no {task.value.upper()} labels in {split.value}.",
        f"annotation files with valid frames in the challenge's {SPLIT_FOLDERS[split]}",
        "Prepare the dataset with the annotations of this task, or choose another task.",
    )
