"""Frames come upright, in order, with their times; what can't be read is said in one message."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from raffect.video.decode import open_video
from tests.video.videos import crossing, make_video, pictures, turn

SIDEWAYS = crossing((0, 0, 90), (60, 30, 90), 3)


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_rotation_flag_turns_the_frames(tmp_path: Path, degrees: int, mirrored: bool) -> None:
    path = turn(make_video(tmp_path / "a.mp4", [SIDEWAYS], 3), degrees, mirrored)
    upright = next(pictures([SIDEWAYS], 1)).astype(int)
    if mirrored:
        upright = upright[:, ::-1]
    with open_video(path) as video:
        frame = next(video.frames())
        assert frame.pixels.shape == (video.height, video.width, 3)
    wanted = np.rot90(upright, -degrees // 90)
    assert frame.pixels.shape == wanted.shape
    assert np.abs(frame.pixels - wanted).mean() < 4


def test_variable_frame_rates_keep_their_times(tmp_path: Path) -> None:
    times = [5, 5.04, 5.5, 5.51, 7]
    with open_video(make_video(tmp_path / "a.mkv", frames=5, times=times)) as video:
        frames = list(video.frames())
    assert [frame.number for frame in frames] == [1, 2, 3, 4, 5]
    assert [frame.time for frame in frames] == pytest.approx([one - 5 for one in times], abs=2e-3)


def test_pixels_that_are_not_square_become_so(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", frames=2, shape=Fraction(3, 2))
    with open_video(path) as video:
        assert (video.width, video.height) == (480, 240)
        assert next(video.frames()).pixels.shape == (240, 480, 3)
