"""How detectors' networks want their pictures, and how faces are read from what they put out.

A layout is recognised by the shapes of a network's outputs for a picture of a known size. All give
candidates in the pixels of that picture, before overlapping ones are thinned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Outputs = Mapping[str, Array]

_STRIDES = (8, 16, 32)
_RETINA_SIZES = ((16, 32), (64, 128), (256, 512))
_RETINA_VARIANCE = (0.1, 0.2)


@dataclass(frozen=True)
class Candidates:
    """Boxes `(faces, 4)` (left, top, right, bottom), scores `(faces,)`, landmarks or None."""

    boxes: Array
    scores: Array
    landmarks: Array | None


@dataclass(frozen=True)
class Layout:
    """A kind of network.

    Attributes:
        bgr: Blue comes first, as in OpenCV.
        mean: Subtracted from values of 0 to 255, per channel of the input; then over `scale`.
        least: Scores below it are no faces.
        sure: From this score on a face may begin a person (see tests/benchmarks/bench_faces.py).
        any_size: The network is convolutions only: a size that its file fixes may be changed.
        matches: Whether outputs for a picture of this height and width are of this layout.
        decode: Candidates with at least a score, of the outputs for a picture of this size.
    """

    name: str
    bgr: bool
    mean: tuple[float, float, float]
    scale: float
    least: float
    sure: float
    any_size: bool
    matches: Callable[[Outputs, int, int], bool]
    decode: Callable[[Outputs, int, int, float], Candidates]


def _joined(parts: Sequence[tuple[Array, Array, Array | None]]) -> Candidates:
    marks = [marks for _, _, marks in parts if marks is not None]
    return Candidates(
        np.concatenate([boxes for boxes, _, _ in parts]).astype(np.float32),
        np.concatenate([scores for _, scores, _ in parts]).astype(np.float32),
        np.concatenate(marks).astype(np.float32).reshape(-1, 5, 2) if marks else None,
    )


def _box_of_centre(x: Array, y: Array, width: Array, height: Array) -> Array:
    return np.stack((x - width / 2, y - height / 2, x + width / 2, y + height / 2), axis=-1)


def _by_channels(outputs: Outputs) -> list[Array]:
    """CenterFace's four maps in their order: heat, size, offset, landmarks."""
    return sorted(outputs.values(), key=lambda one: one.shape[1])


