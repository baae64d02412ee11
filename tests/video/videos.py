"""Small videos with the face of scikit-image's astronaut at known places."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIZE = (320, 240)
_HEAD = (130, 10, 320, 200)
"""Of the photograph: left, top, right and bottom of a square around the head."""
FACE = (51 / 190, 48 / 190, 140 / 190, 168 / 190)
"""The face in that square, as parts of its side."""
_TICKS = 90_000

Place = Callable[[int], tuple[float, float, float] | None]
"""For a frame's 0-based number: left, top and side of the head's square; None: nobody is there."""


@dataclass(frozen=True)
class Actor:
    """Somebody whose head is at a place of each frame."""

    place: Place
    mirrored: bool = False


def still(left: float, top: float, side: float = 120) -> Actor:
    return Actor(lambda frame: (left, top, side))


def crossing(
    start: tuple[float, float, float], end: tuple[float, float, float], frames: int,
    hidden: Sequence[int] = (), mirrored: bool = False,
) -> Actor:  # fmt: skip
    """Somebody who moves in a straight line, and is not seen in the frames of `hidden`."""

    def place(frame: int) -> tuple[float, float, float] | None:
        part = frame / max(frames - 1, 1)
        left, top, side = (a + (b - a) * part for a, b in zip(start, end, strict=True))
        return None if frame in hidden else (left, top, side)

    return Actor(place, mirrored)


def pictures(
    actors: Sequence[Actor], frames: int, size: tuple[int, int] = SIZE
) -> Iterator[NDArray[np.uint8]]:
    """The frames, `(height, width, 3)`, as they are before a codec has them."""
    for frame in range(frames):
        image = Image.new("RGB", size, (70, 90, 110))
        for actor in actors:
            at = actor.place(frame)
            if at is not None:
                side = max(1, round(at[2]))
                image.paste(_head(side, actor.mirrored), (round(at[0]), round(at[1])))
        yield np.asarray(image)


def make_video(
    path: Path,
    actors: Sequence[Actor] = (still(100, 60),),
    frames: int = 60,
    *,
    size: tuple[int, int] = SIZE,
    rate: int = 25,
    times: Sequence[float] | None = None,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    options: dict[str, str] | None = None,
    shape: Fraction | None = None,
) -> Path:
    """A video of actors, without sound.

    Args:
        times: Seconds of each frame; None: as `rate` says.
        pixels: FFmpeg's format of pixels.
        shape: Width of a pixel over its height.
    """
    return write_video(
        path, pictures(actors, frames, size),
        rate=rate, times=times, codec=codec, pixels=pixels, options=options, shape=shape,
    )  # fmt: skip


def write_video(
    path: Path,
    images: Iterator[NDArray[np.uint8]],
    *,
    rate: int = 25,
    times: Sequence[float] | None = None,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    options: dict[str, str] | None = None,
    shape: Fraction | None = None,
) -> Path:
    """A video of frames `(height, width, 3)`."""
    av.logging.set_level(None)
    if options is None:
        options = {"preset": "ultrafast", "crf": "15"} if codec == "libx264" else {}
    with av.open(str(path), "w") as container:
        stream = None
        for number, image in enumerate(images):
            if stream is None:
                stream = container.add_stream(codec, rate=rate, options=options)
                stream.height, stream.width = image.shape[:2]
                stream.pix_fmt = pixels
                # More threads would cut the frames in other places.
                stream.codec_context.thread_count = 1
                if times is not None:
                    stream.codec_context.time_base = Fraction(1, _TICKS)
                if shape:
                    stream.codec_context.sample_aspect_ratio = shape
                if codec in ("mpeg4", "mjpeg", "libvpx-vp9", "libvpx"):
                    stream.bit_rate = 2_000_000
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            if times is None:
                frame.pts, frame.time_base = number, Fraction(1, rate)
            else:
                frame.pts, frame.time_base = round(times[number] * _TICKS), Fraction(1, _TICKS)
            container.mux(stream.encode(frame))
        if stream is not None:
            container.mux(stream.encode(None))
    return path


def turn(path: Path, degrees: int, mirrored: bool = False) -> Path:
    """Have an mp4 say that players turn it clockwise by quarters (and mirror it before)."""
    data = bytearray(path.read_bytes())
    cosine, sine = {0: (1, 0), 90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    sign = -1 if mirrored else 1
    matrix = (sign * cosine, sign * sine, 0, -sine, cosine, 0, 0, 0)
    # The track's header: 40 bytes before the matrix in its version 0, after name and flags.
    start = data.index(b"tkhd") + 4 + 40
    values = np.array([one << 16 for one in matrix] + [1 << 30], ">i4")
    data[start : start + 36] = values.tobytes()
    path.write_bytes(data)
    return path


@cache
def _head(side: int, mirrored: bool) -> Image.Image:
    head = astronaut().crop(_HEAD).resize((side, side), Image.Resampling.LANCZOS)
    return head.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else head


@cache
def astronaut() -> Image.Image:
    """Eileen Collins (NASA, public domain), 512x512."""
    from skimage.data import astronaut as photograph

    return Image.fromarray(photograph())
