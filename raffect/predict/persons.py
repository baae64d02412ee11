"""What is kept of a video's frames: per person where the face was, and its features."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from raffect.predict.encoders import Encoders
from raffect.video.faces import Crop, Face, VideoFrame

_MOST_BYTES = 2**27
"""Pixels that wait to be encoded: aligned videos have frames of any size."""
THUMBNAIL_SIZE = 112
THUMBNAILS = 32
"""Faces kept of a person at most, evenly over the time; a plot shows some of them."""


@dataclass
class Person:
    """A person's face through a video; entry i of everything is of frame `frames[i]`.

    Attributes:
        features: By key of the set, `(crops, dim)` in pieces.
        thumbnails: Some of the crops, by frame.
    """

    number: int
    frames: array[int] = field(default_factory=lambda: array("i"))
    confidences: array[float] = field(default_factory=lambda: array("f"))
    boxes: array[float] = field(default_factory=lambda: array("f"))
    features: dict[str, list[NDArray[np.floating]]] = field(default_factory=dict)
    thumbnails: dict[int, NDArray[np.uint8]] = field(default_factory=dict)
    _every: int = 1

    @property
    def first(self) -> int:
        """The first frame with the face."""
        return self.frames[0]

    @property
    def last(self) -> int:
        """The last frame with the face."""
        return self.frames[-1]

    def see(self, frame: int, face: Face, pixels: NDArray[np.uint8], keep: bool) -> None:
        """Note where the face is in a frame; with `keep` its picture, if it is one of few."""
        self.frames.append(frame)
        self.confidences.append(face.confidence)
        self.boxes.extend(face.box.tolist())
        if keep and (len(self.frames) - 1) % self._every == 0:
            small = Image.fromarray(pixels)
            small.thumbnail((THUMBNAIL_SIZE, THUMBNAIL_SIZE))
            self.thumbnails[frame] = np.asarray(small)
            if len(self.thumbnails) > THUMBNAILS:
                self.thumbnails = dict(list(self.thumbnails.items())[::2])
                self._every *= 2

    def joined(self) -> dict[str, NDArray[np.floating]]:
        """The features of each set in one piece; those in pieces are given up."""
        found = {}
        for key in list(self.features):
            found[key] = np.concatenate(self.features.pop(key))
        return found


@dataclass(frozen=True)
class Persons:
    """All of a video's persons, and the times of its frames in seconds, `(frames,)`."""

    times: array[float] = field(default_factory=lambda: array("d"))
    found: dict[int, Person] = field(default_factory=dict)
    left_out: set[int] = field(default_factory=set)


def watch(
    frames: Iterable[tuple[VideoFrame, list[Crop]]],
    encoders: Encoders,
    wanted: Collection[int] | None = None,
    thumbnails: bool = False,
) -> Iterator[Persons]:
    """Encode the faces of a video's frames in batches; yields the same persons after each frame.

    A batch is of the crops in their order, as `raffect extract` encodes a folder's; no more pixels
    than a batch's are kept.

    Args:
        wanted: Numbers of the persons; None: all.
        thumbnails: Keep some of the crops.

    Raises:
        DataError: An encoder makes features that are not finite, or beyond its dtype's range.
    """
    persons = Persons()
    waiting: list[tuple[Person, int, NDArray[np.uint8]]] = []
    size = 0
    for frame, crops in frames:
        persons.times.append(frame.time)
        for crop in crops:
            if wanted is not None and crop.person not in wanted:
                persons.left_out.add(crop.person)
                continue
            person = persons.found.setdefault(crop.person, Person(crop.person))
            person.see(frame.number, crop.face, crop.pixels, thumbnails)
            waiting.append((person, frame.number, crop.pixels))
            size += crop.pixels.nbytes
            if len(waiting) == encoders.batch_size or size > _MOST_BYTES:
                _encode(encoders, waiting)
                size = 0
        yield persons
    if waiting:
        _encode(encoders, waiting)
    yield persons


def _encode(encoders: Encoders, waiting: list[tuple[Person, int, NDArray[np.uint8]]]) -> None:
    def location(index: int) -> str:
        person, frame, _ = waiting[index]
        return f"person {person.number} in frame {frame:,}"

    encoded = encoders.encode([pixels for _, _, pixels in waiting], location)
    rows: dict[int, list[int]] = {}
    for row, (person, _, _) in enumerate(waiting):
        rows.setdefault(person.number, []).append(row)
    of = {person.number: person for person, _, _ in waiting}
    for number, own in rows.items():
        for key, features in encoded.items():
            of[number].features.setdefault(key, []).append(features[own])
    waiting.clear()