def _is_centerface(outputs: Outputs, height: int, width: int) -> bool:
    return sorted(one.shape[1:] for one in outputs.values()) == [
        (channels, height // 4, width // 4) for channels in (1, 2, 2, 10)
    ]


def _centerface(outputs: Outputs, height: int, width: int, least: float) -> Candidates:
    """Xu et al. 2019, "CenterFace: Joint Face Detection and Alignment Using Face as Point"."""
    heat, size, offset, marks = (one[0] for one in _by_channels(outputs))
    rows, columns = np.nonzero(heat[0] > least)
    # Heights and ordinates come first in each map.
    tall, wide = np.exp(size[:, rows, columns]) * 4
    y = (rows + offset[0, rows, columns] + 0.5) * 4
    x = (columns + offset[1, rows, columns] + 0.5) * 4
    boxes = _box_of_centre(x, y, wide, tall)
    found = marks[:, rows, columns].T.reshape(-1, 5, 2)[..., ::-1]
    found = found * np.stack((wide, tall), axis=-1)[:, None] + boxes[:, None, :2]
    return _joined([(boxes, heat[0, rows, columns], found)])


def _cells(height: int, width: int, stride: int, anchors: int) -> tuple[Array, Array]:
    """Columns and rows of a map's cells, row by row, each repeated for its anchors."""
    rows, columns = np.mgrid[: -(-height // stride), : -(-width // stride)].astype(np.float32)
    return columns.ravel().repeat(anchors), rows.ravel().repeat(anchors)


def _flat(one: Array) -> Array:
    """`(candidates, values)` of an output with or without a batch of one."""
    return one.reshape(-1, one.shape[-1])


def _is_yunet(outputs: Outputs, height: int, width: int) -> bool:
    return set(outputs) == {
        f"{part}_{stride}" for part in ("cls", "obj", "bbox", "kps") for stride in _STRIDES
    }


def _yunet(outputs: Outputs, height: int, width: int, least: float) -> Candidates:
    """Wu et al. 2023, "YuNet: A Tiny Millisecond-level Face Detector", as OpenCV reads it."""
    parts = []
    for stride in _STRIDES:
        scores, seen, box, marks = (
            _flat(outputs[f"{part}_{stride}"]) for part in ("cls", "obj", "bbox", "kps")
        )
        score = np.sqrt(scores[:, 0].clip(0, 1) * seen[:, 0].clip(0, 1))
        x, y = _cells(height, width, stride, 1)
        keep = score > least
        x, y, box, marks = x[keep], y[keep], box[keep], marks[keep]
        wide, tall = np.exp(box[:, 2]) * stride, np.exp(box[:, 3]) * stride
        boxes = _box_of_centre((x + box[:, 0]) * stride, (y + box[:, 1]) * stride, wide, tall)
        found = (marks.reshape(-1, 5, 2) + np.stack((x, y), axis=-1)[:, None]) * stride
        parts.append((boxes, score[keep], found))
    return _joined(parts)


def _by_stride(outputs: Outputs, height: int, width: int) -> list[dict[int, Array]] | None:
    """SCRFD's outputs as scores, boxes and landmarks of each stride; None: they are others."""
    levels: list[dict[int, Array]] = []
    counts = [-(-height // stride) * -(-width // stride) for stride in _STRIDES]
    flat = [_flat(one) for one in outputs.values() if one.ndim >= 2]
    for cells in counts:
        level = {one.shape[1]: one for one in flat if len(one) in (cells, 2 * cells)}
        if set(level) not in ({1, 4}, {1, 4, 10}) or len({len(one) for one in level.values()}) > 1:
            return None
        levels.append(level)
    whole = len({tuple(sorted(level)) for level in levels}) == 1
    return levels if whole and sum(map(len, levels)) == len(outputs) else None


def _is_scrfd(outputs: Outputs, height: int, width: int) -> bool:
    return _by_stride(outputs, height, width) is not None


def _scrfd(outputs: Outputs, height: int, width: int, least: float) -> Candidates:
    """Guo et al. 2021, "Sample and Computation Redistribution for Efficient Face Detection"."""
    parts = []
    for stride, level in zip(_STRIDES, _by_stride(outputs, height, width) or [], strict=True):
        score = level[1][:, 0]
        anchors = len(score) // (-(-height // stride) * -(-width // stride))
        x, y = _cells(height, width, stride, anchors)
        keep = score > least
        centre = np.stack((x[keep], y[keep]), axis=-1) * stride
        far = level[4][keep] * stride
        boxes = np.concatenate((centre - far[:, :2], centre + far[:, 2:]), axis=1)
        found = None
        if 10 in level:
            found = level[10][keep].reshape(-1, 5, 2) * stride + centre[:, None]
        parts.append((boxes, score[keep], found))
    return _joined(parts)


def _is_retinaface(outputs: Outputs, height: int, width: int) -> bool:
    flat = [_flat(one) for one in outputs.values() if one.ndim >= 2]
    count = sum(2 * -(-height // stride) * -(-width // stride) for stride in _STRIDES)
    return sorted(one.shape for one in flat) == [(count, values) for values in (2, 4, 10)]


def _retinaface(outputs: Outputs, height: int, width: int, least: float) -> Candidates:
    """Deng et al. 2020, "RetinaFace", with the anchors and variances of its PyTorch port."""
    box, scores, marks = (
        next(flat for one in outputs.values() if (flat := _flat(one)).shape[1] == values)
        for values in (4, 2, 10)
    )
    if np.abs(scores.sum(axis=1) - 1).max() > 1e-3:
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        scores = scores / scores.sum(axis=1, keepdims=True)
    priors = []
    for stride, sizes in zip(_STRIDES, _RETINA_SIZES, strict=True):
        x, y = _cells(height, width, stride, len(sizes))
        side = np.tile(np.asarray(sizes, np.float32), len(x) // len(sizes))
        priors.append(np.stack(((x + 0.5) * stride, (y + 0.5) * stride, side), axis=-1))
    keep = scores[:, 1] > least
    prior, box = np.concatenate(priors)[keep], box[keep]
    centre, side = prior[:, :2], prior[:, 2:]
    near, size = _RETINA_VARIANCE
    middle = centre + box[:, :2] * near * side
    wide, tall = (np.exp(box[:, 2:] * size) * side).T
    found = centre[:, None] + marks[keep].reshape(-1, 5, 2) * near * side[:, None]
    boxes = _box_of_centre(middle[:, 0], middle[:, 1], wide, tall)
    return _joined([(boxes, scores[keep, 1], found)])


_RAW = (0.0, 0.0, 0.0)
LAYOUTS = (
    Layout("CenterFace", False, _RAW, 1.0, 0.35, 0.5, True, _is_centerface, _centerface),
    Layout("YuNet", True, _RAW, 1.0, 0.6, 0.8, False, _is_yunet, _yunet),
    Layout("SCRFD", False, (127.5, 127.5, 127.5), 128.0, 0.4, 0.5, False, _is_scrfd, _scrfd),
    Layout(
        "RetinaFace", True, (104.0, 117.0, 123.0), 1.0, 0.5, 0.8, False,
        _is_retinaface, _retinaface,
    ),
)  # fmt: skip
