"""Crops of faces as the dataset's are: 112x112, eyes, nose and mouth at fixed places."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from raffect.video.faces import Face

SIDE = 112
TEMPLATE = np.array(
    [
        [38.2946, 51.6963],
        [73.5318, 51.5014],
        [56.0252, 71.7366],
        [41.5493, 92.3655],
        [70.7299, 92.2041],
    ]
)
"""Where landmarks are in a crop: Deng et al. 2019, "ArcFace", as RetinaFace's users align."""
_MARGIN = 1.3
"""A crop's side over the longer side of a box without landmarks."""


def align(pixels: NDArray[np.uint8], face: Face) -> NDArray[np.uint8]:
    """The crop `(112, 112, 3)` of a face in a frame; black where that ends.

    By the similarity that brings the landmarks nearest to the template's; of a face without them,
    a square around the box.
    """
    marks = face.landmarks
    return _warped(pixels, _square(face.box) if marks is None else similarity(marks, TEMPLATE))


def similarity(points: NDArray[np.floating], onto: NDArray[np.floating]) -> NDArray[np.float64]:
    """The matrix `(2, 3)` that turns, scales and moves points `(n, 2)` nearest to others.

    Least squares without mirroring: Umeyama 1991, "Least-squares estimation of transformation
    parameters between two point patterns". Points that all lie at one place are only moved.
    """
    start, goal = points.astype(np.float64), onto.astype(np.float64)
    middle, target = start.mean(axis=0), goal.mean(axis=0)
    start, goal = start - middle, goal - target
    left, stretch, right = np.linalg.svd(goal.T @ start / len(start))
    sign = np.array([1.0, np.sign(np.linalg.det(left) * np.linalg.det(right)) or 1.0])
    variance = (start**2).sum() / len(start)
    scale = (stretch * sign).sum() / variance if variance > 0 else 1.0
    linear = scale * (left * sign) @ right
    return np.column_stack((linear, target - linear @ middle))


def _square(box: NDArray[np.float32]) -> NDArray[np.float64]:
    left, top, right, bottom = (float(one) for one in box)
    scale = SIDE / (_MARGIN * max(right - left, bottom - top, 1.0))
    middle = np.array([left + right, top + bottom]) / 2
    return np.column_stack((scale * np.eye(2), SIDE / 2 - scale * middle))


def _warped(pixels: NDArray[np.uint8], matrix: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The crop, of the part of the frame that it shows, shrunk before where that is larger."""
    height, width = pixels.shape[:2]
    back = np.linalg.inv(matrix[:, :2])
    corners = np.array([[0, 0], [SIDE, 0], [0, SIDE], [SIDE, SIDE]], np.float64)
    places = (corners - matrix[:, 2]) @ back.T
    # A few pixels more, for the kernels at the border.
    reach = 2 + 2 / np.sqrt(abs(np.linalg.det(matrix[:, :2])))
    low = np.floor(places.min(axis=0) - reach).clip(0, (width, height)).astype(int)
    high = np.ceil(places.max(axis=0) + reach).clip(0, (width, height)).astype(int)
    if (high <= low).any():
        return np.zeros((SIDE, SIDE, 3), np.uint8)
    part = Image.fromarray(pixels[low[1] : high[1], low[0] : high[0]])
    shrink = int(1 / np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    if shrink > 1:
        part = part.reduce(shrink)
    shrink = max(shrink, 1)
    offset = (-matrix[:, 2] @ back.T - low) / shrink
    linear = back / shrink
    data = (*linear[0], offset[0], *linear[1], offset[1])
    crop = part.transform(
        (SIDE, SIDE), Image.Transform.AFFINE, data, resample=Image.Resampling.BILINEAR
    )
    return np.asarray(crop)
