from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
import torch

from raffect.clip.encoder import FrameEncoder, build_encoder, to_images
from raffect.clip.encoding import encode_crops
from raffect.clip.images import decode_batch
from raffect.config import EncoderConfig, ExtractConfig, FeatureRunConfig, RunConfig
from raffect.errors import DataError
from raffect.training.device import mixed_type, whole_float32
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


def relative_error(encoder: FrameEncoder, mixed: torch.dtype | None) -> float:
    """The largest error among crops, relative to their features in float64."""
    rng = np.random.default_rng(0)
    images = to_images(decode_batch([crop(i, rng) for i in range(8)], encoder.preprocessing))
    with torch.no_grad():
        exact = copy.deepcopy(encoder).double().encode(images.double())
        with torch.autocast("cpu", mixed or torch.bfloat16, enabled=mixed is not None):
            found = encoder.encode(images).double()
    return float(((found - exact).norm(dim=1) / exact.norm(dim=1)).max())


@pytest.mark.parametrize("model", ["raffect-tiny", "raffect-tiny-vit"])
def test_features_are_those_of_float32_on_a_gpu_too(model: str):
    """The type that a GPU would take, emulated: bfloat16, the default of before, is 1 % off."""
    encoder = build_encoder(EncoderConfig(model=model, pretrained=None)).eval()
    with torch.no_grad():
        for module in encoder.modules():
            if isinstance(module, torch.nn.MultiheadAttention):
                # Attention as sharp as trained towers have it; random ones hardly attend.
                module.in_proj_weight[: 2 * module.embed_dim] *= 6
    gpu = torch.device("cuda")
    assert relative_error(encoder, mixed_type(ExtractConfig().run, gpu)) < 1e-4
    assert relative_error(encoder, torch.float16) < 2e-3
    assert relative_error(encoder, mixed_type(RunConfig(), gpu)) > 2e-3


def test_convolutions_are_whole_float32_while_features_are_computed():
    before = torch.backends.cudnn.allow_tf32
    with whole_float32():
        assert not torch.backends.cudnn.allow_tf32
    assert torch.backends.cudnn.allow_tf32 == before


def scaled(factor: float) -> FrameEncoder:
    """An encoder whose features are larger by a factor."""
    encoder = build_encoder(tiny_config().encoder).eval()
    with torch.no_grad():
        encoder.visual.proj *= factor
    return encoder


def test_a_batch_that_passes_float16_on_the_way_is_encoded_in_float32(encoder: FrameEncoder):
    jpegs = [crop(1, np.random.default_rng(0))]
    strained = copy.deepcopy(encoder)
    with torch.no_grad():
        value, out = strained.visual.transformer.resblocks[0].mlp[0], strained.visual.proj
        value.weight *= 1e6
        strained.visual.transformer.resblocks[0].mlp[2].weight /= 1e6
    assert torch.isfinite(out).all()
    half = ExtractConfig(run=FeatureRunConfig(precision="float16"))
    with torch.no_grad(), torch.autocast("cpu", torch.float16):
        images = to_images(decode_batch(jpegs, encoder.preprocessing))
        assert not strained.encode(images).isfinite().all()
    whole = encode_crops(strained, jpegs, ExtractConfig())
    np.testing.assert_array_equal(encode_crops(strained, jpegs, half), whole)


@pytest.mark.parametrize("factor", [1e6, 1e-8])
def test_features_beyond_float16_are_refused_or_stored_in_float32(factor: float):
    rng = np.random.default_rng(0)
    jpegs = [crop(i, rng) for i in range(3)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DataError, match="beyond float16") as caught:
            encode_crops(scaled(factor), jpegs, ExtractConfig(), "v/0000{}.jpg".format)
    assert "of 3 of 3 crops, v/00000.jpg the first" in str(caught.value)
    assert "--set dtype=float32" in caught.value.next_step
    features = encode_crops(scaled(factor), jpegs, ExtractConfig(dtype="float32"))
    assert features.dtype == np.float32
    plain = encode_crops(scaled(1), jpegs, ExtractConfig(dtype="float32"))
    np.testing.assert_allclose(features, plain * factor, rtol=1e-4)


def test_features_that_are_no_numbers_are_never_stored():
    broken = scaled(float("nan"))
    jpegs = [crop(1, np.random.default_rng(0))]
    for config in (ExtractConfig(), ExtractConfig(dtype="float32")):
        with pytest.raises(DataError, match="not finite"):
            encode_crops(broken, jpegs, config)
