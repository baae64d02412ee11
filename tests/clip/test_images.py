from __future__ import annotations

import io

import numpy as np
import pytest
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from raffect.clip.images import Preprocessing, UnreadableImageError, decode, decode_batch
from tests.clip.clip_data import crop


def preprocessing(size: int) -> Preprocessing:
    return Preprocessing(size, size, (0.0,) * 3, (1.0,) * 3)


@pytest.mark.parametrize("mode", ["squash", "shortest", "longest"])
@pytest.mark.parametrize("size", [64, 224, (96, 64), (64, 96)])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "random"])
def test_pixels_are_those_of_open_clips_own_preprocessing(mode, size, interpolation):
    zero, one = (0.0,) * 3, (1.0,) * 3
    theirs = image_transform_v2(
        PreprocessCfg(size, "RGB", zero, one, interpolation, mode), is_train=False
    )
    height, width = (size, size) if isinstance(size, int) else size
    seen = Preprocessing(height, width, zero, one, interpolation, mode)
    rng = np.random.default_rng(0)
    for shape in ((112, 112), (64, 63), (53, 37), (113, 225), (224, 224), (301, 100), (100, 333)):
        image = Image.fromarray(rng.integers(0, 256, (*shape, 3), dtype=np.uint8))
        buffer = io.BytesIO()
        image.save(buffer, "BMP")
        expected = (theirs(image) * 255).round().permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(decode(buffer.getvalue(), seen), expected)


def test_a_description_of_before_squashes():
    assert Preprocessing(64, 64, (0.0,) * 3, (1.0,) * 3, "bicubic").resize_mode == "squash"


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


def bitmap(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "BMP")
    return buffer.getvalue()


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("mode", ["squash", "shortest", "longest"])
@pytest.mark.parametrize("size", [16, 24, 64, 224, 336])
def test_a_batch_of_crops_of_half_the_size_is_theirs_to_the_bit(interpolation, mode, size):
    rng = np.random.default_rng(size)
    noise = rng.integers(0, 256, (24, size // 2, size // 2, 3), dtype=np.uint8)
    # Black and white has the largest steps: sums beyond 0 and 255, and halves to round.
    noise[8:16] = 255 * (noise[8:16] > 127)
    noise[16:] = np.sort(noise[16:], axis=1)
    crops = [bitmap(pixels) for pixels in noise]
    seen = Preprocessing(size, size, (0.0,) * 3, (1.0,) * 3, interpolation, mode)
    expected = np.stack([decode(one, seen) for one in crops])
    np.testing.assert_array_equal(decode_batch(crops, seen), expected)


def test_a_batch_may_hold_crops_of_several_sizes():
    rng = np.random.default_rng(0)
    sizes = [(32, 32), (32, 33), (64, 64), (32, 32), (7, 90)]
    crops = [bitmap(rng.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in sizes]
    expected = np.stack([decode(one, preprocessing(64)) for one in crops])
    np.testing.assert_array_equal(decode_batch(crops, preprocessing(64)), expected)
    assert decode_batch([], preprocessing(64)).shape == (0, 64, 64, 3)


def test_a_batch_is_its_images():
    rng = np.random.default_rng(1)
    crops = [crop(i, rng) for i in range(3)]
    batch = decode_batch(crops, preprocessing(64))
    assert batch.shape == (3, 64, 64, 3)
    assert batch.dtype == np.uint8
    np.testing.assert_array_equal(batch[1], decode(crops[1], preprocessing(64)))
