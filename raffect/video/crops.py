"""From frames to people's crops, with decoding, finding and aligning at the same time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from raffect.store.raw import ahead
from raffect.video.align import align
from raffect.video.detect import Detector
from raffect.video.faces import Crop, Face, VideoFrame
from raffect.video.people import People

_AHEAD = 4
"""Frames in memory beyond the one that is worked on."""


def find_crops(
    frames: Iterable[VideoFrame], detector: Detector, people: People
) -> Iterator[tuple[VideoFrame, list[Crop]]]:
    """Each frame with the crops of the people seen in it, in the frames' order."""

    def find(frame: VideoFrame) -> tuple[VideoFrame, list[Face]]:
        return frame, detector.find(frame.pixels)

    with ThreadPoolExecutor(1) as pool:
        for frame, faces in ahead(pool, find, frames, _AHEAD):
            persons = people.assign(faces)
            crops = [
                Crop(person, face, align(frame.pixels, face))
                for person, face in zip(persons, faces, strict=True)
            ]
            yield frame, sorted(crops, key=lambda crop: crop.person)
