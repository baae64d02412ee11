from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from raffect.clip.encode import encode_crops, encode_folder
from raffect.clip.encoder import FrameEncoder, build_encoder, to_images
from raffect.clip.images import decode_batch
from raffect.config import ExtractConfig
from raffect.errors import DataError, NotThereError
from tests.clip.clip_data import crop, tiny_config


@pytest.fixture(scope="module")
def encoder() -> FrameEncoder:
    return build_encoder(tiny_config().encoder).eval()


def test_features_are_those_of_the_decoded_crops_in_order(encoder: FrameEncoder):
    rng = np.random.default_rng(0)
    jpegs = [crop(i % 8, rng) for i in range(23)]
    features = encode_crops(encoder, jpegs, ExtractConfig(batch_size=4, decoders=3))
    with torch.no_grad():
        images = to_images(decode_batch(jpegs, encoder.preprocessing))
        expected = encoder.encode(images).numpy()
    assert features.dtype == np.float16
    np.testing.assert_allclose(features, expected, rtol=2e-3, atol=2e-3)


def test_a_folder_is_read_in_order_of_frames_and_what_is_no_crop_is_listed(
    tmp_path: Path, encoder: FrameEncoder
):
    rng = np.random.default_rng(0)
    crops = {3: crop(1, rng), 1: crop(2, rng), 100002: crop(3, rng)}
    for frame, data in crops.items():
        (tmp_path / f"{frame:05d}.jpg").write_bytes(data)
    (tmp_path / "00002.jpg").write_bytes(b"no image")
    (tmp_path / "00000.jpg").write_bytes(crops[3])
    (tmp_path / "cover.jpg").write_bytes(crops[3])
    skipped: list[str] = []
    frames, features = encode_folder(encoder, tmp_path, skipped)
    assert frames.tolist() == [1, 3, 100002]
    expected = encode_crops(encoder, [crops[f] for f in (1, 3, 100002)], ExtractConfig())
    np.testing.assert_array_equal(features, expected)
    assert sorted(line.split(":")[0] for line in skipped) == [
        "00000.jpg", "00002.jpg", "cover.jpg"
    ]  # fmt: skip


def test_a_folder_without_crops_and_no_folder_are_refused(tmp_path: Path, encoder: FrameEncoder):
    with pytest.raises(DataError, match="no crop"):
        encode_folder(encoder, tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"notes\.txt"):
        encode_folder(encoder, tmp_path)
    with pytest.raises(NotThereError):
        encode_folder(encoder, tmp_path / "absent")
