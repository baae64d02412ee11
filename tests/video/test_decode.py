"""Frames come upright, in order, with their times; what can't be read is said in one message."""

from __future__ import annotations

import http.server
import itertools
import os
import re
import socket
import threading
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from raffect.errors import DataError
from raffect.video.decode import open_video
from raffect.video.faces import VideoFrame
from tests.video.videos import astronaut, crossing, make_video, pictures, still, turn

SIDEWAYS = crossing((0, 0, 90), (60, 30, 90), 3)
Write = Callable[[Path], Path]


def read(path: Path) -> tuple[list[VideoFrame], str | None]:
    with open_video(path) as video:
        return list(video.frames()), video.broken


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


def test_the_flag_is_read_as_ffmpeg_reads_it(tmp_path: Path) -> None:
    with av.open(str(turn(make_video(tmp_path / "a.mp4", frames=2), 90))) as container:
        # Counterclockwise, in FFmpeg's words.
        assert next(container.decode(video=0)).rotation == -90


def test_variable_frame_rates_keep_their_times(tmp_path: Path) -> None:
    times = [5, 5.04, 5.5, 5.51, 7]
    frames, broken = read(make_video(tmp_path / "a.mkv", frames=5, times=times))
    assert [frame.number for frame in frames] == [1, 2, 3, 4, 5]
    assert [frame.time for frame in frames] == pytest.approx([one - 5 for one in times], abs=2e-3)
    assert broken is None


def test_times_grow_where_the_clock_jumps_back(tmp_path: Path) -> None:
    parts = [make_video(tmp_path / f"{n}.ts", frames=5).read_bytes() for n in range(2)]
    path = tmp_path / "both.ts"
    path.write_bytes(b"".join(parts))
    frames, _ = read(path)
    assert len(frames) == 10
    assert [frame.time for frame in frames] == pytest.approx(np.arange(10) / 25, abs=1e-3)


def test_a_stream_without_times_has_those_of_its_rate(tmp_path: Path) -> None:
    frames, broken = read(make_video(tmp_path / "a.h264", frames=5))
    assert [frame.time for frame in frames] == pytest.approx([0, 0.04, 0.08, 0.12, 0.16])
    assert broken is None


