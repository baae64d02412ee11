"""A trained model with all that predicting with it needs, read from the store."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load

from raffect.affwild2.predictions import VideoPredictions
from raffect.affwild2.tasks import Split
from raffect.config import Device, TemporalConfig
from raffect.errors import ConflictError, NotThereError
from raffect.settings import build
from raffect.store import Manifest, Store, features_folder, read_manifest
from raffect.store.layout import CONFIG, METRICS, MODEL_WEIGHTS, MODELS
from raffect.temporal.data import Lineage, load_sources, load_split, read_features
from raffect.temporal.model import ModelDescription, ModelMetrics, TemporalModel
from raffect.temporal.prediction import predict
from raffect.temporal.timelines import build_timelines
from raffect.training.device import choose_device


@dataclass(frozen=True)
class ModelBundle:
    """A model that can predict.

    Attributes:
        config: The settings that it was trained with.
        model: On the device that computes.
        metrics: What training measured.
        manifest: Of the model's folder; None for a sweep's trial.
        feature_dim: Width of the features that it takes.
        lineage: What it was made from.
    """

    config: TemporalConfig
    model: TemporalModel
    metrics: ModelMetrics
    manifest: Manifest | None
    feature_dim: int
    lineage: Lineage

    @property
    def features(self) -> str:
        """Name of the features that it was trained on."""
        return str(self.lineage["features"])


def load_bundle(store: Store, folder: str, device: Device = "auto") -> ModelBundle:
    """The model of a `models/NAME` or `sweeps/NAME/trials/N` folder.

    Args:
        store: The store.
        folder: The folder.
        device: Where to compute; need not be where it was trained.

    Raises:
        NotThereError: The folder holds no whole model.
    """
    # Models exist with their manifest; trials are parts of a sweep and have none.
    manifest = read_manifest(store, folder) if folder.startswith(f"{MODELS}/") else None
    try:
        described: ModelDescription = json.loads(store.read_bytes(f"{folder}/{CONFIG}"))
        metrics = json.loads(store.read_bytes(f"{folder}/{METRICS}"))
        weights = load(store.read_bytes(f"{folder}/{MODEL_WEIGHTS}"))
    except FileNotFoundError:
        raise NotThereError(
            f"{store.where(folder)} holds no model.",
            "the folder of a trained model or of a sweep's trial",
            "See `raffect trials` for the trials that saved a model.",
        ) from None
    config = build(TemporalConfig, described["config"])
    model = TemporalModel(config, described["feature_dim"])
    model.load_state_dict(weights)
    model.to(choose_device(device)).eval()
    return ModelBundle(
        config=config,
        model=model,
        metrics=metrics,
        manifest=manifest,
        feature_dim=described["feature_dim"],
        lineage=described["lineage"],
    )


def predict_split(store: Store, bundle: ModelBundle, split: Split) -> list[VideoPredictions]:
    """Predictions of every frame of every annotated video of a split of the bundle's task.

    Raises:
        NotThereError: The store lacks the features that the model was trained on, or the labels.
        ConflictError: Other features have their name now.
    """
    _check_features(store, bundle)
    features, timelines = load_split(store, bundle.features, bundle.config.task, split)
    predictions = predict(bundle.model, bundle.config, features, timelines)
    pairs = zip(timelines.videos, predictions, strict=True)
    return [_of_video(video, values) for video, values in pairs]


def predict_videos(
    store: Store, bundle: ModelBundle, lengths: Mapping[str, int]
) -> list[VideoPredictions]:
    """Predictions of videos of the dataset, annotated or not, e.g. those of a test set.

    Args:
        store: The store of the features.
        bundle: The model.
        lengths: Per video the last frame that is wanted; longer where there are later crops.

    Raises:
        NotThereError: The store lacks the features, or they have no crop of some of the videos.
        ConflictError: Other features have their name now.
    """
    _check_features(store, bundle)
    features, crops = read_features(store, bundle.features, lengths)
    missing = sorted(set(lengths) - set(crops))
    if missing:
        raise NotThereError(
            f"The features {bundle.features!r} have no crop of {len(missing)} of {len(lengths)}"
            f" videos: {', '.join(missing[:5])}",
            "videos that were prepared and extracted",
            "Prepare their crops, too (one more --images), then extract; or correct the names.",
        )
    predictions = []
    for video, wanted in lengths.items():
        frames, rows = crops[video]
        length = max(wanted, int(frames.max()))
        predictions.append(
            _of_video(video, predict_features(bundle, features[rows], frames, length))
        )
    return predictions


def _check_features(store: Store, bundle: ModelBundle) -> None:
    folder = features_folder(bundle.features)
    trained_on = bundle.lineage["sources"][folder]
    if load_sources(store, bundle.features)[folder] != trained_on:
        raise ConflictError(
            f"The features {bundle.features!r} are not those that this model was trained on.",
            f"features with the digest {trained_on[:12]}",
            "Train a model on the features as they are now, or extract the former ones again.",
        )


def _of_video(video: str, values: NDArray[np.floating]) -> VideoPredictions:
    frames = np.arange(1, len(values) + 1, dtype=np.int32)
    return VideoPredictions(video, frames, values.astype(np.float64))


def predict_features(
    bundle: ModelBundle,
    features: NDArray[np.floating],
    frames: NDArray[np.integer],
    length: int,
) -> NDArray[np.float64]:
    """Predictions `(length, outputs)` of all frames of one video.

    Args:
        bundle: The model.
        features: One per crop, `(crops, features)`.
        frames: 1-based frame of each crop, `(crops,)`.
        length: Frames of the video, at least the last crop's.
    """
    assert features.shape == (len(frames), bundle.feature_dim)
    rows = np.arange(len(frames), dtype=np.int64)
    timelines = build_timelines(["video"], {"video": (frames, rows)}, {}, min_length=length)
    stored = np.ascontiguousarray(features, dtype=np.float16)
    return predict(bundle.model, bundle.config, stored, timelines)[0].astype(np.float64)
