"""Crops have eyes, nose and mouth where the dataset's have them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from skimage.transform import SimilarityTransform

from raffect.video.align import SIDE, TEMPLATE, align, similarity
from raffect.video.faces import Face
from tests.video.videos import astronaut

MARKS = np.array([[204, 102], [247, 104], [224, 127], [203, 140], [242, 143]], np.float32)
BOX = np.array([182, 58, 270, 178], np.float32)


def turning(degrees: float, scale: float, move: tuple[float, float]) -> NDArray[np.float64]:
    angle = np.radians(degrees)
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    return np.array([[cosine, -sine, move[0]], [sine, cosine, move[1]]])


def moved(matrix: NDArray[np.float64], points: NDArray[np.floating]) -> NDArray[np.float64]:
    return points @ matrix[:, :2].T + matrix[:, 2]


def warped(matrix: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.uint8]:
    """The photograph as it is after a similarity."""
    whole = np.vstack((matrix, [0, 0, 1]))
    back = np.linalg.inv(whole)[:2].ravel()
    picture = astronaut()
    return np.asarray(
        picture.transform(size, Image.Transform.AFFINE, tuple(back), Image.Resampling.BICUBIC)
    )


@given(
    degrees=st.floats(-180, 180), scale=st.floats(0.05, 20),
    move=st.tuples(st.floats(-500, 2000), st.floats(-500, 2000)),
)  # fmt: skip
@settings(max_examples=50, deadline=None)
def test_landmarks_like_the_template_land_on_it(
    degrees: float, scale: float, move: tuple[float, float]
) -> None:
    points = moved(turning(degrees, scale, move), TEMPLATE)
    assert np.abs(moved(similarity(points, TEMPLATE), points) - TEMPLATE).max() < 1e-3


@given(st.lists(st.tuples(st.floats(0, 640), st.floats(0, 360)), min_size=5, max_size=5))
@settings(max_examples=100, deadline=None)
def test_other_landmarks_come_as_near_as_scikit_image_brings_them(
    points: list[tuple[float, float]],
) -> None:
    start = np.array(points)
    if np.linalg.matrix_rank(start - start.mean(axis=0), tol=1) < 2:
        return
    oracle = SimilarityTransform.from_estimate(start, TEMPLATE)
    assert similarity(start, TEMPLATE) == pytest.approx(oracle.params[:2], abs=1e-6)


def test_landmarks_at_one_place_are_moved_only() -> None:
    matrix = similarity(np.full((5, 2), 40.0), TEMPLATE)
    assert matrix[:, :2] == pytest.approx(np.eye(2))
    assert moved(matrix, np.full((1, 2), 40.0))[0] == pytest.approx(TEMPLATE.mean(axis=0))


def test_a_picture_is_never_mirrored() -> None:
    mirrored = TEMPLATE * [-1, 1]
    assert np.linalg.det(similarity(mirrored, TEMPLATE)[:, :2]) > 0


@pytest.mark.parametrize("degrees", [0, 20, -45, 90, 180])
@pytest.mark.parametrize("scale", [0.8, 1.0, 2.0])
def test_a_turned_picture_gives_the_same_crop(degrees: float, scale: float) -> None:
    upright = align(np.asarray(astronaut()), Face(BOX, 1, MARKS)).astype(float)
    matrix = turning(degrees, scale, (0, 0))
    matrix[:, 2] = np.array([500, 500]) - moved(matrix, MARKS.mean(axis=0))
    marks = moved(matrix, MARKS).astype(np.float32)
    crop = align(warped(matrix, (1000, 1000)), Face(BOX, 1, marks))
    assert crop.shape == (SIDE, SIDE, 3)
    # Beyond the photograph's border is nothing that could be compared.
    assert np.abs(crop - upright).mean() < 6


def test_a_crop_shows_the_pixels_at_its_places() -> None:
    rows, columns = np.mgrid[:240, :250]
    picture = np.stack((columns, rows, np.full_like(rows, 7)), axis=-1).astype(np.uint8)
    matrix = turning(10, 1.3, (60, 40))
    marks = moved(matrix, TEMPLATE).astype(np.float32)
    crop = align(picture, Face(BOX, 1, marks))
    for x, y in ((20, 30), (56, 71), (100, 90)):
        # Middles of pixels lie at a half.
        wanted = moved(matrix, np.array([x + 0.5, y + 0.5])) - 0.5
        assert crop[y, x, :2] == pytest.approx(wanted, abs=1)
    assert (crop[..., 2] == 7).all()


@pytest.mark.parametrize("scale", [4.0, 8.0, 16.0])
def test_much_larger_faces_are_smoothed(scale: float) -> None:
    """A fine grid becomes grey; taking every n-th pixel of it would give stripes."""
    side = int(150 * scale)
    grid = (np.indices((side, side)).sum(axis=0) % 2 * 255).astype(np.uint8)
    marks = moved(turning(3, scale, (10, 10)), TEMPLATE).astype(np.float32)
    crop = align(np.repeat(grid[..., None], 3, axis=2), Face(BOX, 1, marks))
    middle = crop[10:100, 10:100].astype(float)
    assert middle.mean() == pytest.approx(127.5, abs=2)
    assert middle.std() < 12


@pytest.mark.parametrize("left", [-60.0, 480.0, 5000.0])
def test_beyond_the_frame_is_black(left: float) -> None:
    marks = (TEMPLATE + np.array([left, 100])).astype(np.float32)
    crop = align(np.full((512, 512, 3), 200, np.uint8), Face(BOX, 1, marks))
    seen = np.clip(512 - left, 0, SIDE) - np.clip(-left, 0, SIDE)
    assert (crop[56] == 200).all(axis=1).sum() == pytest.approx(seen, abs=2)
    assert np.isin(crop[56], (0, 200)).mean() > 0.95


def test_a_face_without_landmarks_is_the_square_around_its_box() -> None:
    picture = np.zeros((300, 300, 3), np.uint8)
    picture[60:180, 100:190] = 255
    crop = align(picture, Face(np.array([100, 60, 190, 180], np.float32), 1))
    rows, columns = np.nonzero(crop[..., 0] > 127)
    scale = SIDE / (1.3 * 120)
    assert np.ptp(rows) + 1 == pytest.approx(120 * scale, abs=1.5)
    assert np.ptp(columns) + 1 == pytest.approx(90 * scale, abs=1.5)
    assert (rows.min() + rows.max()) / 2 == pytest.approx(55.5, abs=1)
