"""Several models of a task as one: their predictions averaged, by equal or by selected weights.

A model alone is an ensemble of one, to the bit; so there is one way to predict with either.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from raffect.affwild2.predictions import VideoPredictions
from raffect.affwild2.sums import score_sums, video_sums
from raffect.affwild2.tasks import Split, Task
from raffect.config import Device, TemporalConfig
from raffect.settings import build
from raffect.store import Files, Store, files_of
from raffect.store.features import feature_names
from raffect.store.layout import CONFIG, METRICS
from raffect.store.verified import reading
from raffect.temporal.data import check_lineage, load_split
from raffect.temporal.inference import (
    ModelBundle,
    load_bundle,
    predict,
    predict_rows,
    read_videos,
    whole_video,
)
from raffect.temporal.postprocess import OfGroups

Counts = tuple[int, ...]
"""How many times each member counts in the mean."""
Raw = Mapping[str, tuple[NDArray[np.float32], int]]
"""By video a model's own predictions `(frames, outputs)`, and the frame of its last crop."""
METHODS = ("greedy", "mean")
ROUNDS = 25
"""Of greedy selection: weights are multiples of a 25th at the finest."""


class MemberWeights(OfGroups[Counts]):
    """Weights of an ensemble's members for the two groups of validation videos, and elsewhere."""


class MemberNote(TypedDict):
    """A member in an ensemble's metrics.json: as it was named, its share, and its own score."""

    model: str
    weight: float
    score: float


class EnsembleDescription(TypedDict):
    """An ensemble's config.json; the members' own files lie in the folders that it names."""

    task: str
    fold: str | None
    method: str
    members: list[str]


@dataclass(frozen=True)
class Ensemble:
    """Models whose predictions, post-processed each by itself, are averaged."""

    members: tuple[ModelBundle, ...]
    weights: MemberWeights

    @property
    def config(self) -> TemporalConfig:
        """Of the first member: task and fold are those of all."""
        return self.members[0].config

    def raw(self) -> Ensemble:
        """The same without the members' post-processing."""
        members = tuple(replace(member, postprocess=None) for member in self.members)
        return replace(self, members=members)

    def describe_postprocess(self) -> str:
        """What is done with new videos' predictions, in words; empty: nothing."""
        fitted = [one.postprocess.final for one in self.members if one.postprocess is not None]
        if not fitted:
            return ""
        alone = len(self.members) == 1
        return fitted[0].describe(self.config.task) if alone else "each member's own"

    def average(
        self, predictions: Sequence[NDArray[np.floating]], video: str | None = None
    ) -> NDArray[np.float32]:
        """The mean `(frames, outputs)` of the members' predictions of one video.

        A validation video has the weights that were chosen on others, as it had when it was
        scored.
        """
        counts = self.weights.final if video is None else self.weights.of(video)
        # Features that end earlier have fewer frames; every annotated one is among them.
        frames = min(map(len, predictions))
        return mean_of([values[:frames] for values in predictions], counts)


def load_ensemble(store: Store, folder: str | Files, device: Device = "auto") -> Ensemble:
    """The ensemble or the model of a folder (see `load_bundle`).

    Raises:
        NotThereError: The folder holds no whole model.
    """
    files = files_of(store, folder)
    if not is_ensemble(files):
        one: Counts = (1,)
        alone = MemberWeights(groups=((), ()), applied=(one, one), final=one)
        return Ensemble((load_bundle(store, files, device),), alone)
    described: EnsembleDescription = files.read_json(CONFIG)
    metrics = files.read_json(METRICS)
    with reading(store, f"{files.folder}/{METRICS}"):
        weights = build(MemberWeights, metrics["weights"])
    folders = [f"{files.folder}/{name}" for name in described["members"]]
    return Ensemble(tuple(load_bundle(store, each, device) for each in folders), weights)


def is_ensemble(files: Files) -> bool:
    """Whether a folder holds an ensemble, rather than a model or nothing."""
    try:
        return "members" in files.read_json(CONFIG)
    except FileNotFoundError:
        return False


