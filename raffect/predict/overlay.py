"""The video once more, with boxes, persons' numbers and values drawn into it."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from raffect.affwild2.csvfile import whole_file
from raffect.affwild2.tasks import ACTION_UNIT_THRESHOLD, SPECS, Task
from raffect.errors import DataError
from raffect.predict.chosen import Chosen
from raffect.predict.table import BOX
from raffect.predict.video import OnFrame, PredictedVideo
from raffect.text import first_line
from raffect.video.decode import open_video

if TYPE_CHECKING:
    from av.video.stream import VideoStream

_TICKS = 90_000
"""Of the clock that frames' times are written in, per second; MPEG's own."""
_SHADES = ("#4aa3ff", "#ffb02e", "#3ddc97", "#ff6fae", "#c9a2ff", "#f4f48a")
"""Of the persons in turn, bright on any picture."""
_CODECS = (("libx264", {"preset": "veryfast", "crf": "20"}), ("mpeg4", {"q": "4"}))
_LEAST_SIDE = 360
"""Smaller videos, as `--aligned` ones are, are doubled until text can be read on them."""


def write_overlay(
    out: Path,
    source: str | Path,
    chosen: Chosen,
    predicted: PredictedVideo,
    progress: OnFrame = lambda *_: None,
) -> None:
    """Read the video again and write it as mp4 with what was predicted, without sound.

    Frames keep their times. Sizes become even, as H.264 wants them.

    Raises:
        DataError: The video can't be read again, or the file can't be written.
    """
    import av

    captions = _Captions(chosen, predicted.table)
    with open_video(source) as video, whole_file(out) as path:
        scale = max(1, -(-_LEAST_SIDE // max(1, min(video.height, video.width))))
        size = tuple(scale * side + (scale * side) % 2 for side in (video.width, video.height))
        try:
            with av.open(str(path), "w", format="mp4") as container:
                codec, options = next(
                    (name, options) for name, options in _CODECS if name in av.codecs_available
                )
                rate = Fraction(video.rate or 25).limit_denominator(1001)
                stream = cast("VideoStream", container.add_stream(codec, rate, options))
                stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
                stream.codec_context.time_base = Fraction(1, _TICKS)
                for frame in video.frames():
                    drawn = captions.draw(frame.number, frame.pixels, scale, size)
                    shown = av.VideoFrame.from_ndarray(drawn, format="rgb24")
                    shown.pts, shown.time_base = round(frame.time * _TICKS), Fraction(1, _TICKS)
                    container.mux(stream.encode(shown))
                    progress(frame.number, predicted.summary.frames)
                container.mux(stream.encode(None))
        except av.FFmpegError as error:
            raise DataError(
                f"{out} can't be written: {first_line(error)}.",
                "a video of at most 16,384 pixels a side",
                "Leave --overlay out: the table does not need it.",
            ) from error


class _Captions:
    """The rows of a table by frame, drawn."""

    def __init__(self, chosen: Chosen, table: pa.Table) -> None:
        self._lines = [
            (of.config.task, columns)
            for of, columns in zip(chosen.ensembles, chosen.columns, strict=True)
        ]
        order = np.argsort(table["frame"].to_numpy(), kind="stable")
        self._table = table.take(order)
        self._frames = self._table["frame"].to_numpy()

    def draw(
        self, number: int, pixels: NDArray[np.uint8], scale: int, size: Sequence[int]
    ) -> NDArray[np.uint8]:
        """A frame with its captions, scaled and padded with black to the size."""
        image = Image.fromarray(pixels)
        wide, high = size
        if scale > 1:
            image = image.resize((scale * image.width, scale * image.height))
        if image.size != (wide, high):
            # Later frames of a stream may be larger than the first.
            image.thumbnail((wide, high))
            padded = Image.new("RGB", (wide, high))
            padded.paste(image)
            image = padded
        start, end = np.searchsorted(self._frames, [number, number + 1])
        for row in self._table.slice(start, end - start).to_pylist():
            if row["face"]:
                self._draw_person(image, row, scale)
        return np.asarray(image)

    def _draw_person(self, image: Image.Image, row: dict[str, float], scale: int) -> None:
        pen = ImageDraw.Draw(image, "RGBA")
        shade = _SHADES[int(row["person"]) % len(_SHADES)]
        text_size = max(12, image.height // 40)
        font = ImageFont.load_default(text_size)
        box = [scale * row[side] for side in BOX]
        pen.rectangle(box, outline=shade, width=max(2, text_size // 8))
        lines = [f"person {row['person']}"]
        for task, columns in self._lines:
            lines += _caption(task, [row[column] for column in columns])
        text = "\n".join(lines)
        left, top, right, bottom = pen.multiline_textbbox((0, 0), text, font)
        width, height = right - left + text_size // 2, bottom - top + text_size // 2
        # Below the box; where there is no room beside it, at last within it.
        places = [
            (box[0], box[3]), (box[0], box[1] - height),
            (box[2], box[1]), (box[0] - width, box[1]),
        ]  # fmt: skip
        fits = (
            (x, y)
            for x, y in places
            if 0 <= x <= image.width - width and 0 <= y <= image.height - height
        )
        x, y = next(fits, (min(max(0, box[0]), image.width - width), max(0, box[3] - height)))
        pen.rectangle((x, y, x + width, y + height), fill=(0, 0, 0, 150))
        inset = text_size // 4
        pen.multiline_text((x + inset - left, y + inset - top), text, fill=shade, font=font)


def _caption(task: Task, values: Sequence[float]) -> list[str]:
    """What a model says of a face, in a line or two."""
    names = SPECS[task].columns
    if task is Task.VA:
        return [f"{name} {value:+.2f}" for name, value in zip(names, values, strict=True)]
    if task is Task.EXPR:
        best = int(np.argmax(values))
        return [f"{names[best]} {values[best]:.2f}"]
    active = [
        name for name, value in zip(names, values, strict=True) if value >= ACTION_UNIT_THRESHOLD
    ]
    rows = [active[at : at + 4] for at in range(0, len(active), 4)]
    return [" ".join(row) for row in rows] or ["no action unit"]
