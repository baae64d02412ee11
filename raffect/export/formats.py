"""ONNX and TorchScript files of graphs, without the paths that torch writes into them."""

from __future__ import annotations

import io
import logging
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.onnx import OnnxExporterError

from raffect.errors import DataError
from raffect.export.layout import Format
from raffect.text import first_line, size_text

OPSET = 20
"""Of ONNX: what torch's exporter writes; ONNX Runtime 1.17 and later read it."""
_MOST_BYTES = (1 << 31) - (1 << 24)
"""Of weights: protobuf holds 2 GiB with all that is around them."""
Axes = Sequence[dict[int, str]]
"""By input, the axes that may have any length, and their names."""


def to_bytes(
    graph: nn.Module, inputs: dict[str, Tensor], axes: Axes, output: str, kind: Format
) -> bytes:
    """A file of a graph with these inputs; the examples' lengths do not matter.

    Raises:
        DataError: Torch can't export it, or the format can't hold it.
    """
    try:
        with _exporting():
            if kind == "onnx":
                return _onnx(graph, inputs, axes, output)
            return _torchscript(graph, inputs)
    except (OnnxExporterError, RuntimeError, ValueError) as error:
        # Towers are others' code.
        raise DataError(
            f"{type(graph).__name__} can't be written as {kind}: {first_line(error)}.",
            "a model that torch can export, and of less than 2 GiB in onnx",
            "Give --format folder, which holds every model, or the other format.",
        ) from error


def _onnx(graph: nn.Module, inputs: dict[str, Tensor], axes: Axes, output: str) -> bytes:
    size = sum(each.numel() * each.element_size() for each in graph.state_dict().values())
    if size > _MOST_BYTES:
        raise ValueError(f"its weights are {size_text(size)}")
    program = torch.onnx.export(
        graph,
        tuple(inputs.values()),
        dynamo=True,
        input_names=list(inputs),
        output_names=[output],
        dynamic_shapes=tuple(axes),
        opset_version=OPSET,
        verbose=False,
    )
    assert program is not None
    model = program.model_proto
    for owner in (model.graph, *model.functions):
        for part in (*owner.node, *owner.value_info):
            # Among them stacks with the paths of this machine.
            del part.metadata_props[:]
            part.doc_string = ""
    for part in (*model.graph.input, *model.graph.output, *model.graph.initializer, model.graph):
        del part.metadata_props[:]
        part.doc_string = ""
    data: bytes = model.SerializeToString()
    return data


def _torchscript(graph: nn.Module, inputs: dict[str, Tensor]) -> bytes:
    example = tuple(inputs.values())
    traced = torch.jit.trace(graph, example, check_trace=False)  # type: ignore[no-untyped-call]
    whole, kept = io.BytesIO(), io.BytesIO()
    torch.jit.save(traced, whole)
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(kept, "w") as target:
        for info in source.infolist():
            # Where in which file of this machine each line came from.
            if not info.filename.endswith(".debug_pkl"):
                target.writestr(info, source.read(info))
    return kept.getvalue()


@contextmanager
def _exporting() -> Iterator[None]:
    """Attention by plain operations, and no talk of the exporter's."""
    fast, before = torch.backends.mha.get_fastpath_enabled(), logging.root.manager.disable
    torch.backends.mha.set_fastpath_enabled(False)
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        logging.disable(before)
