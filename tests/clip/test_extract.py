from __future__ import annotations

import io
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from raffect.clip.encoder import FrameEncoder, build_encoder, to_images
from raffect.clip.extract import extract
from raffect.clip.images import decode_batch
from raffect.config import ExtractConfig
from raffect.context import Context
from raffect.errors import ConflictError, NotThereError, SettingsError
from raffect.settings import override
from raffect.store import Stage, Store, encoder_folder, read_manifest
from raffect.store.features import to_array
from raffect.store.layout import CONFIG, ENCODER_WEIGHTS
from tests.clip.clip_data import tiny_config, to_bytes

pytestmark = pytest.mark.ray
CONFIG_SMALL = ExtractConfig(batch_size=32)


@pytest.fixture
def encoder(dataset: Store) -> FrameEncoder:
    encoder = build_encoder(tiny_config().encoder).eval()
    stage = Stage(dataset, encoder_folder("clip"), "encoder", {}, {})
    parts = [
        stage.write_part(ENCODER_WEIGHTS, to_bytes(encoder)),
        stage.write_part(CONFIG, json.dumps(encoder.describe()).encode()),
    ]
    stage.finish(parts)
    return encoder


def read(store: Store, key: str):
    return pq.read_table(io.BytesIO(store.read_bytes(key)))


def test_features_are_the_encoders_in_the_crops_order(
    ray_local: None, dataset: Store, encoder: FrameEncoder
):
    ticks: list[tuple[int, int]] = []
    manifest = extract(
        dataset,
        "clip",
        "f",
        CONFIG_SMALL,
        workers=2,
        context=Context(progress=lambda *tick: ticks.append(tick)),
    )
    assert dataset.names("features/f") == [
        "00000.parquet", "00001.parquet", "manifest.json", "plan.json"
    ]  # fmt: skip
    for name in ("00000.parquet", "00001.parquet"):
        crops, features = (
            read(dataset, f"dataset/frames/{name}"),
            read(dataset, f"features/f/{name}"),
        )
        for column in ("video", "frame"):
            assert features.column(column).to_pylist() == crops.column(column).to_pylist()
        pixels = decode_batch(crops.column("jpeg").to_pylist(), encoder.preprocessing)
        with torch.no_grad():
            expected = encoder.encode(to_images(pixels)).numpy()
        np.testing.assert_allclose(to_array(features), expected, rtol=2e-3, atol=2e-3)
    assert manifest.counts == {"rows": 228, "dim": 64}
    assert manifest.config["encoder"] == "clip"
    assert manifest.sources == {
        folder: read_manifest(dataset, folder).digest() for folder in ("dataset", "encoders/clip")
    }
    assert ticks[-1] == (228, 228)
    assert [done for done, _ in ticks] == sorted(done for done, _ in ticks)


def test_an_interrupted_extraction_makes_only_what_is_missing(
    ray_local: None, dataset: Store, encoder: FrameEncoder
):
    whole = extract(dataset, "clip", "whole", CONFIG_SMALL)
    plan = dataset.read_json("features/whole/plan.json")
    stage = Stage(dataset, "features/f", "features", plan["config"], plan["sources"])
    kept = dataset.read_bytes("features/whole/00001.parquet")
    stage.write_part("00001.parquet", kept, {"rows": 114, "dim": 64})
    stage.write_part("00000.parquet", b"cut short", {"rows": 1, "dim": 64})
    dataset.write_bytes("features/f/00000.parquet", b"cut")
    ticks: list[int] = []
    manifest = extract(
        dataset,
        "clip",
        "f",
        CONFIG_SMALL,
        context=Context(progress=lambda done, total: ticks.append(done)),
    )
    assert ticks == [114, 228]
    assert manifest.files == whole.files
    assert manifest.digest() == whole.digest()
    assert extract(dataset, "clip", "f", CONFIG_SMALL) == manifest


def test_mistakes_are_one_message(ray_local: None, dataset: Store, encoder: FrameEncoder):
    with pytest.raises(NotThereError, match="clip"):
        extract(dataset, "other", "f", CONFIG_SMALL)
    with pytest.raises(SettingsError, match="cuda"):
        extract(dataset, "clip", "f", override(CONFIG_SMALL, {"run.device": "cuda"}))
    assert dataset.names("features") == []
    extract(dataset, "clip", "f", CONFIG_SMALL)
    with pytest.raises(ConflictError, match="batch_size"):
        extract(dataset, "clip", "f", ExtractConfig(batch_size=16))
