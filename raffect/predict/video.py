"""From a video to a table: frames, faces of persons, features, predictions."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from raffect.errors import DataError
from raffect.predict.chosen import Chosen
from raffect.predict.encoders import Encoders
from raffect.predict.persons import Person, Persons, watch
from raffect.predict.table import predict_persons
from raffect.store import Store
from raffect.text import numbers_text, printable
from raffect.video.crops import find_crops
from raffect.video.decode import Video, open_video
from raffect.video.detect import DEFAULT_SIZE, Detector, load_detector
from raffect.video.faces import Crop, Face, FaceOptions, VideoFrame
from raffect.video.people import People

OnFrame = Callable[[int, int | None], None]
"""Called with the frames that are done and those that there probably are, if that is known."""


@dataclass(frozen=True)
class PersonSeen:
    """A person of a video: the first and the last frame with the face, and how many have it."""

    person: int
    first: int
    last: int
    faces: int

    @classmethod
    def of(cls, person: Person) -> PersonSeen:
        """What is told of a person."""
        return cls(person.number, person.first, person.last, len(person.frames))


@dataclass(frozen=True)
class VideoSummary:
    """What was found in a video.

    Attributes:
        seconds: Time of its last frame.
        absent: Persons that were asked for and do not appear.
        broken: Why not all of it could be read; None: all was.
    """

    video: str
    frames: int
    seconds: float
    persons: tuple[PersonSeen, ...]
    absent: tuple[int, ...] = ()
    broken: str | None = None

    @property
    def rows(self) -> int:
        """Rows of its table."""
        return sum(one.last - one.first + 1 for one in self.persons)

    def breaks_off(self) -> str:
        """That it is not whole, and why."""
        return f"{self.video} breaks off after {self.frames:,} frames: {self.broken}"

    def to_json(self) -> dict[str, object]:
        """As JSON types."""
        return {**asdict(self), "rows": self.rows}


@dataclass(frozen=True)
class PredictedVideo:
    """A video's table, what is told of it, and some faces of each person by frame."""

    table: pa.Table
    summary: VideoSummary
    persons: Persons


@dataclass(frozen=True)
class VideoPredictor:
    """Models, encoders and the detector, ready for one video after the other.

    Attributes:
        detector: None: the video's frames are crops as they are.
        wanted: Persons by number; None: all.
    """

    chosen: Chosen
    encoders: Encoders
    detector: Detector | None
    wanted: tuple[int, ...] | None = None

    def predict(
        self, source: str | Path, progress: OnFrame = lambda *_: None, thumbnails: bool = False
    ) -> PredictedVideo:
        """Predict all persons of a video, or the wanted ones.

        Memory grows with the features of the faces, not with pixels: 2 bytes a value and frame.

        Args:
            thumbnails: Keep some faces, for a plot.

        Raises:
            DataError: It can't be read at all, or no (wanted) face was found in it.
        """
        with open_video(source) as video:
            persons = Persons()
            with closing(self._crops(video)) as crops:
                for persons in watch(crops, self.encoders, self.wanted, thumbnails):
                    progress(len(persons.times), video.expected)
            name, broken = printable(video.name), video.broken
        progress(len(persons.times), len(persons.times))
        if not persons.found:
            raise self._nobody(name, persons, broken)
        summary = VideoSummary(
            name,
            len(persons.times),
            round(persons.times[-1], 6),
            tuple(PersonSeen.of(one) for _, one in sorted(persons.found.items())),
            tuple(number for number in self.wanted or () if number not in persons.found),
            broken,
        )
        return PredictedVideo(predict_persons(self.chosen, persons), summary, persons)

    def _crops(self, video: Video) -> Generator[tuple[VideoFrame, list[Crop]], None, None]:
        if self.detector is None:
            yield from as_crops(video.frames())
        else:
            # Closed, it ends its threads, which read from the video.
            yield from find_crops(video.frames(), self.detector, People())

    def _nobody(self, name: str, persons: Persons, broken: str | None) -> DataError:
        after = f", which breaks off ({broken})" if broken else ""
        if persons.left_out:
            return DataError(
                f"{name} has no person {numbers_text(list(self.wanted or ()))}{after}.",
                f"its persons: {numbers_text(sorted(persons.left_out))}",
                "Correct --person, or leave it out: all persons are predicted.",
            )
        return DataError(
            f"No face was found in the {len(persons.times):,} frames of {name}{after}.",
            "a video in which the detector finds a face",
            "Look at the video. --detector FILE.onnx takes another detector; --aligned takes"
            " frames that are crops of a face already.",
        )


def make_predictor(
    store: Store,
    chosen: Chosen,
    faces: FaceOptions = FaceOptions(),
) -> VideoPredictor:
    """What predicts videos as a user wants it.

    Raises:
        SettingsError: `aligned` and a detector, or models of features that no encoder makes.
        ConflictError: An encoder is not the one that the model's features are of.
        RaffectError: As `load_detector`.
    """
    faces.check()
    finds = None if faces.aligned else load_detector(faces.detector, faces.size or DEFAULT_SIZE)
    wanted = tuple(sorted(set(faces.persons))) if faces.persons else None
    return VideoPredictor(chosen, Encoders.of(store, chosen.ensembles), finds, wanted)


def as_crops(frames: Iterable[VideoFrame]) -> Iterator[tuple[VideoFrame, list[Crop]]]:
    """Frames that are crops, of one person."""
    for frame in frames:
        height, width = frame.pixels.shape[:2]
        # Nobody has looked for it: there is no confidence.
        face = Face(np.array([0, 0, width, height], np.float32), float("nan"))
        yield frame, [Crop(0, face, frame.pixels)]


def persons_text(summary: VideoSummary, most: int = 6) -> str:
    """`2 persons: 0 in 300 of 300 frames, 1 in 120 of 180`; those seen longest."""
    by_faces = sorted(summary.persons, key=lambda one: (-one.faces, one.person))
    shown = sorted(by_faces[:most], key=lambda one: one.person)
    told = [f"{one.person} in {one.faces:,} of {one.last - one.first + 1:,}" for one in shown]
    rest = len(summary.persons) - len(shown)
    more = f", and {rest:,} more who were seen less" if rest else ""
    count = len(summary.persons)
    return f"{count} person{'s' * (count != 1)}: {', '.join(told)} frames{more}"
