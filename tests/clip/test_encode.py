from __future__ import annotations

import numpy as np
import pytest
import torch

from raffect.clip.encode import encode_crops
from raffect.clip.encoder import FrameEncoder, build_encoder, to_images
from raffect.clip.images import decode_batch
from raffect.config import ExtractConfig
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