def test_pixels_that_are_not_square_become_so(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", frames=2, shape=Fraction(3, 2))
    with open_video(path) as video:
        assert (video.width, video.height) == (480, 240)
        assert next(video.frames()).pixels.shape == (240, 480, 3)


@pytest.mark.parametrize(
    ("pixels", "codec", "suffix"),
    [
        ("yuv444p10", "ffv1", "mkv"), ("gray", "ffv1", "mkv"), ("gray16", "ffv1", "mkv"),
        ("rgba", "png", "mov"), ("bgr0", "ffv1", "mkv"), ("gbrp16", "ffv1", "mkv"),
        ("yuv411p", "ffv1", "mkv"), ("yuvj420p", "mjpeg", "avi"),
        ("yuv422p10", "prores_ks", "mov"),
        ("yuv420p", "mpeg4", "avi"), ("yuv420p", "libvpx-vp9", "webm"),
    ],
)  # fmt: skip
def test_all_kinds_of_pixels_become_rgb(
    tmp_path: Path, pixels: str, codec: str, suffix: str
) -> None:
    size = (161, 121) if codec == "ffv1" else (160, 120)
    actors = [still(40, 20, 80)]
    path = make_video(tmp_path / f"a.{suffix}", actors, 2, size=size, codec=codec, pixels=pixels)
    frames, broken = read(path)
    assert broken is None
    wanted = next(pictures(actors, 1, size)).astype(float)
    if pixels.startswith("gray"):
        wanted = np.repeat(wanted @ [[0.299], [0.587], [0.114]], 3, axis=2)
    assert frames[0].pixels.shape == wanted.shape
    assert np.abs(frames[0].pixels - wanted).mean() < 5


@pytest.mark.parametrize("mode", ["P", "1", "RGBA"])
def test_a_still_picture_is_a_video_of_one_frame(tmp_path: Path, mode: str) -> None:
    astronaut().convert(mode).save(tmp_path / "a.png")
    frames, broken = read(tmp_path / "a.png")
    assert [frame.pixels.shape for frame in frames] == [(512, 512, 3)]
    assert broken is None


def test_names_that_ffmpeg_reads_as_addresses(tmp_path: Path) -> None:
    path = make_video(tmp_path / "10:30 %03d.mp4", frames=2)
    with open_video(path) as video:
        assert video.name == "10:30 %03d.mp4"
        assert (video.rate, video.expected) == (25, 2)


def _sound(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        silence = np.zeros((1, 44100), np.float32)
        frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
        frame.rate = 44100
        for one in (frame, None):
            container.mux(stream.encode(one))
    return path


def _no_frames(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        container.start_encoding()
    return path


def _encrypted(path: Path) -> Path:
    options = {
        "encryption_scheme": "cenc-aes-ctr",
        "encryption_key": "76a6c65c5ea762046bd749a2e632ccbb",
        "encryption_kid": "a7e61c373e219033c21091fa607bf3b8",
    }
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for image in pictures([still(0, 0)], 3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def _unknown_codec(path: Path) -> Path:
    data = make_video(path, frames=2).read_bytes()
    path.write_bytes(data.replace(b"avc1", b"zzz1"))
    return path


def _garbled(path: Path) -> Path:
    """All of the pictures are noise; the container is whole."""
    data = bytearray(make_video(path, frames=3, codec="libvpx-vp9").read_bytes())
    start = data.index(b"\x1f\x43\xb6\x75") + 20
    data[start:-200] = np.random.default_rng(0).bytes(len(data) - 200 - start)
    path.write_bytes(data)
    return path


def _cut(part: float) -> Write:
    def write(path: Path) -> Path:
        data = make_video(path, frames=60).read_bytes()
        path.write_bytes(data[: int(len(data) * part)])
        return path

    return write


def _holding(data: bytes) -> Write:
    def write(path: Path) -> Path:
        path.write_bytes(data)
        return path

    return write


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def _pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


@pytest.mark.parametrize(
    ("name", "write", "says"),
    [
        ("a.mp4", lambda path: path, "there is no such file"),
        ("a.mp4", _folder, "is a folder"),
        ("a.mp4", _pipe, "is a pipe"),
        ("a.mp4", _holding(b""), "it is empty"),
        ("a.mp4", _holding(np.random.default_rng(0).bytes(5000)), "does not understand it"),
        ("a.mp4", _holding(bytes(5000)), "does not understand it"),
        ("a.txt", _holding(b"frame,valence\n" * 500), "it is a text"),
        ("a.csv", _holding(b"frame,valence\n" * 500), "does not understand it"),
        ("a.m4a", _sound, "only sound"),
        ("a.mp4", _no_frames, "it has no pictures"),
        ("a.mp4", _encrypted, "it is encrypted"),
        ("a.mp4", _unknown_codec, "no decoder"),
        ("a.webm", _garbled, "can be decoded|does not understand"),
        ("a.mp4", _cut(0.5), "does not understand it"),
        ("a.mkv", _cut(0.02), "does not understand it|no pictures|it ends"),
    ],
)
def test_what_is_no_video_is_one_error(
    tmp_path: Path, name: str, write: Write, says: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / name)
    capfd.readouterr()
    with pytest.raises(DataError, match=says) as caught:
        open_video(path)
    assert str(path) in caught.value.got
    assert caught.value.allowed
    assert caught.value.next_step
    assert capfd.readouterr() == ("", "")


def test_frames_of_a_hostile_size_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_video(tmp_path / "a.mp4", frames=2)
    monkeypatch.setattr("raffect.video.decode._MOST_PIXELS", 320 * 240 - 1)
    with pytest.raises(DataError, match="320x240"):
        open_video(path)


@pytest.mark.parametrize(
    ("name", "codec", "part"),
    [
        ("a.mkv", "libx264", 0.5), ("a.webm", "libvpx-vp9", 0.9), ("a.avi", "mpeg4", 0.5),
        ("a.ts", "libx264", 0.5), ("a.flv", "libx264", 0.7), ("a.h264", "libx264", 0.7),
    ],
)  # fmt: skip
def test_a_video_that_breaks_off_gives_its_frames_and_says_so(
    tmp_path: Path, name: str, codec: str, part: float, capfd: pytest.CaptureFixture[str]
) -> None:
    path = make_video(tmp_path / name, frames=60, codec=codec)
    whole, broken = read(path)
    assert len(whole) == 60
    assert broken is None
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    capfd.readouterr()
    frames, broken = read(path)
    assert 0 < len(frames) < 60
    assert broken
    assert "s" in broken
    # The last one may be the damaged one.
    for frame, one in zip(frames[:-1], whole, strict=False):
        assert (frame.number, frame.time) == (one.number, one.time)
        assert np.array_equal(frame.pixels, one.pixels)
    assert capfd.readouterr() == ("", "")


def test_damage_in_the_middle_is_told(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", frames=60)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 400] = np.random.default_rng(0).bytes(400)
    path.write_bytes(data)
    frames, broken = read(path)
    assert len(frames) > 50
    assert broken
    assert broken.startswith("it is damaged")


def test_a_file_that_grows_while_it_is_read_is_told(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.ts", frames=30)
    with open_video(path) as video:
        frames = video.frames()
        next(frames)
        with path.open("ab") as file:
            file.write(b"\x47" + bytes(187))
        assert len(list(frames)) == 29
        assert video.broken == "the file changed while it was read"


@pytest.mark.parametrize("wait", [0.0, 0.01, 0.02, 0.04])
def test_closing_while_a_thread_reads_ends_its_frames(tmp_path: Path, wait: float) -> None:
    video = open_video(make_video(tmp_path / "a.mp4", frames=200))
    numbers: list[int] = []
    thread = threading.Thread(target=lambda: numbers.extend(f.number for f in video.frames()))
    thread.start()
    time.sleep(wait)
    video.close()
    thread.join(10)
    assert not thread.is_alive()
    assert numbers == list(range(1, len(numbers) + 1))
    assert list(video.frames()) == []


def test_two_readings_are_equal(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", [crossing((0, 0, 80), (200, 100, 120), 30)], 30)
    one, other = read(path)[0], read(path)[0]
    assert [frame.time for frame in one] == [frame.time for frame in other]
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(one, other, strict=True))


def test_passwords_and_tokens_of_addresses_are_in_no_message() -> None:
    with pytest.raises(DataError) as caught:
        open_video("http://user:hush@127.0.0.1:1/cam/a.mp4?token=hush")
    assert "hush" not in str(caught.value)
    assert "http://127.0.0.1:1/cam/a.mp4" in caught.value.got


@pytest.mark.long
def test_a_frame_of_8k_takes_the_memory_of_few(tmp_path: Path) -> None:
    path = make_video(
        tmp_path / "a.mp4", [still(3000, 1000, 1500)], 4, size=(7680, 4320),
        options={"preset": "ultrafast"},
    )  # fmt: skip
    with open_video(path) as video:
        assert (video.width, video.height) == (7680, 4320)
        assert sum(frame.pixels.shape == (4320, 7680, 3) for frame in video.frames()) == 4


def test_a_source_of_another_format_is_opened_by_its_name() -> None:
    source = "testsrc=size=160x120:rate=10:duration=1"
    with open_video(source, format="lavfi", options={"probesize": "100000"}) as video:
        assert (video.width, video.height, video.rate) == (160, 120, 10)
        assert [frame.time for frame in video.frames()] == pytest.approx(np.arange(10) / 10)


class _Server(http.server.BaseHTTPRequestHandler):
    """Sends a file, or its first part and then nothing more."""

    data, part = b"", 1.0

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.data)))
        self.end_headers()
        self.wfile.write(self.data[: int(len(self.data) * self.part)])

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(("part", "frames"), [(1.0, 60), (0.6, None)])
def test_a_url_is_read_as_a_file_is(tmp_path: Path, part: float, frames: int | None) -> None:
    data = make_video(tmp_path / "a.mkv", frames=60).read_bytes()
    handler = type("Handler", (_Server,), {"data": data, "part": part})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://user:hush@127.0.0.1:{server.server_port}/cams/a.mkv?token=hush"
        with open_video(url) as video:
            assert video.name == "a.mkv"
            found = list(video.frames())
        server.shutdown()
    assert len(found) == frames if frames else 0 < len(found) < 60
    assert (video.broken is None) == (frames == 60)
    assert "hush" not in str(video.broken)


def test_a_server_that_is_silent_is_not_waited_for(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        with pytest.raises(DataError, match="does not answer"):
            open_video(f"http://127.0.0.1:{silent.getsockname()[1]}/a.mp4", timeout=0.5)
        assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [
        ("mp4", "libx264"), ("mkv", "ffv1"), ("webm", "libvpx-vp9"), ("avi", "mpeg4"),
        ("mov", "prores_ks"), ("ts", "libx264"),
    ],
)  # fmt: skip
def test_spoiled_files_are_errors_or_frames(tmp_path: Path, suffix: str, codec: str) -> None:
    """Bytes of the header or of anywhere are replaced; all that comes of it is told in words."""
    pixels = "yuv422p10" if codec == "prores_ks" else "yuv420p"
    path = tmp_path / f"a.{suffix}"
    data = make_video(path, frames=12, size=(96, 64), codec=codec, pixels=pixels).read_bytes()
    rng = np.random.default_rng(47)
    for number in range(40):
        spoiled = bytearray(data)
        for _ in range(rng.integers(1, 6)):
            start = int(rng.integers(min(len(data), 1500) if number % 2 else len(data)))
            spoiled[start : start + 8] = rng.bytes(8)
        path.write_bytes(spoiled)
        try:
            with open_video(path) as video:
                times = [frame.time for frame in video.frames()]
        except DataError:
            continue
        assert all(before < after for before, after in itertools.pairwise(times))


def test_colours_of_an_unknown_kind_are_shown(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mov", frames=2, codec="prores_ks", pixels="yuv422p10")
    data = bytearray(path.read_bytes())
    # In each frame's own header: after its name, its length 8, its size and three fields.
    for found in re.finditer(b"icpf", bytes(data)):
        data[found.end() + 16] = 29
    path.write_bytes(data)
    frames, broken = read(path)
    assert broken is None
    assert np.abs(frames[0].pixels - next(pictures([still(100, 60)], 1)).astype(float)).mean() < 12
