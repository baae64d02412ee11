"""Videos as upright RGB frames with their times, one at a time, by FFmpeg (PyAV)."""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import TYPE_CHECKING, Self, cast
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from raffect.errors import DataError
from raffect.inputs import reason_of
from raffect.requirements import require
from raffect.text import duration
from raffect.video.faces import VideoFrame

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
    from av.video.stream import VideoStream

_TEXTS = frozenset({"adf", "bin", "idf", "tty", "xbin"})
"""FFmpeg's formats that draw any text file as a picture of a terminal."""
_MOST_PIXELS = 16384 * 8704
"""A frame takes three bytes a pixel, and three more as it is turned; 8k video has 33 million."""
_MOST_SHAPE = 4
_THREADS = 8
"""Each of FFmpeg's threads holds a frame; more than these gain nothing."""
_URL_TIMEOUT_S = 15.0
_ALLOWED = "a video that FFmpeg reads (mp4, mkv, webm, mov, avi, ...)"


class Video:
    """A file, stream or camera that is read once, as a context manager.

    Attributes:
        name: The file's or address's last part, without what may be secret in an address.
        width: Of the first frame, upright and with square pixels; later ones may differ.
        rate: Frames per second on average; None: not known.
        expected: How many frames there probably are; None: not known.
        broken: Why not all could be read, once `frames()` has ended; None: all were.
    """

    def __init__(self, name: str, container: InputContainer, stream: VideoStream) -> None:
        self.name = name
        self.broken: str | None = None
        self._container = container
        self._stream = stream
        rate = stream.average_rate or stream.guessed_rate
        self.rate = float(rate) if rate else None
        # Width of a pixel over its height; a file that says nonsense is not to fill the memory.
        shape = float(stream.sample_aspect_ratio or 1)
        self._shape = shape if 1 / _MOST_SHAPE < shape < _MOST_SHAPE else 1.0
        self._damaged: list[float] = []
        self._clock = _Clock(self.rate)
        self._decoded = self._decode()
        first = next(self._decoded, None)
        if first is None:
            raise _unusable(name, self.broken or "it has no frames")
        self.height, self.width = first.pixels.shape[:2]
        self._frames = itertools.chain([first], self._decoded)
        self.expected = self._count()

    def frames(self) -> Iterator[VideoFrame]:
        """What is left of the frames, as they come; errors after the first end up in `broken`."""
        return self._frames

    def close(self) -> None:
        """Let go of the file or device; no thread may be reading frames."""
        self._container.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _decode(self) -> Iterator[VideoFrame]:
        numbers = itertools.count(1)
        for frame in self._raw_frames():
            if frame.width * frame.height > _MOST_PIXELS:
                self.broken = f"its frames have {frame.width}x{frame.height} pixels"
                return
            time = self._clock.of(frame)
            yield VideoFrame(next(numbers), time, _upright(frame, self._shape))

    def _raw_frames(self) -> Iterator[av.VideoFrame]:
        import av

        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except (av.FFmpegError, OSError) as error:
                self.broken = _words(error)
                return
            if packet is None:
                break
            try:
                yield from packet.decode()
            except av.EOFError:
                break
            except (av.FFmpegError, OSError) as error:
                # The next ones may be whole, as after a damaged sector or a lost datagram.
                self._damaged.append(self._clock.last)
                self._problem = _words(error)
        self.broken = self._what_lacks()

    def _what_lacks(self) -> str | None:
        if self._damaged:
            count = len(self._damaged)
            return (
                f"{count:,} of its packets could not be decoded, the first at "
                f"{duration(self._damaged[0])} ({self._problem})"
            )
        return None

    def _length(self) -> float | None:
        """Seconds, as the header says."""
        if self._stream.duration and self._stream.time_base:
            return float(self._stream.duration * self._stream.time_base)
        return self._container.duration / 1e6 if self._container.duration else None

    def _count(self) -> int | None:
        length = self._length()
        return self._stream.frames or (round(length * self.rate) if length and self.rate else None)


