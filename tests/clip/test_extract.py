from __future__ import annotations

import io

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from raffect.affwild2.tasks import Task
from raffect.clip.encoder import FrameEncoder, build_encoder, load_encoder, to_images
from raffect.clip.encoding import encode_crops
from raffect.clip.extract import _Encoder, extract
from raffect.clip.images import decode_batch
from raffect.clip.layers import use_layer
from raffect.code import code_digest
from raffect.config import ExtractConfig
from raffect.context import Context
from raffect.errors import ConflictError, DataError, NotThereError, SettingsError, StoreError
from raffect.settings import override
from raffect.store import Stage, Store, encoder_folder, read_manifest
from raffect.store.features import to_array
from raffect.store.layout import ENCODER_WEIGHTS
from raffect.store.manifest import files_of
from raffect.temporal.data import load_task_data
from tests.clip.clip_data import tiny_config, write_encoder

pytestmark = pytest.mark.ray
CONFIG_SMALL = ExtractConfig(batch_size=32)


@pytest.fixture
def encoder(dataset: Store) -> FrameEncoder:
    return write_encoder(dataset)


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


def test_an_encoder_that_an_actor_cant_load_is_one_message(
    ray_local: None, dataset: Store, encoder: FrameEncoder, capfd: pytest.CaptureFixture[str]
):
    weights = f"{encoder_folder('clip')}/{ENCODER_WEIGHTS}"
    data = dataset.read_bytes(weights)
    dataset.write_bytes(weights, data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(StoreError, match="is damaged"):
        extract(dataset, "clip", "f", CONFIG_SMALL)
    assert "Traceback" not in "".join(capfd.readouterr())


@pytest.mark.long
def test_an_interrupted_extraction_makes_only_what_is_missing(
    ray_local: None, dataset: Store, encoder: FrameEncoder
):
    whole = extract(dataset, "clip", "whole", CONFIG_SMALL)
    plan = dataset.read_json("features/whole/plan.json")
    stage = Stage(dataset, "features/f", "features", plan["config"], plan["sources"])
    kept = dataset.read_bytes("features/whole/00001.parquet")
    facts = {"rows": 114, "dim": 64, "code": code_digest("features")}
    stage.write_part("00001.parquet", kept, facts)
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
    # What other code has made may hold other numbers, as these are another shard's.
    stage = Stage(dataset, "features/g", "features", plan["config"], plan["sources"])
    stage.write_part("00000.parquet", kept, {"rows": 114, "dim": 64})
    stage.write_part("00001.parquet", kept, {**facts, "code": "other"})
    assert extract(dataset, "clip", "g", CONFIG_SMALL).files == whole.files


def test_a_shard_is_encoded_at_the_layer_and_in_the_type_that_are_asked_for(dataset: Store):
    strong = build_encoder(tiny_config().encoder).eval()
    with torch.no_grad():
        strong.visual.proj *= 1e6
    write_encoder(dataset, strong)
    wide = override(CONFIG_SMALL, {"dtype": "float32", "layer": "penultimate"})
    for config, layer in ((wide, "penultimate"), (override(wide, {"layer": "projected"}), None)):
        folder, plan = f"features/{layer}", {"encoder": "clip", **config.identity()}
        sources = {"dataset": read_manifest(dataset, "dataset").digest()}
        stage = Stage(dataset, folder, "features", plan, sources)
        actor = _Encoder(stage, "clip", files_of(dataset, "dataset"), config)
        parts = [actor({"shard": f"frames/0000{n}.parquet"})["outcome"] for n in (0, 1)]
        stage.finish(parts, {"rows": 228, "dim": parts[0].facts["dim"]})
        data = load_task_data(dataset, str(layer), Task.EXPR)
        assert data.features.dtype == np.float32
        assert data.features.shape[1] == (128 if layer else 64)
        assert data.lineage["extract"].get("layer") == layer
        assert data.lineage["extract"]["dtype"] == "float32"
        jpegs = read(dataset, "dataset/frames/00000.parquet")["jpeg"].to_pylist()[:19]
        encoder = use_layer(load_encoder(dataset, "clip"), config.layer)
        np.testing.assert_allclose(
            data.features[:19], encode_crops(encoder, jpegs, config), rtol=1e-3
        )


def test_mistakes_are_one_message(ray_local: None, dataset: Store, encoder: FrameEncoder):
    with pytest.raises(NotThereError, match="clip"):
        extract(dataset, "other", "f", CONFIG_SMALL)
    with pytest.raises(SettingsError, match="cuda"):
        extract(dataset, "clip", "f", override(CONFIG_SMALL, {"run.device": "cuda"}))
    assert dataset.names("features") == []
    with torch.no_grad():
        encoder.visual.proj *= 1e6
    write_encoder(dataset, encoder)
    with pytest.raises(DataError, match=r"of 114 of 114 crops, v0[01]/00001\.jpg the first"):
        extract(dataset, "clip", "f", CONFIG_SMALL)
    with pytest.raises(ConflictError, match="batch_size"):
        extract(dataset, "clip", "f", ExtractConfig(batch_size=16))
