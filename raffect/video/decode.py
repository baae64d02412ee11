"""Videos as upright RGB frames with their times, one at a time, by FFmpeg (PyAV)."""

from __future__ import annotations

import itertools
import os
import re
import stat
import threading
from collections.abc import Generator, Iterator, Mapping
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
_MOST_LACKING_S = 0.25
"""And a hundredth: headers are rounded."""
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

    def __init__(
        self, shown: str, path: Path | None, container: InputContainer, stream: VideoStream
    ) -> None:
        self.name = PurePosixPath(shown).name
        self.broken: str | None = None
        self._file = path
        self._size = path.stat().st_size if path else 0
        self._container = container
        self._stream = stream
        rate = stream.average_rate or stream.guessed_rate
        self.rate = float(rate) if rate else None
        # Width of a pixel over its height; a file that says nonsense is not to fill the memory.
        shape = float(stream.sample_aspect_ratio or 1)
        self._shape = shape if 1 / _MOST_SHAPE < shape < _MOST_SHAPE else 1.0
        self._damaged: list[float] = []
        self._clock = _Clock(self.rate)
        self._decoded: Generator[VideoFrame, None, None] | None = self._decode()
        self._lock = threading.Lock()
        self._first = first = next(self._decoded, None)
        if first is None:
            why = "none of its pictures can be decoded" if self._damaged else self.broken
            raise _unusable(shown, why or "it has no pictures")
        self.height, self.width = first.pixels.shape[:2]
        self.expected = self._count()

    def frames(self) -> Iterator[VideoFrame]:
        """What is left of the frames, as they come; errors after the first end up in `broken`.

        Ends after `close()`. Another thread may read them.
        """
        return iter(self._next, None)

    def close(self) -> None:
        """Let go of the file or device, once no thread is decoding a frame."""
        with self._lock:
            if self._decoded:
                # It holds this object and the decoder's pictures: a circle that is found late.
                self._decoded.close()
            self._decoded = self._first = None
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

    def _next(self) -> VideoFrame | None:
        # Closing what FFmpeg reads from would end the process.
        with self._lock:
            first, self._first = self._first, None
            return first or next(self._decoded, None) if self._decoded else None

    def _decode(self) -> Generator[VideoFrame, None, None]:
        import av

        numbers = itertools.count(1)
        for frame in self._raw_frames():
            if frame.width * frame.height > _MOST_PIXELS:
                self.broken = f"a frame has {frame.width}x{frame.height} pixels"
                return
            time = self._clock.of(frame)
            try:
                pixels = _upright(frame, self._shape)
            except (av.FFmpegError, OSError):
                self._damaged.append(time)
                continue
            yield VideoFrame(next(numbers), time, pixels)

    def _raw_frames(self) -> Iterator[av.VideoFrame]:
        import av

        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except (av.FFmpegError, OSError) as error:
                self.broken = f"after {duration(self._clock.end)}: {_words(error)}"
                return
            if packet is None:
                break
            if packet.has_sidedata("encryption_info"):
                self.broken = "it is encrypted"
                return
            try:
                for frame in packet.decode():
                    if frame.is_corrupt:
                        self._damaged.append(self._clock.end)
                    yield frame
            except av.EOFError:
                break
            except av.FFmpegError:
                # The next ones may be whole, as after a damaged sector or a lost datagram.
                self._damaged.append(self._clock.end)
        self.broken = self._what_lacks()

    def _what_lacks(self) -> str | None:
        if self._file and self._file.stat().st_size != self._size:
            return "the file changed while it was read"
        end, length = self._clock.end, self._length()
        # Several containers end without an error where the file is cut off.
        # Matroska counts from 0, not from the first picture.
        if length and length - end - self._clock.start > _MOST_LACKING_S + length / 100:
            return f"it ends after {duration(end)} of the {duration(length)} that its header says"
        if self._damaged:
            after = duration(self._damaged[0])
            return f"it is damaged: pictures lack or are wrong, the first after {after}"
        return None

    def _length(self) -> float | None:
        """Seconds that the pictures last, as the headers say."""
        if self._container.format.name == "avi" and self._stream.frames and self.rate:
            # FFmpeg shortens the duration of a file that is cut off.
            return self._stream.frames / self.rate
        known = []
        if self._stream.duration and self._stream.time_base:
            known.append(float(self._stream.duration * self._stream.time_base))
        elif "DURATION" in self._stream.metadata:
            known += _seconds(self._stream.metadata["DURATION"])
        # Sound may go on after the pictures.
        if self._container.duration and (known or len(self._container.streams) == 1):
            known.append(self._container.duration / 1e6)
        return min(known, default=None)

    def _count(self) -> int | None:
        length = self._length() or (self._container.duration or 0) / 1e6
        return self._stream.frames or (round(length * self.rate) if length and self.rate else None)


