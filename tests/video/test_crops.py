"""The pipeline gives what its parts give one after the other, in order, and ends at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from raffect.video.align import align
from raffect.video.crops import find_crops
from raffect.video.decode import open_video
from raffect.video.detect import load_detector
from raffect.video.faces import Face, VideoFrame
from raffect.video.people import People
from tests.video.videos import FACE, crossing, make_video


class Slow:
    """Finds a face in each frame, after a while."""

    name, digest, warning = "slow", "0", None

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.found = 0

    def find(self, pixels: NDArray[np.uint8]) -> list[Face]:
        time.sleep(self.seconds)
        self.found += 1
        return [Face(np.array([10, 10, 60, 70], np.float32), 0.9)]


class Frames:
    """Frames as they are asked for; counts them."""

    def __init__(self, count: int, fails_at: int | None = None) -> None:
        self.count, self.fails_at = count, fails_at
        self.given = 0

    def __iter__(self) -> Iterator[VideoFrame]:
        for number in range(1, self.count + 1):
            if number == self.fails_at:
                raise OSError("the disk is gone")
            self.given += 1
            yield VideoFrame(number, number / 25, np.full((80, 80, 3), number, np.uint8))


def test_real_faces_are_followed_from_file_to_crop(tmp_path: Path) -> None:
    actors = [
        crossing((0, 60, 90), (220, 100, 120), 30, hidden=range(12, 18)),
        crossing((230, 0, 80), (120, 0, 70), 30, mirrored=True),
    ]
    path = make_video(tmp_path / "a.mp4", actors, 30)
    detector = load_detector()
    with open_video(path) as video:
        found = list(find_crops(video.frames(), detector, People()))
    assert [frame.number for frame, _ in found] == list(range(1, 31))
    for frame, crops in found:
        number = frame.number - 1
        seen = [0, 1] if not 12 <= number < 18 else [1]
        assert [crop.person for crop in crops] == seen
        for crop in crops:
            left, top, side = actors[crop.person].place(number) or (0, 0, 0)
            a, b, c, d = FACE if not crop.person else (1 - FACE[2], FACE[1], 1 - FACE[0], FACE[3])
            wanted = np.array([left + a * side, top + b * side, left + c * side, top + d * side])
            assert np.abs(crop.face.box - wanted).max() < 0.12 * side
            assert np.array_equal(crop.pixels, align(frame.pixels, crop.face))


def test_it_gives_what_one_thread_gives() -> None:
    detector = Slow()
    found = list(find_crops(Frames(20), detector, People()))
    assert [frame.number for frame, _ in found] == list(range(1, 21))
    assert all([crop.person for crop in crops] == [0] for _, crops in found)
    assert all((crops[0].pixels[40:70, 40:70] == frame.number).all() for frame, crops in found)


def test_decoding_and_finding_go_on_while_the_caller_works() -> None:
    detector = Slow(0.05)
    began = time.monotonic()
    for _ in find_crops(Frames(20), detector, People()):
        time.sleep(0.05)
    # One after the other it were 2 s.
    assert time.monotonic() - began < 1.7


def test_few_frames_are_in_memory() -> None:
    frames = Frames(1000)
    crops = find_crops(frames, Slow(), People())
    for _ in range(10):
        next(crops)
    time.sleep(0.1)
    assert frames.given <= 10 + 6
    crops.close()


def test_an_error_comes_after_the_frames_before_it() -> None:
    crops = find_crops(Frames(20, fails_at=8), Slow(), People())
    assert [next(crops)[0].number for _ in range(7)] == list(range(1, 8))
    with pytest.raises(OSError, match="the disk is gone"):
        next(crops)


def test_closing_ends_the_threads_at_once() -> None:
    before = threading.active_count()
    detector = Slow(0.05)
    crops = find_crops(Frames(1000), detector, People())
    next(crops)
    crops.close()
    assert threading.active_count() == before
    found = detector.found
    time.sleep(0.2)
    assert detector.found == found


def test_no_frames_give_no_crops() -> None:
    assert list(find_crops([], Slow(), People())) == []
