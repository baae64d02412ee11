from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from open_clip.transform import image_transform
from PIL import Image

from raffect.clip.images import Preprocessing, UnreadableImageError, decode, decode_batch
from tests.clip.clip_data import crop


def preprocessing(size: int) -> Preprocessing:
    return Preprocessing(size, size, (0.0,) * 3, (1.0,) * 3)


@pytest.mark.parametrize("size", [64, 112, 224])
def test_pixels_are_those_of_open_clips_own_preprocessing(size: int):
    data = crop(3, np.random.default_rng(0))
    theirs = image_transform(size, is_train=False, mean=(0.0,) * 3, std=(1.0,) * 3)
    expected = theirs(Image.open(io.BytesIO(data)))
    ours = torch.tensor(decode(data, preprocessing(size))).permute(2, 0, 1) / 255
    torch.testing.assert_close(ours, expected)


def test_a_grey_image_has_three_channels():
    buffer = io.BytesIO()
    Image.new("L", (112, 112), 77).save(buffer, "JPEG")
    pixels = decode(buffer.getvalue(), preprocessing(32))
    assert pixels.shape == (32, 32, 3)
    assert np.ptp(pixels) <= 2


@pytest.mark.parametrize("cut", [0, 3, 700])
def test_bytes_that_do_not_decode_raise_one_error(cut: int):
    data = crop(0, np.random.default_rng(0))
    with pytest.raises(UnreadableImageError):
        decode(data[:cut], preprocessing(64))


def test_a_batch_is_its_images():
    rng = np.random.default_rng(1)
    crops = [crop(i, rng) for i in range(3)]
    batch = decode_batch(crops, preprocessing(64))
    assert batch.shape == (3, 64, 64, 3)
    assert batch.dtype == np.uint8
    np.testing.assert_array_equal(batch[1], decode(crops[1], preprocessing(64)))