def open_video(
    source: str | Path,
    *,
    format: str | None = None,
    options: Mapping[str, str] | None = None,
    timeout: float = _URL_TIMEOUT_S,
    prompt: bool = False,
) -> Video:
    """A video whose first frame could be read.

    Args:
        source: A file, or a URL that FFmpeg reads (a text with `://`).
        format: FFmpeg's name of the input's format, where it can't be told from the content, as
            `v4l2` for a camera's device.
        options: FFmpeg's, of the format.
        timeout: Seconds that a URL's server may take to answer.
        prompt: Hand on each frame as soon as it is there: threads that decode several frames at
            once hold them back.

    Raises:
        DataError: It can't be read, or has no frame.
        NotThereError: The extra `video` is not installed.
    """
    require("video", "av", "Reading a video")
    import av

    # FFmpeg would write to standard error by itself.
    av.logging.set_level(None)
    address, shown = str(source), str(source)
    path = None
    if "://" in address:
        shown = _without_secrets(address)
    elif format is None:
        path = Path(source)
        _see_to_file(path)
        # Else `a:b.mp4` were an address, of the scheme `a`.
        address = f"file:{source}"
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
        raise _unusable(shown, _words(error)) from error
    try:
        stream = _video_stream(shown, container)
        if prompt:
            stream.thread_type = "SLICE"
        return Video(shown, path, container, stream)
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
        raise _unusable(str(path), "it is empty")


def _video_stream(shown: str, container: InputContainer) -> VideoStream:
    from av.stream import Disposition

    if container.format.name in _TEXTS:
        raise _unusable(shown, "it is a text")
    # A cover of an album is a picture too.
    streams = [
        stream
        for stream in container.streams.video
        if not stream.disposition & Disposition.attached_pic
    ]
    if not streams:
        sound = "only sound" if container.streams.audio else "no pictures"
        raise _unusable(shown, f"it has {sound}")
    best = container.streams.best("video")
    stream = next((one for one in streams if one is best), streams[0])
    # PyAV leaves it out where FFmpeg has no decoder.
    codec = getattr(stream, "codec_context", None)
    if codec is None:
        raise _unusable(shown, "FFmpeg has no decoder for its pictures")
    if codec.width * codec.height > _MOST_PIXELS:
        raise _unusable(shown, f"its frames have {codec.width}x{codec.height} pixels")
    stream.thread_type = "AUTO"
    codec.thread_count = min(_THREADS, len(os.sched_getaffinity(0)))
    return stream


class _Clock:
    """Seconds since the first frame, strictly growing: recordings may jump in their own clock.

    Attributes:
        start: The first frame's time by the file's clock, not below 0.
        end: When the last frame ends.
    """

    def __init__(self, rate: float | None) -> None:
        self._step = 1 / rate if rate else 1 / 25
        self._zero: float | None = None
        self._last = 0.0
        self.start = self.end = 0.0

    def of(self, frame: av.VideoFrame) -> float:
        shown = frame.time
        if self._zero is None:
            self._zero = shown or 0.0
            self.start = max(0.0, self._zero)
            time = 0.0
        elif shown is None or shown - self._zero <= self._last:
            time = self._last + self._step
            self._zero = self._zero if shown is None else shown - time
        else:
            time = shown - self._zero
        base = frame.time_base
        lasts = float(frame.duration * base) if frame.duration and base else self._step
        self._last, self.end = time, time + lasts
        return time


def _upright(frame: av.VideoFrame, shape: float) -> NDArray[np.uint8]:
    """RGB, with square pixels, turned as the file says that players have to."""
    import av

    width = max(1, round(frame.width * shape))
    try:
        converted = frame.reformat(width=width, format="rgb24")
    except av.FFmpegError:
        # Its matrix of colours is none that FFmpeg knows: that of HD is the most usual.
        converted = frame.reformat(width=width, format="rgb24", src_colorspace="itu709")
    pixels = np.asarray(converted.to_ndarray(), np.uint8)
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


def _without_secrets(address: str) -> str:
    """An address without its password, and the part that may hold a token."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _seconds(text: str) -> list[float]:
    """Of Matroska's `01:02:03.5`; none if it is something else."""
    found = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", text, re.ASCII)
    return [int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3])] if found else []


def _words(error: Exception) -> str:
    import av

    if isinstance(error, av.InvalidDataError):
        return "FFmpeg does not understand it"
    if isinstance(error, av.EOFError):
        return "it ends before the first picture"
    if isinstance(error, av.ExitError):
        return "its server does not answer"
    return getattr(error, "strerror", None) or str(error)


def _unusable(shown: str, why: str) -> DataError:
    if "://" in shown:
        advice = "See whether a player shows the address, from this machine."
    else:
        advice = "See whether a player shows it; `ffmpeg -i FILE NEW.mp4` mends some."
    return DataError(f"{shown} can't be used as a video: {why}.", _ALLOWED, advice)
