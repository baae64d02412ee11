"""Values of the people before a camera, while it runs, and how long after each frame."""

from __future__ import annotations

import time
from array import array
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raffect.errors import DataError
from raffect.inputs import reason_of
from raffect.predict.chosen import Chosen
from raffect.predict.encoders import join_sets
from raffect.predict.table import BOX, csv_header, csv_lines, schema_of
from raffect.predict.video import VideoPredictor, as_crops
from raffect.temporal.stream import Stream
from raffect.video.align import SIDE, align
from raffect.video.camera import Arrival
from raffect.video.crops import name_crops
from raffect.video.detect import Detector
from raffect.video.faces import Crop, Face, VideoFrame
from raffect.video.people import PATIENCE_S, People

_RECENT_S = 2.0
_RECENT_FRAMES = 100


@dataclass(frozen=True)
class LivePerson:
    """A person at a frame.

    Attributes:
        face: Where it is; None: not seen now, and the values are as they were.
        values: Of each model, `(outputs,)`.
    """

    person: int
    face: Face | None
    values: tuple[NDArray[np.float32], ...]


class LivePredictor:
    """Models, encoders and detector on one frame after the other: nothing is looked ahead.

    Values are those that `predict --video` gives to the last frame of the video so far
    (temporal/stream.py says how near), as far as no frame is skipped.
    """

    def __init__(self, predictor: VideoPredictor) -> None:
        self.chosen = predictor.chosen
        self._predictor = predictor
        self._people = People()
        self._streams = [
            [Stream(member) for member in ensemble.members]
            for ensemble in predictor.chosen.ensembles
        ]
        self._seen: dict[int, float] = {}

    @property
    def detector(self) -> Detector | None:
        """What finds faces; None: frames are crops."""
        return self._predictor.detector

    @property
    def lag(self) -> float:
        """Frames by which smoothing makes the values of the slowest model lag."""
        return max(stream.lag for streams in self._streams for stream in streams)

    def warm_up(self) -> None:
        """Make the first frame as fast as the others."""
        blank = np.zeros((SIDE, SIDE, 3), np.uint8)
        if self._predictor.detector is not None:
            self._predictor.detector.find(blank)
        self._predictor.encoders.encode([blank])

    def predict(self, frame: VideoFrame, skipped: int = 0) -> list[LivePerson]:
        """All who are known at a frame, after so many that nobody looked at."""
        crops = self.find(frame)
        return self.tell(frame, crops, self.encode(crops), skipped)

    def find(self, frame: VideoFrame) -> list[Crop]:
        """The crops of the wanted persons."""
        detector, wanted = self._predictor.detector, self._predictor.wanted
        if detector is None:
            ((_, crops),) = as_crops([frame])
        else:
            faces = detector.find(frame.pixels)
            aligned = [align(frame.pixels, face) for face in faces]
            crops = name_crops(frame, faces, aligned, self._people)
        return [crop for crop in crops if wanted is None or crop.person in wanted]

    def encode(self, crops: list[Crop]) -> dict[str, NDArray[np.floating]]:
        """Features `(crops, dim)` by key of the set; without a crop none."""
        if not crops:
            return {}
        return self._predictor.encoders.encode([crop.pixels for crop in crops])

    def tell(
        self,
        frame: VideoFrame,
        crops: list[Crop],
        encoded: dict[str, NDArray[np.floating]],
        skipped: int = 0,
    ) -> list[LivePerson]:
        """The values of all who are known, from the crops of a frame and their features."""
        seen = {crop.person: crop.face for crop in crops}
        self._seen |= dict.fromkeys(seen, frame.time)
        # Who comes back later than this has another number.
        gone = [one for one, last in self._seen.items() if frame.time - last > PATIENCE_S]
        for person in gone:
            del self._seen[person]
        found: dict[int, list[NDArray[np.float32]]] = {}
        for ensemble, streams in zip(self.chosen.ensembles, self._streams, strict=True):
            told = []
            for member, stream in zip(ensemble.members, streams, strict=True):
                stream.forget(gone)
                own = dict(zip(seen, join_sets(member, encoded), strict=True)) if seen else {}
                told.append(stream.step(own, skipped))
            # Members have windows of their own, after which they forget.
            for person in set.intersection(*map(set, told)):
                values = ensemble.average([of[person][None] for of in told])[0]
                found.setdefault(person, []).append(values)
        return [
            LivePerson(person, seen.get(person), tuple(values))
            for person, values in sorted(found.items())
            if len(values) == len(self._streams)
        ]

    def to_json(self, one: LivePerson) -> dict[str, object]:
        """A person's values by column, and where the face is, as JSON types."""
        face = one.face
        found: dict[str, object] = {"person": one.person, "face": face is not None}
        if face is not None:
            confidence = face.confidence
            found["confidence"] = round(confidence, 4) if np.isfinite(confidence) else None
            found["box"] = [round(side, 2) for side in face.box.tolist()]
        return found | {"values": {name: round(v, 6) for name, v in named(self.chosen, one)}}


