"""Predictions of a split, of a folder of crops or of the test set, as a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from raffect.affwild2.csvfile import check_output
from raffect.affwild2.predictions import VideoPredictions, write_predictions
from raffect.affwild2.submission import example_lengths
from raffect.affwild2.tasks import Split, parse_split
from raffect.context import Progress, ignore
from raffect.errors import SettingsError
from raffect.predict.models import resolve
from raffect.store import Store
from raffect.store.raw import RawFolder
from raffect.temporal.ensemble import Ensemble, load_ensemble, predict_split, predict_videos
from raffect.temporal.inference import predict_features, whole_video


@dataclass(frozen=True)
class Predicted:
    """What was predicted.

    Attributes:
        skipped: Files of a folder that could not be used, with why.
        postprocess: What was done with the model's predictions, in words; empty: nothing.
    """

    frames: int
    skipped: tuple[str, ...]
    postprocess: str = ""


def predict_to_file(
    store: Store,
    model: str,
    out: Path,
    frames: str | Path | None = None,
    split: str | None = None,
    example: Path | None = None,
    first_frame: int | None = None,
    raw: bool = False,
    progress: Progress = ignore,
) -> Predicted:
    """Predict a split, a folder of crops, or what an example file names, into a predictions file.

    Args:
        model: `models/NAME`, `sweeps/SWEEP[:TRIAL]` (leaderboard.find_trial), or either without
            its folder.
        frames: A folder of crops `00001.jpg` ... of one video, or `s3://bucket/prefix`.
        example: The organisers' example file: its videos, e.g. those of the test set.
        first_frame: Number of the first frame in the names of `frames`; rows count from 1.
        raw: Write what the model predicts, without its post-processing.
        progress: Counts the crops of `frames`.

    Raises:
        SettingsError: Not exactly one of `frames`, `split` and `example`, or an ambiguous name.
        NotThereError: There is no such model or trial, or no crop of a video of the example.
        DataError: The folder or the example file is not what it should be.
    """
    if sum(source is not None for source in (frames, split, example)) != 1:
        raise SettingsError(
            "predict takes one of --frames, --split, --example and --video.",
            "--split validation, --frames DIR of crops, --example FILE of the organisers, or"
            " --video FILE|DIR",
            "Say what to predict.",
        )
    check_output(out)
    chosen = Split.VALIDATION if split is None else parse_split(split)
    ensemble = load_ensemble(store, resolve(store, model))
    if raw:
        ensemble = ensemble.raw()
    task = ensemble.config.task
    skipped: list[str] = []
    if frames is not None:
        folder = RawFolder.of(frames, "--frames")
        predictions = [predict_folder(store, ensemble, folder, skipped, first_frame, progress)]
    elif example is not None:
        lengths = example_lengths(task, example)
        predictions = predict_videos(store, ensemble, lengths)
    else:
        predictions = predict_split(store, ensemble, chosen)
    write_predictions(out, task, predictions)
    done = ensemble.describe_postprocess()
    if done and frames is None and example is None and chosen is Split.VALIDATION:
        done = "on each half of the videos what was fitted on the other, as in its score"
    return Predicted(sum(len(each.frames) for each in predictions), tuple(skipped), done)


def predict_folder(
    store: Store,
    ensemble: Ensemble,
    folder: RawFolder,
    skipped: list[str],
    first_frame: int | None = None,
    progress: Progress = ignore,
) -> VideoPredictions:
    """Predictions of every frame of a folder of crops, up to the last crop.

    The encoders are those whose features the members were trained on; each computes once.
    `skipped` takes the files that are no crop or do not decode.

    Raises:
        DataError: The folder has no crop that can be read, or is not one video's.
        SettingsError: The model was trained on features that no encoder makes.
        ConflictError: Another encoder has that name now.
    """
    from raffect.clip.folder import encode_folder, find_crops
    from raffect.predict.encoders import find_sets, join_sets, load_sets

    find_sets([ensemble])
    crops = find_crops(folder, first_frame)
    encoded: dict[str, NDArray[np.floating]] = {}
    for key, (encoder, config) in load_sets(store, [ensemble]).items():
        # Each encoder reads the same files: what is skipped is told once.
        told = [] if encoded else skipped
        frames, encoded[key] = encode_folder(encoder, folder, crops, told, config, progress)
    length = int(frames.max())
    predictions = [
        predict_features(member, join_sets(member, encoded), frames, length)
        for member in ensemble.members
    ]
    return whole_video(folder.name, ensemble.average(predictions))
