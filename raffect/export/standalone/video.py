"""A video's predictions from those of its segments: blended, smoothed, averaged. NumPy alone.

T frames, D features of S sets, O outputs.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Run = Callable[[Array, Array, Array, Array], Array]


def predict_folder(
    here: Path,
    crops: Path,
    encode: Callable[[Any, Any, list[Path]], Array],
    load: Callable[..., Run],
) -> Sequence[str]:
    """Lines of a predictions file for a folder of crops, 00001.jpg and on, of one video.

    `encode(config, set, files)` gives the features of crops, and `load(member)` a `Run`.
    """
    config = json.loads((here / "config.json").read_text())
    after = json.loads((here / "postprocess.json").read_text())
    files = {int(file.stem): file for file in crops.glob("*.jpg")}
    frames, encoded, total = np.array(sorted(files)), dict[str, Array](), 0.0
    for member, own in zip(config["members"], after["members"], strict=True):
        for one in member["sets"]:
            if one["graph"] not in encoded:
                rows = encode(config, one, [files[frame] for frame in frames])
                encoded[one["graph"]] = rows.astype(one["dtype"])
        x = np.concatenate([encoded[one["graph"]] for one in member["sets"]], axis=1)
        values = predict_video(load(member), member["predict"], x, frames, len(member["sets"]))
        values = postprocess(config["task"], own["postprocess"], values)
        total = total + own["count"] * values.astype(np.float64)
    mean = (total / sum(own["count"] for own in after["members"])).astype(np.float32)
    texts = (",".join(f"{value:.9g}" for value in row) for row in mean)
    lines = (f"{crops.resolve().name}/{i:05d}.jpg,{text}" for i, text in enumerate(texts, 1))
    return [config["header"], *lines]


def predict_video(run: Run, predict: Any, features: Array, frames: Array, sets: int) -> Array:
    """Predictions (T, O) of the frames 1 to T, that of the last crop.

    `run(features (1, n, D), present (1, n, S), real (1, n), look_back ())` has those of n frames,
    (1, n, O). `features` (crops, D) are of the `frames` (crops,), which count from 1; `predict` is
    the model's entry in config.json.
    """
    length, window, stride = int(frames.max()), predict["window"], predict["stride"]
    # A frame without a crop has the features of the last one before it, and is marked.
    row = np.full(length, -1)
    row[frames - 1] = np.arange(len(frames))
    present = row >= 0
    before = np.maximum.accumulate(np.where(present, np.arange(length), -1))
    x = features.astype(np.float32)[row[np.where(before >= 0, before, present.argmax())]]
    settled, rise = np.ones(length), np.ones(window)
    starts = [*range(0, length, stride)]
    if predict["blend"] == "mean":
        starts = [*range(0, max(0, length - window), stride), max(0, length - window)]
    else:
        rise = np.minimum(1, np.arange(1, window + 1) / (1 + min(stride, window - stride)))
        if predict["looks_ahead"]:
            age = (length - 1 - np.arange(length)) / window
            settled = np.minimum(1, age) ** predict["settling"]
    total, weights = np.zeros((length, predict["outputs"])), np.zeros((length, 1))
    for start in starts:
        here = slice(start, min(start + window, length))
        n = here.stop - start
        share = np.minimum(rise if start else rise[::-1], rise[::-1])[:n, None]
        for look_back in (False, True):
            if look_back and settled[here].min() == 1:
                continue
            weight = share * (1 - settled if look_back else settled)[here, None]
            marks = np.repeat(present[None, here, None], sets, 2)
            found = run(x[None, here], marks, np.ones((1, n), bool), np.array(look_back))[0]
            total[here] += weight * found
            weights[here] += weight
    return np.asarray((total / weights).astype(np.float32))


def postprocess(task: str, values: Any, predictions: Array) -> Array:
    """Smoothed and delayed predictions (T, O), with thresholds moved to 0.5."""
    if values is None:
        return predictions
    found = [smooth(predictions, **each) for each in values["filters"]]
    joined = found[0] if len(found) == 1 else np.stack([f[:, i] for i, f in enumerate(found)], 1)
    if values["thresholds"]:
        at, x = np.array(values["thresholds"]), joined.astype(np.float64)
        joined = np.where(x < at, 0.5 * x / at, 0.5 + 0.5 * (x - at) / (1 - at))
    return np.asarray(joined.clip(-1, 1) if task == "va" else joined, np.float32)


def smooth(x: Array, kind: str, half_width: int, shift: int) -> Array:
    """A mean, or the median of log-probabilities, over 2 half_width + 1 frames; then a delay."""
    length, reach = len(x), 2 * half_width + 1
    place = (np.arange(length) - shift).clip(0, length - 1)
    if kind == "median":
        logs = np.log(np.maximum(x, np.finfo(np.float32).tiny)).astype(np.float32)
        mirrored = np.pad(logs, ((half_width, half_width), (0, 0)), "symmetric")
        logs = np.median(np.lib.stride_tricks.sliding_window_view(mirrored, reach, 0), -1)
        odds = np.exp(logs - logs.max(1, keepdims=True))
        return np.asarray((odds / odds.sum(1, keepdims=True))[place], np.float32)
    sums = np.concatenate([np.zeros((1, x.shape[1])), x.cumsum(0, dtype=np.float64)])
    low, high = (place - half_width).clip(0), np.minimum(place + half_width + 1, length)
    return np.asarray((sums[high] - sums[low]) / (high - low)[:, None], np.float32)
