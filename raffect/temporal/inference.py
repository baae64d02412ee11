"""Trained models of the store, and predictions: every frame of every video (blending.py).

Training validates with this module, so that predicting again gives the very same numbers. Models
compute in float32 here, whatever they were trained in: a CPU has to predict what a GPU scored.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load
from torch import Tensor

from raffect.affwild2.predictions import VideoPredictions
from raffect.affwild2.tasks import SPECS, Split
from raffect.config import Device, TemporalConfig
from raffect.errors import NotThereError
from raffect.settings import build, override
from raffect.store import Files, Manifest, Store, files_of, read_manifest
from raffect.store.features import FeatureNames, dtype_of, plain_names
from raffect.store.layout import CONFIG, METRICS, MODEL_WEIGHTS, MODELS, REMOVED
from raffect.store.verified import reading
from raffect.temporal.batches import DeviceTimelines, to_device
from raffect.temporal.blending import make_blend
from raffect.temporal.data import Lineage, check_lineage, load_split, sets_of
from raffect.temporal.model import ModelDescription, ModelMetrics, TemporalModel, activate
from raffect.temporal.postprocess import CrossFitted, postprocess
from raffect.temporal.rows import FeatureRows, read_features
from raffect.temporal.shares import Shares
from raffect.temporal.timelines import Timelines, build_timelines
from raffect.training.device import choose_device, whole_float32
from raffect.training.reduce import LOCAL, Reducer

BATCH = 32
"""Segments per step; fixed, as results depend on it in their last bits."""


@dataclass(frozen=True)
class ModelBundle:
    """A model on the device that computes, and its record; a sweep's trial has no manifest.

    Its predictions are post-processed; without `postprocess` they are the model's own.
    """

    config: TemporalConfig
    model: TemporalModel
    metrics: ModelMetrics
    manifest: Manifest | None
    feature_dim: int
    lineage: Lineage
    postprocess: CrossFitted | None = None

    @property
    def features(self) -> str | list[str]:
        """Name of the features that it was trained on; of several sets all of them."""
        return self.lineage["features"]

    def finish(
        self, predictions: NDArray[np.float32], seen: int, video: str | None = None
    ) -> NDArray[np.float32]:
        """The post-processed predictions of a video, whose last crop is that of frame `seen`.

        A validation video has the values that were fitted on others, as it had when it was scored.
        """
        if self.postprocess is None:
            return predictions
        values = self.postprocess.final if video is None else self.postprocess.of(video)
        return postprocess(self.config.task, values, predictions, seen)


def load_bundle(store: Store, folder: str | Files, device: Device = "auto") -> ModelBundle:
    """The model of a `models/NAME` or `sweeps/NAME/trials/N` folder, wherever it was trained.

    Raises:
        NotThereError: The folder holds no whole model.
        DamagedError: A file of it is not as it was written.
    """
    files = files_of(store, folder)
    # Models exist with their manifest; trials and members of ensembles are parts of a folder.
    group, _, name = files.folder.partition("/")
    manifest = read_manifest(store, files.folder) if group == MODELS and "/" not in name else None
    try:
        described: ModelDescription = files.read_json(CONFIG)
        metrics: ModelMetrics = files.read_json(METRICS)
        weights = files.parse(MODEL_WEIGHTS, load)
    except FileNotFoundError:
        if store.exists(f"{files.folder}/{REMOVED}"):
            trial = f"{files.folder.split('/')[1]}:{int(name.rpartition('/')[2])}"
            raise NotThereError(
                f"The weights of trial {trial} were removed (--keep-models).",
                "the best trials of the sweep",
                f"Train it again: raffect retrain {trial} --seeds 1 --store {store.uri}",
            ) from None
        raise NotThereError(
            f"{store.where(files.folder)} holds no model.",
            "the folder of a trained model or of a sweep's trial",
            "See `raffect trials` for the trials that saved a model.",
        ) from None
    with reading(store, f"{files.folder}/{CONFIG}"):
        config = build(TemporalConfig, described["config"])
        if "blend" not in described["config"]["segments"]:
            # Made before raffect 0.3: predicting again gives the score that the model has there.
            config = override(config, {"segments.blend": "mean"})
        model = TemporalModel(config, described.get("feature_dims", described["feature_dim"]))
        feature_dim, lineage = described["feature_dim"], described["lineage"]
    with reading(store, f"{files.folder}/{MODEL_WEIGHTS}"):
        model.load_state_dict(weights)
    with reading(store, f"{files.folder}/{METRICS}"):
        fitted = metrics.get("postprocess")
        postprocess = None if fitted is None else build(CrossFitted, fitted)
    model.to(choose_device(device)).eval()
    return ModelBundle(
        config=config,
        model=model,
        metrics=metrics,
        manifest=manifest,
        feature_dim=feature_dim,
        lineage=lineage,
        postprocess=postprocess,
    )


def predict_split(store: Store, bundle: ModelBundle, split: Split) -> list[VideoPredictions]:
    """Predictions of every frame of every annotated video of a split of the bundle's task.

    Raises:
        NotThereError: The store lacks the features that the model was trained on, or the labels.
        ConflictError: Other features have their name now.
    """
    check_lineage(store, bundle.lineage)
    config = bundle.config
    features, timelines = load_split(store, bundle.features, config.task, split, config.fold)
    predictions = predict(bundle.model, config, features, timelines)
    of_videos = zip(timelines.videos, predictions, timelines.seen.tolist(), strict=True)
    return [
        whole_video(video, bundle.finish(values, seen, video)) for video, values, seen in of_videos
    ]


def predict_videos(
    store: Store, bundle: ModelBundle, lengths: Mapping[str, int]
) -> list[VideoPredictions]:
    """Predictions of videos of the dataset, annotated or not, e.g. those of a test set.

    `lengths` has the last frame that is wanted per video; later crops lengthen it.

    Raises:
        NotThereError: The store lacks the features, or they have no crop of some of the videos.
        ConflictError: Other features have their name now.
    """
    check_lineage(store, bundle.lineage)
    return predict_rows(bundle, read_videos(store, bundle.features, lengths), lengths)


def read_videos(store: Store, features: FeatureNames, videos: Collection[str]) -> FeatureRows:
    """Features of videos; a NotThereError if they have no crop of some of them."""
    rows = read_features(store, features, videos)
    missing = sorted(set(videos) - set(rows.crops))
    if missing:
        raise NotThereError(
            f"The features {plain_names(features)!r} have no crop of {len(missing)} of"
            f" {len(videos)} videos: {', '.join(missing[:5])}",
            "videos that were prepared, and extracted or imported",
            "Prepare their crops, too (one more --images), then make the features again; or"
            " correct the names.",
        )
    return rows


def predict_rows(
    bundle: ModelBundle, rows: FeatureRows, lengths: Mapping[str, int]
) -> list[VideoPredictions]:
    """Predictions of videos of which the features were read, as `predict_videos`."""
    predictions = []
    for video, wanted in lengths.items():
        frames, index = rows.crops[video]
        length = max(wanted, int(frames.max()))
        own = None if rows.own is None else rows.own[index]
        values = predict_features(bundle, rows.values[index], frames, length, own, video)
        predictions.append(whole_video(video, values))
    return predictions


def whole_video(video: str, values: NDArray[np.floating]) -> VideoPredictions:
    """Predictions `(frames, outputs)` of all frames of a video, from the first."""
    frames = np.arange(1, len(values) + 1, dtype=np.int32)
    return VideoPredictions(video, frames, values.astype(np.float64))


def predict_features(
    bundle: ModelBundle,
    features: NDArray[np.floating],
    frames: NDArray[np.integer],
    length: int,
    own: NDArray[np.bool_] | None = None,
    video: str | None = None,
) -> NDArray[np.float64]:
    """Predictions `(length, outputs)` of all frames of one video.

    `features` `(crops, features)` and 1-based `frames` `(crops,)` are those of its crops; the
    length is at least the last crop's frame. `own` `(crops, sets)` says which of several sets of
    features they are of; None: of all. `video` is its name in the dataset, if it has one.
    """
    assert features.shape == (len(frames), bundle.feature_dim)
    rows = np.arange(len(frames), dtype=np.int64)
    timelines = build_timelines(["video"], {"video": (frames, rows)}, {}, length, own)
    # As the features that the model was trained on are kept.
    dtype = np.result_type(*(dtype_of(each.extract) for each in sets_of(bundle.lineage)))
    stored = np.ascontiguousarray(features, dtype)
    (found,) = predict(bundle.model, bundle.config, stored, timelines)
    return bundle.finish(found, int(timelines.seen[0]), video).astype(np.float64)


def predict(
    model: TemporalModel,
    config: TemporalConfig,
    features: NDArray[np.floating] | Tensor,
    timelines: Timelines,
    reducer: Reducer = LOCAL,
) -> list[NDArray[np.float32]]:
    """Predictions of the main task per video `(frames, outputs)`: VA values, or probabilities.

    Computed where the model lies; the timelines point into `features` `(rows, features)`.
    """
    device = next(model.parameters()).device
    resident = DeviceTimelines(features, timelines, device)
    return timelines.split(predict_resident(model, config, resident, reducer))


@torch.inference_mode()
def predict_resident(
    model: TemporalModel,
    config: TemporalConfig,
    resident: DeviceTimelines,
    reducer: Reducer = LOCAL,
    shares: Shares | None = None,
) -> NDArray[np.float32]:
    """Predictions `(frames, outputs)` of all frames of timelines that lie on the device.

    Several workers take turns, or each predicts the videos of its `shares`; all have the whole.
    """
    was_training = model.training
    model.eval()
    looks_ahead = config.model.transformer.layers > 0
    blend = make_blend(resident.timelines, config.segments, looks_ahead)
    settled = to_device(blend.settled, resident.device)
    width = SPECS[config.task].outputs
    # The last column is the sum of the weights per frame. In float64 the order of overlapping
    # segments does not change the mean after rounding to float32.
    shape = (resident.timelines.frames, width + 1)
    sums = torch.zeros(shape, dtype=torch.float64, device=resident.device)
    own = None if shares is None else shares.is_own(resident.timelines, blend.segments)
    steps = list(blend.batches(BATCH, own))
    if own is None:
        steps = steps[reducer.rank :: reducer.size]
    made = resident.each(steps, lambda step: [resident.gather(blend.segments.take(step[0]))])
    for (numbers, back_only), (batch,) in zip(steps, made, strict=True):
        more = {"back_only": True} if back_only else {}
        with whole_float32():
            outputs = model(batch.x, batch.present, batch.real, **more)[config.task]
        values = activate(config.task, outputs).double()
        share = settled[batch.frames]
        weight = to_device(blend.weights(numbers), resident.device)
        weight = weight * (1 - share if back_only else share)
        if batch.real is not None:
            weight = weight * batch.real
        rows = torch.cat([values * weight[..., None], weight[..., None]], dim=-1)
        sums.index_add_(0, batch.frames.flatten(), rows.flatten(0, 1))
    model.train(was_training)
    sums = reducer.sum_in_place(sums)
    means = (sums[:, :-1] / sums[:, -1:])[to_device(blend.hold, resident.device)]
    found: NDArray[np.float32] = means.float().cpu().numpy()
    return found


def measure_latency(model: TemporalModel, config: TemporalConfig, frames: int = 3000) -> float:
    """Milliseconds per 1,000 frames, the best of three runs over one video with its features."""
    device = next(model.parameters()).device
    features = np.zeros((frames, model.feature_dim), dtype=np.float16)
    rows = np.arange(frames)
    timelines = build_timelines(["latency"], {"latency": (rows + 1, rows)}, {})
    resident = DeviceTimelines(features, timelines, device)
    times = []
    for _ in range(3):
        began = time.perf_counter()
        predict_resident(model, config, resident)
        times.append(time.perf_counter() - began)
    return min(times) * 1e6 / frames
