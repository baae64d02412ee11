"""The stage `ensemble`: the models of a few trials, copied into one folder with their weights.

Weights are chosen on one half of the validation videos and scored on the other, and so is the
post-processing of the predictions that they are chosen on: nothing that a video is scored with
has seen its labels. What is used elsewhere is chosen on all of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray

from raffect.affwild2.folds import load_fold, two_groups
from raffect.affwild2.labels import VideoLabels
from raffect.affwild2.scores import score
from raffect.affwild2.sums import VideoSums, sums_of_videos
from raffect.affwild2.tasks import SPECS, Split, Task
from raffect.context import Context
from raffect.errors import ConflictError, SettingsError
from raffect.store import DATASET, Files, Manifest, Stage, Store, files_of, model_folder
from raffect.store.layout import CONFIG, MEMBERS, METRICS, MODEL_WEIGHTS, SUMS
from raffect.temporal.data import check_lineage
from raffect.temporal.ensemble import (
    METHODS,
    Counts,
    Ensemble,
    EnsembleDescription,
    MemberNote,
    MemberWeights,
    Raw,
    finish,
    is_ensemble,
    predict_raw,
    select,
)
from raffect.temporal.inference import ModelBundle, load_bundle
from raffect.temporal.seen import describe_seen, find_seen
from raffect.training.checkpoints import json_bytes

Labels = Mapping[str, VideoLabels]
_SELECTION = {
    "mean": "equal weights",
    "greedy": "weights of each half of the validation videos were chosen on the other half",
}


class EnsembleMetrics(TypedDict):
    """An ensemble's metrics.json: as of any model, and what it averages.

    Its sums are those of `best_epoch`; `raw` is the score without the members' post-processing.
    """

    task: str
    metric: str
    selection: str
    score: float
    parts: dict[str, float]
    best_epoch: int
    method: str
    members: list[MemberNote]
    weights: Mapping[str, Any]
    raw: NotRequired[float]


@dataclass(frozen=True)
class Member:
    """A model to take part: as users name it, its folder in the store, and its files."""

    name: str
    folder: str
    files: Mapping[str, bytes]

    @classmethod
    def read(cls, store: Store, name: str, folder: str | Files) -> Member:
        """The model of a folder; a SettingsError if it is an ensemble itself."""
        source = files_of(store, folder)
        if is_ensemble(source):
            raise SettingsError(
                f"{name!r} is an ensemble itself.",
                "models, and trials of sweeps",
                "Name its members instead.",
            )
        files = {}
        for file in (MODEL_WEIGHTS, CONFIG, METRICS, SUMS):
            try:
                files[file] = source.read(file)
            except FileNotFoundError:
                # Models of before 0.4 have no sums.
                continue
        return cls(name, source.folder, files)

    @property
    def digest(self) -> str:
        """SHA-256 of what decides about its predictions."""
        return hashlib.sha256(self.files[MODEL_WEIGHTS] + self.files[CONFIG]).hexdigest()


def make_ensemble(
    store: Store,
    name: str,
    wanted: Sequence[tuple[str, str | Files]],
    method: str = "greedy",
    context: Context = Context(),
) -> Manifest:
    """Average models into `models/NAME`, which needs the store's features and nothing else.

    Args:
        wanted: Of each member the name and the folder (predict.resolve_members).
        method: `mean`, or `greedy` (ensemble.select).

    Raises:
        SettingsError: There is no such method, a model is named twice or is an ensemble, models
            are of several tasks or folds, or there are too few videos to choose weights on.
        NotThereError: A folder holds no whole model.
        ConflictError: Models are of different data, or the features are others now; or the name is
            taken by something else.
    """
    if method not in METHODS:
        raise SettingsError(
            f"There is no method {method!r}.", ", ".join(METHODS), "Give one with --method."
        )
    members = [Member.read(store, *each) for each in wanted]
    bundles = [load_bundle(store, folder) for _, folder in wanted]
    _check_alike(members, bundles)
    for bundle in bundles:
        check_lineage(store, bundle.lineage)
    first = bundles[0].config
    labels = load_fold(store, first.task, first.fold)
    held = {video: of for video, of in labels.items() if of.split is Split.VALIDATION}
    groups = _group(first.task, held) if method != "mean" else ((), ())
    description = EnsembleDescription(
        task=first.task.value,
        fold=first.fold,
        method=method,
        members=[f"{MEMBERS}/{i:05d}" for i in range(len(members))],
    )
    used = {k: v for of in bundles for k, v in of.lineage["sources"].items()}
    plan = {
        **description,
        "members": [{"model": of.name, "digest": of.digest} for of in members],
    }
    stage = Stage(store, model_folder(name), "ensemble", plan, used, context.overwrite)
    if stage.finished is not None:
        return stage.finished
    seen = find_seen(store, used, first.task, first.fold)
    for line in describe_seen(seen, first.fold):
        context.on_note(line)
    raw = predict_raw(store, bundles, Split.VALIDATION)
    weights = _choose(method, bundles, raw, held, groups)
    ensemble = Ensemble(tuple(bundles), weights)
    scored = {video: of for video, of in held.items() if of.valid.any()}
    predictions = _validate(ensemble, raw, scored)
    true = [of.values[of.valid] for of in scored.values()]
    whole = score(first.task, np.concatenate(predictions), np.concatenate(true))
    sums = sums_of_videos(first.task, predictions, true)
    metrics = EnsembleMetrics(
        task=first.task.value,
        metric=SPECS[first.task].score_name,
        selection=_SELECTION[method],
        score=whole.value,
        parts=whole.parts,
        best_epoch=1,
        method=method,
        members=_notes(members, bundles, weights),
        weights=weights.canonical(),
    )
    if any(bundle.postprocess for bundle in bundles):
        own = np.concatenate(_validate(ensemble.raw(), raw, scored))
        metrics["raw"] = score(first.task, own, np.concatenate(true)).value
    parts = [
        stage.write_part(f"{folder}/{file}", data)
        for folder, member in zip(description["members"], members, strict=True)
        for file, data in member.files.items()
    ]
    files = {
        SUMS: VideoSums(first.task, tuple(scored), (1,), sums[None]).to_bytes(),
        CONFIG: json_bytes(description),
        METRICS: json_bytes(metrics),
    }
    parts += [stage.write_part(file, data) for file, data in files.items()]
    counts = {"score": whole.value, "members": len(members)}
    return stage.finish(parts, counts, notes={"seen": seen} if seen else {})


def read_metrics(store: Store, name: str) -> EnsembleMetrics:
    """What an ensemble's metrics.json holds."""
    metrics: EnsembleMetrics = files_of(store, model_folder(name)).read_json(METRICS)
    return metrics