def predict_split(store: Store, ensemble: Ensemble, split: Split) -> list[VideoPredictions]:
    """Predictions of every frame of every annotated video of a split, official or the fold's.

    Raises:
        NotThereError: The store lacks the features of a member, or the labels.
        ConflictError: Other features have their name now.
    """
    raw = predict_raw(store, ensemble.members, split)
    return [
        whole_video(video, ensemble.average(finish(ensemble.members, raw, video, video), video))
        for video in raw[0]
    ]


def predict_raw(store: Store, members: Sequence[ModelBundle], split: Split) -> list[Raw]:
    """Each member's own predictions of a split; features that several have are read once."""
    found: dict[int, Raw] = {}
    for features, numbers in _by_features(members):
        config = members[numbers[0]].config
        for i in numbers:
            check_lineage(store, members[i].lineage)
        values, timelines = load_split(store, list(features), config.task, split, config.fold)
        for i in numbers:
            predictions = predict(members[i].model, members[i].config, values, timelines)
            pairs = zip(predictions, timelines.seen.tolist(), strict=True)
            found[i] = dict(zip(timelines.videos, pairs, strict=True))
    return [found[i] for i in range(len(members))]


def finish(
    members: Sequence[ModelBundle], raw: Sequence[Raw], video: str, like: str | None
) -> list[NDArray[np.float32]]:
    """Each member's predictions of a video, post-processed as the video `like` is; None: as new
    videos are."""
    pairs = zip(members, raw, strict=True)
    return [member.finish(*own[video], like) for member, own in pairs]


def predict_videos(
    store: Store, ensemble: Ensemble, lengths: Mapping[str, int]
) -> list[VideoPredictions]:
    """Predictions of videos of the dataset, annotated or not, e.g. those of a test set.

    `lengths` has the last frame that is wanted per video; later crops lengthen it.

    Raises:
        NotThereError: The store lacks the features, or they have no crop of some of the videos.
        ConflictError: Other features have their name now.
    """
    found: dict[int, list[VideoPredictions]] = {}
    for features, numbers in _by_features(ensemble.members):
        for i in numbers:
            check_lineage(store, ensemble.members[i].lineage)
        rows = read_videos(store, list(features), lengths)
        for i in numbers:
            found[i] = predict_rows(ensemble.members[i], rows, lengths)
    each = zip(*(found[i] for i in range(len(found))), strict=True)
    return [
        whole_video(own[0].video, ensemble.average([of.values for of in own], own[0].video))
        for own in each
    ]


def _by_features(members: Sequence[ModelBundle]) -> Iterator[tuple[tuple[str, ...], list[int]]]:
    """The members' numbers by the features that they read."""
    numbers: dict[tuple[str, ...], list[int]] = {}
    for i, member in enumerate(members):
        numbers.setdefault(tuple(feature_names(member.features)), []).append(i)
    yield from numbers.items()


def mean_of(predictions: Sequence[NDArray[np.floating]], counts: Counts) -> NDArray[np.float32]:
    """The mean of members' predictions `(frames, outputs)`, each taken so many times."""
    pairs = zip(predictions, counts, strict=True)
    total = sum(count * own.astype(np.float64) for own, count in pairs if count)
    return np.asarray(total / sum(counts), np.float32)


def select(task: Task, predictions: Sequence[NDArray[Any]], labels: NDArray[Any]) -> Counts:
    """Greedy selection with replacement (Caruana et al., "Ensemble Selection from Libraries of
    Models", 2004).

    The member that helps the mean most is added, again and again; the best of these means is
    kept, or that of all members where it is better. So it is never worse, on these frames, than
    any member or than the plain mean; of equals the first member is taken.

    Args:
        predictions: Of each member, `(frames, outputs)`.
        labels: `(frames, label_width)`, all valid.
    """

    def score(values: NDArray[np.float32]) -> float:
        return float(
            score_sums(task, np.ones((1, 1), int), video_sums(task, values, labels)[None])[0]
        )

    kept: Counts = (1,) * len(predictions)
    best = score(mean_of(predictions, kept))
    total = np.zeros(predictions[0].shape)
    counts = [0] * len(predictions)
    for size in range(1, ROUNDS + 1):
        scores = [score(((total + own) / size).astype(np.float32)) for own in predictions]
        chosen = int(np.argmax(scores))
        counts[chosen] += 1
        total += predictions[chosen]
        if scores[chosen] > best:
            kept, best = tuple(counts), scores[chosen]
    return kept
