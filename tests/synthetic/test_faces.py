from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from raffect.synthetic.faces import Identity, Muscles, draw, invent, move
from raffect.synthetic.latents import Performance, deal, perform


@pytest.fixture(scope="module")
def performance() -> Performance:
    rng = np.random.default_rng(0)
    return perform(rng, 400, deal(rng))


@pytest.fixture(scope="module")
def identity() -> Identity:
    return invent(np.random.default_rng(1))


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a, b)[0, 1])


def shown(identity: Identity, performance: Performance, seed: int = 2) -> Muscles:
    return move(np.random.default_rng(seed), identity, performance)


def test_smiles_show_valence_and_smoothing_shows_it_better(
    identity: Identity, performance: Performance
) -> None:
    smile = shown(identity, performance).smile
    smooth = np.convolve(smile, np.ones(9) / 9, mode="same")
    single = correlation(smile, performance.affect[:, 0])
    assert single > 0.5
    assert correlation(smooth, performance.affect[:, 0]) > single + 0.02


def test_the_resting_face_is_constant_over_the_video(
    identity: Identity, performance: Performance
) -> None:
    sullen = replace(identity, resting=identity.resting - 0.3)
    difference = shown(identity, performance).smile - shown(sullen, performance).smile
    assert np.allclose(difference, 0.3)


def test_eyes_blink_for_a_few_frames(identity: Identity, performance: Performance) -> None:
    closed = shown(identity, performance).eyes < -1.0
    assert 0.01 < closed.mean() < 0.2


def test_one_crop_for_each_chosen_frame(identity: Identity, performance: Performance) -> None:
    frames = np.array([3, 4, 9])
    crops = list(draw(np.random.default_rng(0), identity, performance, frames))
    images = [np.asarray(Image.open(io.BytesIO(crop))) for crop in crops]
    assert [image.shape for image in images] == [(112, 112, 3)] * 3
    near = np.abs(images[0].astype(float) - images[1]).mean()
    assert near > 1.0


def test_opposite_expressions_look_different(identity: Identity, performance: Performance) -> None:
    def mean_crop(frames: np.ndarray) -> np.ndarray:
        crops = draw(np.random.default_rng(0), identity, performance, frames)
        return np.mean([np.asarray(Image.open(io.BytesIO(crop)), float) for crop in crops], axis=0)

    order = np.argsort(performance.affect[:, 0]) + 1
    low, high, again = order[:60], order[-60::2], order[-59::2]
    mouth = (slice(70, 105), slice(20, 92))
    different = np.abs(mean_crop(low) - mean_crop(high))[mouth].mean()
    alike = np.abs(mean_crop(again) - mean_crop(high))[mouth].mean()
    assert different > 1.5 * alike


def test_subjects_differ() -> None:
    people = [invent(np.random.default_rng(i)) for i in range(20)]
    assert len({person.skin for person in people}) == 20
    resting = np.stack([person.resting for person in people])
    assert (resting.std(axis=0) > 0.05).all()
