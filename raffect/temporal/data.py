"""The data of one task, read from the store once, as arrays that processes share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray

from raffect.affwild2.baseline import trivial_score
from raffect.affwild2.folds import load_fold, two_groups
from raffect.affwild2.labels import VideoLabels
from raffect.affwild2.scores import Score
from raffect.affwild2.tasks import SPLIT_FOLDERS, Split, Task
from raffect.errors import ConflictError, NotThereError
from raffect.settings import hash_json
from raffect.store import DATASET, Manifest, Store, encoder_folder, features_folder, read_manifest
from raffect.store.features import FeatureNames, feature_names, plain_names
from raffect.temporal.rows import Features, ReadFeatures, read_features
from raffect.temporal.timelines import Timelines, trainable


class Lineage(TypedDict):
    """What a model was made from: names of features and encoder, and folder to digest.

    `extract` has the settings by which the encoder's features were made, those at their defaults
    left out; models of earlier versions have none. Features that were imported have no encoder.
    Of several sets of features all but `sources` are lists.
    """

    features: str | list[str]
    encoder: str | list[str | None] | None
    sources: dict[str, str]
    extract: NotRequired[dict[str, Any] | list[dict[str, Any]]]


class FeatureSet(NamedTuple):
    """One set of features in a lineage."""

    name: str
    encoder: str | None
    extract: dict[str, Any]

    @property
    def key(self) -> str:
        """The same for features of the same encoder by the same settings."""
        return hash_json([self.encoder, self.extract])


def sets_of(lineage: Lineage) -> list[FeatureSet]:
    """The sets of features that a model was trained on, in the order of its input."""
    names, encoder = lineage["features"], lineage["encoder"]
    settings = lineage.get("extract", {})
    if isinstance(names, str):
        assert not isinstance(encoder, list)
        assert isinstance(settings, dict)
        return [FeatureSet(names, encoder, settings)]
    assert isinstance(encoder, list)
    assert isinstance(settings, list)
    return [FeatureSet(*each) for each in zip(names, encoder, settings, strict=True)]


@dataclass(frozen=True)
class TaskData:
    """Everything that training a model of a task needs; plain arrays, zero-copy through Ray.

    `features` `(rows, features)` float16 or float32 are of the videos of both splits only, `dims`
    the numbers of features of each set; `train` has the labels of auxiliary tasks as well;
    `digest` is that of the sources, `trivial` the score of the best constant prediction.
    """

    task: Task
    features: Features
    dims: tuple[int, ...]
    train: Timelines
    validation: Timelines
    digest: str
    lineage: Lineage
    trivial: Score


def load_task_data(
    store: Store,
    features: FeatureNames,
    task: Task,
    auxiliary: Sequence[Task] = (),
    fold: str | None = None,
    read: ReadFeatures | None = None,
) -> TaskData:
    """Features and labels of a task's train and validation videos, official or a fold's.

    Several sets of features lie side by side, in the order in which they are named. They are read
    into this process, or by `read`.

    Auxiliary labels are those of the auxiliary task's own train split: a video may be in another
    split there, and its labels must not leak into training.

    Raises:
        NotThereError: There are no such features, or none of the training videos; the task has no
            label to train on or no valid frame in validation; or an auxiliary task has no label of
            the training videos.
        ConflictError: The features were made from another dataset.
        SettingsError: There is no such fold of the videos, or no label in it.
    """
    sources, made = _read_sources(store, features)
    labels = load_fold(store, task, fold)
    videos = {split: _videos_of(store, task, labels, split) for split in Split}
    train_labels = {task: labels}
    for other in auxiliary:
        if other is not task:
            theirs = load_fold(store, other, fold).items()
            train_labels[other] = {name: of for name, of in theirs if of.split is Split.TRAIN}
    _check_auxiliary(task, videos[Split.TRAIN], train_labels)
    wanted = {*videos[Split.TRAIN], *videos[Split.VALIDATION]}
    rows = (read_features if read is None else read)(store, features, wanted)
    train = rows.timelines(videos[Split.TRAIN], train_labels)
    _check_rows(store, feature_names(features), task, train)
    return TaskData(
        task=task,
        features=rows.values,
        dims=rows.dims,
        train=train,
        validation=rows.timelines(videos[Split.VALIDATION], {task: labels}),
        digest=_digest(features, sources),
        lineage=_lineage(features, sources, made),
        trivial=trivial_score(task, labels, labels),
    )


def _digest(features: FeatureNames, sources: Mapping[str, str]) -> str:
    """That of the sources; of several sets of features also that of their order."""
    names = plain_names(features)
    return hash_json(sources if isinstance(names, str) else [names, sources])


def _lineage(
    features: FeatureNames, sources: dict[str, str], manifests: Sequence[Manifest]
) -> Lineage:
    encoders = [manifest.config.get("encoder") for manifest in manifests]
    settings = [{k: v for k, v in of.config.items() if k != "encoder"} for of in manifests]
    names, alone = plain_names(features), len(manifests) == 1
    return {
        "features": names,
        "encoder": encoders[0] if alone else encoders,
        "sources": {k: v for of in manifests for k, v in of.sources.items()} | sources,
        "extract": settings[0] if alone else settings,
    }


def load_split(
    store: Store, features: FeatureNames, task: Task, split: Split, fold: str | None = None
) -> tuple[NDArray[np.floating], Timelines]:
    """Features and timelines of the videos of one split of a task, official or a fold's.

    Raises:
        NotThereError: There are no such features, or the split has no annotated video.
    """
    load_sources(store, features)
    labels = load_fold(store, task, fold)
    videos = [name for name, of in labels.items() if of.split is split]
    if not videos:
        raise _no_annotations(store, task, split)
    rows = read_features(store, features, videos)
    assert isinstance(rows.values, np.ndarray)
    return rows.values, rows.timelines(videos, {task: labels})


def check_groups(store: Store, task: Task, fold: str | None = None) -> None:
    """Refuse to fit post-processing on validation before anything is begun.

    Raises:
        SettingsError: There are too few videos (folds.two_groups).
    """
    labels = load_fold(store, task, fold).values()
    own = [of for of in labels if of.split is Split.VALIDATION]
    names, valid = [of.video for of in own], [of.valid for of in own]
    two_groups(task, names, [of.values for of in own], valid)


def load_sources(store: Store, features: FeatureNames) -> dict[str, str]:
    """Digests of what the task data is made from, by folder.

    Raises:
        NotThereError: There are no such features.
        ConflictError: They were made from another dataset than the store's.
    """
    return _read_sources(store, features)[0]


def _read_sources(store: Store, features: FeatureNames) -> tuple[dict[str, str], list[Manifest]]:
    """The same, and the manifests of the features."""
    names = feature_names(features)
    manifests = [read_manifest(store, features_folder(name)) for name in names]
    dataset = read_manifest(store, DATASET).digest()
    for name, manifest in zip(names, manifests, strict=True):
        if manifest.sources.get(DATASET, dataset) != dataset:
            maker = "extract" if manifest.config.get("encoder") else "features import DIR"
            raise ConflictError(
                f"The features {name!r} were made from another dataset than the store's.",
                "features of the dataset that is in the store now",
                f"Make them again: raffect {maker} --name {name} --overwrite",
            )
    digests = [
        (features_folder(name), of.digest()) for name, of in zip(names, manifests, strict=True)
    ]
    return {DATASET: dataset, **dict(digests)}, manifests


def check_lineage(store: Store, lineage: Lineage) -> None:
    """Refuse features that were made again since a model was trained on them.

    Raises:
        NotThereError: There are no such features.
        ConflictError: Others have their name now, or the dataset is another.
    """
    now = load_sources(store, lineage["features"])
    for name in feature_names(lineage["features"]):
        trained_on = lineage["sources"][features_folder(name)]
        if now[features_folder(name)] != trained_on:
            raise ConflictError(
                f"The features {name!r} are not those that this model was trained on.",
                f"features with the digest {trained_on[:12]}",
                "Train a model on the features as they are now, or make the former ones again.",
            )


def check_encoder(store: Store, lineage: Lineage, name: str) -> None:
    """Refuse an encoder that was made again since a model was trained on its features.

    Raises:
        NotThereError: There is no such encoder.
        ConflictError: Another encoder has that name now.
    """
    folder = encoder_folder(name)
    if read_manifest(store, folder).digest() != lineage["sources"].get(folder):
        raise ConflictError(
            f"The encoder {name!r} is not the one whose features this model was trained on.",
            "the same encoder",
            "Train a model on features of the encoder as it is now.",
        )


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


def _check_rows(store: Store, names: Sequence[str], task: Task, train: Timelines) -> None:
    """Refuse a set of features that no training video has: nothing would be learnt of it."""
    present = train.present.reshape(train.frames, -1)
    if missing := [name for i, name in enumerate(names) if not present[:, i].any()]:
        raise NotThereError(
            f"The features {', '.join(missing)} have no row of the training videos of {task}.",
            "features of the videos that are trained on",
            "Import them with those of these videos, or leave them out; `raffect features --store"
            f" {store.uri}` lists what there is.",
        )


def _no_annotations(store: Store, task: Task, split: Split) -> NotThereError:
    return NotThereError(
        f"The dataset in {store.uri} has no {task.value.upper()} labels in {split.value}.",
        f"annotation files with valid frames in the challenge's {SPLIT_FOLDERS[split]}",
        "Prepare the dataset with the annotations of this task, or choose another task.",
    )
