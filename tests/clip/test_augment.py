from __future__ import annotations

import pytest
import torch

from raffect.clip.augment import augment
from raffect.config import AugmentConfig

OFF = {"flip": 0.0, "crop_scale": 1.0, "colour": 0.0, "erase": 0.0}


def run(images: torch.Tensor, seed: int = 0, **changes: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return augment(images, AugmentConfig(**{**OFF, **changes}), generator)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(16, 3, 32, 32, generator=torch.Generator().manual_seed(7))


def test_nothing_asked_for_changes_nothing(images: torch.Tensor):
    torch.testing.assert_close(run(images), images, atol=1e-5, rtol=0)


def test_a_flip_mirrors_left_and_right_and_never_up_and_down(images: torch.Tensor):
    torch.testing.assert_close(run(images, flip=1.0), images.flip(3), atol=1e-5, rtol=0)


def test_about_half_of_the_images_are_flipped_by_default():
    images = torch.rand(400, 3, 8, 8)
    flipped = (run(images, flip=0.5) - images).abs().amax((1, 2, 3)) > 1e-3
    assert 150 < int(flipped.sum()) < 250


def test_a_crop_is_a_window_of_at_least_the_given_area():
    ramp = torch.linspace(0, 1, 64).expand(200, 3, 64, 64)
    spread = run(ramp, crop_scale=0.5)[:, 0, 32]
    side = (spread[:, -1] - spread[:, 0]) / (ramp[0, 0, 0, -1] - ramp[0, 0, 0, 0])
    assert float(side.min()) > 0.5**0.5 - 0.03
    assert float(side.max()) <= 1.0 + 1e-5
    assert float(side.min()) < 0.8


def test_colours_move_by_at_most_the_strength():
    grey = torch.full((100, 3, 8, 8), 0.5)
    shifted = run(grey, colour=0.2)
    assert float(shifted.min()) >= 0.4 - 1e-5
    assert float(shifted.max()) <= 0.6 + 1e-5
    assert float(shifted.std()) > 0.02


def test_values_stay_in_the_unit_range(images: torch.Tensor):
    changed = run(images, flip=0.5, crop_scale=0.5, colour=0.9, erase=0.5)
    assert float(changed.min()) >= 0
    assert float(changed.max()) <= 1


def test_an_erased_patch_is_a_small_grey_rectangle():
    black = torch.zeros(64, 3, 100, 100)
    erased = run(black, erase=1.0)
    share = (erased == 0.5).float().mean((1, 2, 3))
    assert float(share.min()) > 0.01
    assert float(share.max()) < 0.17
    assert set(erased.unique().tolist()) == {0.0, 0.5}
    hole = (erased[0, 0] == 0.5).float()
    assert int(hole.sum()) == int(hole.amax(0).sum() * hole.amax(1).sum())


def test_the_generator_decides(images: torch.Tensor):
    settings = {"flip": 0.5, "crop_scale": 0.7, "colour": 0.3, "erase": 0.5}
    assert torch.equal(run(images, 1, **settings), run(images, 1, **settings))
    assert not torch.equal(run(images, 1, **settings), run(images, 2, **settings))
