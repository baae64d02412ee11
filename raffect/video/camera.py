"""Videos that go on while they are watched: a camera, a stream, a file at its own speed."""

from __future__ import annotations

import os
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from raffect.errors import DataError, NotThereError
from raffect.inputs import reason_of
from raffect.text import printable
from raffect.video.decode import Video, open_video
from raffect.video.faces import VideoFrame

_DEVICE = "/dev/video{}"
_STALL_S = 10.0
_LATE_S = 1.0
"""A source that is later than this has stood still: its clock goes on from there."""
_URL_OPTIONS = {"analyzeduration": "1000000"}
"""Microseconds of a stream that FFmpeg looks at first: by itself it waits for 5 s of it."""
_ASK_EVERY_S = 0.2
_CLOSE_S = 2.0
_ALLOWED = "the number or the device of a camera (0, /dev/video0), a URL, or a video's file"


@dataclass(frozen=True)
class Arrival:
    """A frame, when it came, and how many came since the last one that was taken.

    Attributes:
        at: By `time.monotonic()`: a file's or a finite stream's when it was due.
        skipped: Frames that nobody took, as newer ones had come.
    """

    frame: VideoFrame
    at: float
    skipped: int


class Camera:
    """The newest frame of a source, at any time; a context manager.

    A thread reads the source and keeps one frame, so that whoever is slow misses frames, and is
    never behind by more than one. What has a length is read at its own speed.

    Attributes:
        name: For people.
        rate: Frames per second, if the source says it.
        dropped: Frames that nobody took.
    """

    def __init__(self, video: Video, is_paced: bool) -> None:
        self.name = video.name
        self.rate = video.rate
        self.dropped = 0
        self._video = video
        self._is_paced = is_paced
        self._newest: Arrival | None = None
        self._taken = 0
        self._ended = False
        self._error: BaseException | None = None
        self._change = threading.Condition()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True, name="raffect-camera")

    @property
    def broken(self) -> str | None:
        """Why it ended before its time; None: it was at its end."""
        return self._video.broken

    def __enter__(self) -> Self:
        return self

    def start(self) -> None:
        """Begin to read; what came before is not there."""
        self._thread.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(_CLOSE_S)
        # One that waits for a server still reads: the end of the process closes the source.
        if not self._thread.is_alive():
            self._video.close()

    def poll(self, wait_s: float = _ASK_EVERY_S) -> Arrival | None:
        """The newest frame, if one came within this time that was not taken before."""
        with self._change:
            self._change.wait_for(lambda: self._newest is not None or self._ended, wait_s)
            found, self._newest = self._newest, None
            if found is not None:
                self._taken = found.frame.number
            elif self._error is not None:
                raise self._error
            return found

    def check_silence(self, seconds: float) -> None:
        """Raise DataError if a source that is not at its end has shown no frame for too long."""
        if seconds > _STALL_S and not self.ended:
            raise DataError(
                f"{printable(self.name)} has shown no frame for {seconds:.0f} s.",
                "a camera or stream that goes on",
                "See whether a player shows it, and start again.",
            )

    @property
    def ended(self) -> bool:
        """Whether there is nothing more to poll."""
        with self._change:
            return self._ended and self._newest is None

    def _read(self) -> None:
        try:
            began: float | None = None
            for frame in self._video.frames():
                now = time.monotonic()
                if began is None or now - began - frame.time > _LATE_S:
                    began = now - frame.time
                at = began + frame.time if self._is_paced else now
                if self._stop.wait(max(0.0, at - now)):
                    return
                with self._change:
                    self.dropped += self._newest is not None
                    self._newest = Arrival(frame, at, frame.number - self._taken - 1)
                    self._change.notify_all()
        except BaseException as error:
            self._error = error
        finally:
            with self._change:
                self._ended = True
                self._change.notify_all()


def open_camera(source: str) -> Camera:
    """A camera by its number or device, a stream by its URL, or a file.

    Raises:
        NotThereError: There is no such camera, or the extra `video` is not installed.
        DataError: It can't be used, or it is no video.
    """
    device = _DEVICE.format(source) if source.isdecimal() else source
    if source.isdecimal() and sys.platform == "darwin":
        return Camera(_open_device(source, "avfoundation", {"framerate": "30"}), False)
    if source.isdecimal() or Path(device).is_char_device():
        _see_to_device(Path(device))
        return Camera(_open_device(device, "v4l2", {}), False)
    is_url = "://" in source
    options = _URL_OPTIONS if is_url else None
    video = open_video(source, options=options, prompt=is_url, timeout=_STALL_S)
    return Camera(video, not is_url or video.expected is not None)


def _open_device(device: str, form: str, options: dict[str, str]) -> Video:
    try:
        return open_video(device, format=form, options=options, prompt=True)
    except DataError as error:
        cause = error.__cause__
        why = reason_of(cause) if isinstance(cause, OSError) else error.got
        raise DataError(
            f"The camera {device} can't be used: {why}.",
            _ALLOWED,
            "Close the program that uses it, or allow this one to.",
        ) from error


def _see_to_device(device: Path) -> None:
    if not device.exists():
        known = sorted(str(path) for path in Path("/dev").glob("video*"))
        raise NotThereError(
            f"There is no camera {device}.",
            f"cameras of this machine: {', '.join(known) or 'none'}; or a URL, or a video's file",
            "Connect one, or give --camera a stream's URL or a file.",
        )
    if not os.access(device, os.R_OK | os.W_OK):
        raise DataError(
            f"The camera {device} can't be used: you may not read it.",
            _ALLOWED,
            "Join the group that it belongs to (often `video`), and log in again.",
        )
