"""The newest frame of files, streams and cameras, however slow its taker is."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from raffect.errors import DataError, NotThereError
from raffect.video import camera as cameras
from raffect.video.camera import Arrival, Camera, open_camera
from tests.video import server
from tests.video.videos import make_video

FRAMES, RATE = 30, 25


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("camera") / "one.mp4", frames=FRAMES, rate=RATE)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a server whose stream of two seconds takes one."""
    path = make_video(tmp_path_factory.mktemp("served") / "two.ts", frames=50, rate=RATE)
    command = [sys.executable, server.__file__, str(path), "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"http://somebody:secret@127.0.0.1:{process.stdout.readline().strip()}"
        process.terminate()


def take_all(camera: Camera, each_s: float = 0.0) -> list[Arrival]:
    """All that somebody gets who takes so long for each frame."""
    found = []
    with camera:
        camera.start()
        while not camera.ended:
            arrival = camera.poll()
            if arrival is not None:
                found.append(arrival)
                time.sleep(each_s)
    return found


def test_a_file_is_read_at_its_own_speed_and_silence_before_its_end_is_an_error(video: Path):
    camera = open_camera(str(video))
    camera.check_silence(9)
    with pytest.raises(DataError, match=r"one.mp4 has shown no frame for 11 s"):
        camera.check_silence(11)
    began = time.monotonic()
    found = take_all(camera)
    # It is at its end.
    camera.check_silence(11)
    assert time.monotonic() - began >= (FRAMES - 1) / RATE
    assert found[-1].frame.number == FRAMES
    for one in found:
        # By the file's clock, but for a machine that stood still for a second.
        due = found[0].at + one.frame.time - found[0].frame.time
        assert one.at >= due - 1e-6


def test_whoever_is_slow_misses_frames_and_is_told_how_many(video: Path):
    camera = open_camera(str(video))
    found = take_all(camera, each_s=0.2)
    assert len(found) < FRAMES / 2
    assert camera.dropped >= FRAMES / 2
    assert len(found) + camera.dropped == FRAMES
    before = 0
    for one in found:
        assert one.skipped == one.frame.number - before - 1
        before = one.frame.number


def test_a_stream_without_an_end_is_taken_as_it_comes(address: str):
    camera = open_camera(f"{address}/whole.ts")
    found = take_all(camera)
    assert len(found) + camera.dropped == found[-1].frame.number == 50
    assert camera.broken is None
    assert "secret" not in camera.name


def test_a_server_that_dies_is_told(address: str):
    camera = open_camera(f"{address}/dies.ts")
    found = take_all(camera)
    assert 5 < found[-1].frame.number < 45
    assert camera.broken


def test_a_server_that_stalls_is_given_up(address: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cameras, "_STALL_S", 1.0)
    camera = open_camera(f"{address}/stalls.ts")
    began = time.monotonic()
    found = take_all(camera)
    assert time.monotonic() - began < 20
    assert 5 < found[-1].frame.number < 45
    assert camera.broken


def test_a_camera_that_is_not_there():
    with pytest.raises(NotThereError, match=r"There is no camera /dev/video987"):
        open_camera("987")


def test_a_device_that_is_no_camera():
    with pytest.raises(DataError, match=r"The camera /dev/null can't be used: .+") as caught:
        open_camera("/dev/null")
    assert "ffmpeg" not in str(caught.value)


def test_a_dead_server_is_told_without_its_password():
    with pytest.raises(DataError, match=r"127.0.0.1") as caught:
        open_camera("rtsp://somebody:secret@127.0.0.1:9/stream")
    assert "secret" not in str(caught.value)


def test_leaving_early_ends_the_reading(video: Path):
    with open_camera(str(video)) as camera:
        camera.start()
        assert camera.poll(5) is not None
    assert camera.ended or camera.poll() is not None
