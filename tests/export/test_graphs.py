"""Graphs against the models that they are of: lengths, batches, padding, types."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from raffect.clip.encoder import build_encoder, to_images
from raffect.clip.layers import use_layer
from raffect.config import EncoderConfig, TemporalConfig
from raffect.errors import DataError
from raffect.export.formats import OPSET, to_bytes
from raffect.export.graphs import EncoderGraph, TemporalGraph
from raffect.export.write import encoder_bytes, temporal_bytes
from raffect.temporal.model import TemporalModel, activate
from tests.export.made import KINDS, of_kind

LENGTHS = (1, 2, 3, 7, 20, 129, 500, 2000)
CLOSE = 1e-5
Graph = Callable[..., np.ndarray]


def kinds(quick: str) -> list[Any]:
    """All kinds of models, of which one is always tried: exporting takes seconds."""
    return [quick, *(pytest.param(k, marks=pytest.mark.long) for k in KINDS if k != quick)]


def by_onnx(data: bytes) -> Graph:
    session = onnxruntime.InferenceSession(data)
    names = [each.name for each in session.get_inputs()]
    return lambda *inputs: session.run(None, dict(zip(names, inputs, strict=True)))[0]


def by_torch(data: bytes) -> Graph:
    module = torch.jit.load(io.BytesIO(data))
    return torch.inference_mode()(lambda *inputs: module(*map(torch.from_numpy, inputs)).numpy())


def worst(config: TemporalConfig, model: TemporalModel, graph: Graph) -> float:
    """The largest difference on frames that are real, over lengths, batches and padding."""
    found, sets = 0.0, len(model.dims)
    for length in LENGTHS:
        for batch, look_back in ((1, False), (1, True), (3, False), (3, True)):
            rng = np.random.default_rng(length)
            x = rng.normal(size=(batch, length, model.feature_dim)).astype(np.float32)
            present = rng.random((batch, length, sets)) > 0.2
            real = np.arange(length) < rng.integers(1, length + 1, (batch, 1))
            expected = np.zeros(0)
            for i in range(batch):
                # Alone and without its padding, as a series is predicted by raffect.
                n = int(real[i].sum())
                own = torch.from_numpy(x[i : i + 1, :n]), torch.from_numpy(present[i : i + 1, :n])
                with torch.inference_mode():
                    outputs = model(*own, None, back_only=look_back)[config.task]
                expected = activate(config.task, outputs)[0].numpy()
                padded = np.where(real[..., None], x, np.nan)
                values = graph(padded, present, real, np.array(look_back))[i, :n]
                found = max(found, float(np.abs(values - expected).max()))
    return found


@pytest.mark.parametrize("kind", kinds("no Transformer"))
def test_onnx_gives_the_models_numbers(kind: str):
    config, model = of_kind(kind)
    data = temporal_bytes(model, config.task, "onnx")
    assert worst(config, model, by_onnx(data)) < CLOSE
    proto = onnx.load_from_string(data)
    onnx.checker.check_model(proto, full_check=True)
    assert [(each.domain, each.version) for each in proto.opset_import] == [("", OPSET)]
    sizes = {
        each.name: [dim.dim_param or dim.dim_value for dim in each.type.tensor_type.shape.dim]
        for each in proto.graph.input
    }
    dims, sets = model.feature_dim, len(model.dims)
    assert sizes == {
        "features": ["batch", "frames", dims],
        "present": ["batch", "frames", sets],
        "real": ["batch", "frames"],
        "look_back": [],
    }
    _refuses_other_types(data, dims, sets)


def _refuses_other_types(data: bytes, dims: int, sets: int) -> None:
    """Never taken for something else in silence; as the card says, they have to be converted."""
    right = {
        "features": np.zeros((1, 4, dims), np.float32),
        "present": np.ones((1, 4, sets), bool),
        "real": np.ones((1, 4), bool),
        "look_back": np.array(False),
    }
    session = onnxruntime.InferenceSession(data)
    session.run(None, right)
    for name, dtype in (
        ("features", np.float16), ("features", np.float64), ("present", np.int64),
        ("real", np.float32), ("look_back", np.int64),
    ):  # fmt: skip
        with pytest.raises(Exception, match="Unexpected input data type"):
            session.run(None, {**right, name: right[name].astype(dtype)})


@pytest.mark.parametrize("kind", kinds("batch norm"))
def test_torchscript_gives_the_models_numbers(kind: str):
    config, model = of_kind(kind)
    data = temporal_bytes(model, config.task, "torchscript")
    assert worst(config, model, by_torch(data)) < CLOSE


def test_a_graph_leaves_its_model_as_it_was():
    config, model = of_kind("whole")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    TemporalGraph(model, config.task)
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[key]) for key, value in before.items())


@pytest.mark.parametrize("kind", ["torchscript", pytest.param("onnx", marks=pytest.mark.long)])
@pytest.mark.parametrize(("model", "layer"), [
    ("raffect-tiny", "projected"), ("raffect-tiny-vit", "penultimate"),
])  # fmt: skip
def test_an_encoders_graph_gives_its_features(kind, model: str, layer):
    encoder = build_encoder(EncoderConfig(model=model, pretrained=None)).eval()
    encoder = use_layer(encoder, layer)
    data = encoder_bytes(encoder, "float32", kind)
    graph = by_onnx(data) if kind == "onnx" else by_torch(data)
    for batch in (1, 2, 5):
        pixels = np.random.default_rng(batch).integers(0, 256, (batch, 64, 64, 3), np.uint8)
        with torch.inference_mode():
            expected = encoder.encode(to_images(pixels)).numpy()
        np.testing.assert_allclose(graph(pixels), expected, atol=CLOSE)


def test_features_are_rounded_as_they_are_kept():
    encoder = build_encoder(EncoderConfig(model="raffect-tiny", pretrained=None)).eval()
    pixels = torch.zeros((1, 64, 64, 3), dtype=torch.uint8)
    with torch.inference_mode():
        half, single = (EncoderGraph(encoder, d)(pixels) for d in ("float16", "float32"))
    assert half.dtype == single.dtype == torch.float32
    assert torch.equal(half, single.half().float())
    assert not torch.equal(half, single)


def test_what_a_format_can_not_hold_is_said_at_once():
    large = torch.nn.Linear(30_000, 30_000, device="meta")
    with pytest.raises(DataError, match=r"3\.4 GiB") as told:
        to_bytes(large, {"x": torch.zeros(2, 30_000)}, [{0: "batch"}], "y", "onnx")
    assert "--format folder" in str(told.value)