def task_of(store: Store, folder: str | Files) -> Task:
    """The task of the model in a folder."""
    described = files_of(store, folder).read_json(CONFIG)
    return Task(described.get("config", described)["task"])


def _notes(
    members: Sequence[Member], bundles: Sequence[ModelBundle], weights: MemberWeights
) -> list[MemberNote]:
    total = sum(weights.final)
    return [
        MemberNote(model=member.name, weight=count / total, score=bundle.metrics["score"])
        for member, bundle, count in zip(members, bundles, weights.final, strict=True)
    ]


def _check_alike(members: Sequence[Member], bundles: Sequence[ModelBundle]) -> None:
    folders = [member.folder for member in members]
    if twice := sorted({folder for folder in folders if folders.count(folder) > 1}):
        raise SettingsError(
            f"A model is named twice: {', '.join(twice)}.", "each model once", "Name it once."
        )

    def told(of: Sequence[object]) -> str:
        pairs = zip(members, of, strict=True)
        return ", ".join(f"{member.name} of {value}" for member, value in pairs)

    tasks = [bundle.config.task.value for bundle in bundles]
    if len(set(tasks)) > 1:
        raise SettingsError(
            f"These models are of different tasks: {told(tasks)}.",
            "models of one task",
            "Make an ensemble for each task.",
        )
    folds = [bundle.config.fold or "the official split" for bundle in bundles]
    if len(set(folds)) > 1:
        raise SettingsError(
            f"These models were validated on different videos: {told(folds)}.",
            "models of one fold, or of the official split",
            "Average models that were trained with the same --fold: on the videos of one fold, the"
            " others would be scored on what they were trained on.",
        )
    data = [bundle.lineage["sources"].get(DATASET, "unknown")[:12] for bundle in bundles]
    if len(set(data)) > 1:
        raise ConflictError(
            f"These models were trained on different datasets: {told(data)}.",
            "models of the dataset that the store holds now",
            "Train them again on it.",
        )


def _group(task: Task, held: Labels) -> tuple[tuple[str, ...], tuple[str, ...]]:
    values, valid = [of.values for of in held.values()], [of.valid for of in held.values()]
    groups = dict(zip(held, two_groups(task, list(held), values, valid).tolist(), strict=True))
    first, second = (tuple(v for v, g in groups.items() if g == group) for group in (0, 1))
    return first, second


def _choose(
    method: str,
    members: Sequence[ModelBundle],
    raw: Sequence[Raw],
    held: Labels,
    groups: tuple[tuple[str, ...], tuple[str, ...]],
) -> MemberWeights:
    task = members[0].config.task

    def on(videos: Sequence[str], like: str | None) -> Counts:
        """What is best on these videos, post-processed as the one is that the weights are for."""
        scored = [video for video in videos if held[video].valid.any()]
        finished = [finish(members, raw, video, like) for video in scored]
        predictions = [
            np.concatenate([_valid(of, held[v]) for v, of in zip(scored, own, strict=True)])
            for own in zip(*finished, strict=True)
        ]
        labels = np.concatenate([held[video].values[held[video].valid] for video in scored])
        return select(task, predictions, labels)

    if method == "mean":
        equal: Counts = (1,) * len(members)
        return MemberWeights(groups=groups, applied=(equal, equal), final=equal)
    first, second = groups
    return MemberWeights(
        groups=groups,
        applied=(on(second, first[0]), on(first, second[0])),
        final=on([*first, *second], None),
    )


def _validate(ensemble: Ensemble, raw: Sequence[Raw], scored: Labels) -> list[NDArray[np.float32]]:
    """Predictions of the valid frames of each video, as `predict_split` gives them."""
    return [
        _valid(ensemble.average(finish(ensemble.members, raw, video, video), video), of)
        for video, of in scored.items()
    ]


def _valid(predictions: NDArray[np.float32], labels: VideoLabels) -> NDArray[np.float32]:
    return predictions[: len(labels.valid)][labels.valid]