def open_video(
    source: str | Path,
    *,
    format: str | None = None,
    options: Mapping[str, str] | None = None,
    timeout: float = _URL_TIMEOUT_S,
) -> Video:
    """A video whose first frame could be read.

    Args:
        source: A file, or a URL that FFmpeg reads (a text with `://`).
        format: FFmpeg's name of the input's format, where it can't be told from the content, as
            `v4l2` for a camera's device.
        options: FFmpeg's, of the format.
        timeout: Seconds that a URL's server may take to answer.

    Raises:
        DataError: It can't be read, or has no frame.
        NotThereError: The extra `video` is not installed.
    """
    require("video", "av", "Reading a video")
    import av

    # FFmpeg would write to standard error by itself.
    av.logging.set_level(None)
    address = str(source)
    if format is None and "://" not in address:
        _see_to_file(Path(source))
        # Else `a:b.mp4` were an address, of the scheme `a`.
        address = f"file:{source}"
    name = _name_of(source)
    limits = (timeout, timeout) if "://" in address else None
    try:
        container = av.open(
            address,
            format=format,
            options=dict(options or {}),
            metadata_errors="replace",
            timeout=limits,
        )
    except (av.FFmpegError, OSError, ValueError) as error:
        raise _unusable(name, _words(error)) from error
    try:
        return Video(name, container, _video_stream(name, container))
    except BaseException:
        container.close()
        raise


def _see_to_file(path: Path) -> None:
    try:
        found = path.stat()
        if stat.S_ISREG(found.st_mode):
            with path.open("rb"):
                pass
    except OSError as error:
        raise DataError(
            f"{path} can't be read: {reason_of(error)}.", _ALLOWED, "Look at the path."
        ) from error
    if not stat.S_ISREG(found.st_mode):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe, a socket or a device"
        raise DataError(f"{path} is {kind}, not a video.", _ALLOWED, "Name a file.")
    if not found.st_size:
        raise _unusable(path.name, "it is empty")


def _video_stream(name: str, container: InputContainer) -> VideoStream:
    from av.stream import Disposition

    if container.format.name in _TEXTS:
        raise _unusable(name, "it is a text, not a video")
    streams = [
        stream
        for stream in container.streams.video
        if not stream.disposition & Disposition.attached_pic
    ]
    if not streams:
        what = "only sound" if container.streams.audio else "no pictures"
        raise _unusable(name, f"it has {what}")
    stream = container.streams.best("video") or streams[0]
    found = stream if stream in streams else streams[0]
    codec = getattr(found, "codec_context", None)
    if codec is None:
        raise _unusable(name, "FFmpeg knows no decoder for its pictures")
    if codec.width * codec.height > _MOST_PIXELS:
        raise _unusable(name, f"its frames have {codec.width}x{codec.height} pixels")
    found.thread_type = "AUTO"
    codec.thread_count = min(_THREADS, len(os.sched_getaffinity(0)))
    return found


class _Clock:
    """Seconds since the first frame, strictly growing: recordings may jump in their own clock."""

    def __init__(self, rate: float | None) -> None:
        self._step = 1 / rate if rate else 1 / 25
        self._start: float | None = None
        self.last = 0.0

    def of(self, frame: av.VideoFrame) -> float:
        shown = frame.time
        if self._start is None:
            self._start = shown or 0.0
            return 0.0
        time = None if shown is None else shown - self._start
        if time is None or time <= self.last:
            time = self.last + self._step
            if shown is not None:
                self._start = shown - time
        self.last = time
        return time


def _upright(frame: av.VideoFrame, shape: float) -> NDArray[np.uint8]:
    """RGB, with square pixels, turned as the file says that players have to."""
    width = max(1, round(frame.width * shape))
    pixels = np.asarray(frame.reformat(width=width, format="rgb24").to_ndarray(), np.uint8)
    # PyAV's stubs have another type for it.
    matrix = cast("Mapping[str, bytes]", frame.side_data).get("DISPLAYMATRIX")
    if matrix is not None:
        a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5]
        pixels = _turned(pixels, int(a), int(b), int(c), int(d))
    return np.ascontiguousarray(pixels)


def _turned(pixels: NDArray[np.uint8], a: int, b: int, c: int, d: int) -> NDArray[np.uint8]:
    """A point (x, y) is shown at (ax + cy, bx + dy); angles between quarters are left alone."""
    if abs(b) > abs(a) and abs(c) > abs(d):
        pixels = pixels.swapaxes(0, 1)
        a, d = c, b
    if a < 0:
        pixels = pixels[:, ::-1]
    return pixels[::-1] if d < 0 else pixels


def _name_of(source: str | Path) -> str:
    text = str(source)
    if "://" not in text:
        return PurePosixPath(text).name
    parts = urlsplit(text)
    # The rest may hold a password or a token.
    return PurePosixPath(parts.path).name or parts.hostname or parts.scheme


def _words(error: Exception) -> str:
    if isinstance(error, OSError):
        return reason_of(error)
    return getattr(error, "strerror", None) or str(error)


def _unusable(name: str, why: str) -> DataError:
    return DataError(
        f"{name} can't be used as a video: {why}.",
        _ALLOWED,
        "See whether a player shows it; `ffmpeg -i` may turn it into an mp4.",
    )