def named(chosen: Chosen, person: LivePerson) -> Iterator[tuple[str, float]]:
    """Column and value of all of a person's values."""
    for columns, values in zip(chosen.columns, person.values, strict=True):
        yield from zip(columns, values.tolist(), strict=True)


class LiveTable:
    """A CSV file in the columns of `predict --video` that has each frame's rows at once.

    A context manager. A frame's rows are one write: a process that is killed leaves whole lines.
    """

    def __init__(self, path: Path, chosen: Chosen) -> None:
        self._path = path
        self._chosen = chosen
        self._schema = schema_of(chosen)

    def __enter__(self) -> Self:
        with self._writing():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("wb", buffering=0)
            self._file.write(csv_header(self._schema).encode())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    def write(self, frame: VideoFrame, persons: list[LivePerson]) -> None:
        """Add the rows of a frame.

        Raises:
            DataError: They can't be written.
        """
        rows = [self._cells(frame, one) for one in persons]
        batch = pa.RecordBatch.from_pylist(rows, self._schema)
        with self._writing():
            self._file.write("".join(csv_lines(batch)).encode())

    def _cells(self, frame: VideoFrame, one: LivePerson) -> dict[str, object]:
        face = one.face
        cells: dict[str, object] = {
            "frame": frame.number,
            "time": frame.time,
            "person": one.person,
            "face": face is not None,
            **dict(named(self._chosen, one)),
        }
        if face is not None:
            cells |= dict(zip(BOX, face.box.tolist(), strict=True))
            if np.isfinite(face.confidence):
                cells["confidence"] = face.confidence
        return cells

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DataError(
                f"{self._path} can't be written: {reason_of(error)}.",
                "a file on a disk with room",
                "Correct --out, or make room.",
            ) from error


@dataclass(frozen=True)
class Delay:
    """Milliseconds from a frame's arrival to its values on the screen: median, and 95 % below."""

    median: float
    p95: float

    @classmethod
    def of(cls, seconds: NDArray[np.floating]) -> Delay:
        """Of some delays."""
        median, p95 = np.quantile(seconds, [0.5, 0.95]) * 1e3 if len(seconds) else (0.0, 0.0)
        return cls(float(median), float(p95))


class Pace:
    """How fast frames are shown."""

    def __init__(self) -> None:
        self.began = self._last = time.monotonic()
        self._delays = array("f")
        self._recent: deque[float] = deque()

    @property
    def frames(self) -> int:
        """Frames that were shown."""
        return len(self._delays)

    def shown(self, arrival: Arrival) -> None:
        """A frame's values have just been shown."""
        now = self._last = time.monotonic()
        self._delays.append(now - arrival.at)
        self._recent.append(now)
        while now - self._recent[0] > _RECENT_S:
            self._recent.popleft()

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self.began

    @property
    def silence(self) -> float:
        """Seconds since the last frame."""
        return time.monotonic() - self._last

    @property
    def rate(self) -> float:
        """Frames per second, of late."""
        return len(self._recent) / max(min(_RECENT_S, self.seconds), 1e-9)

    def delay(self, recent: bool = False) -> Delay:
        """Of all frames, or of the last ones."""
        delays = self._delays[-_RECENT_FRAMES:] if recent else self._delays
        return Delay.of(np.asarray(delays, np.float32))
