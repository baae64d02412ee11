"""From frames to people's crops, with decoding, finding and aligning at the same time."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from raffect.store.raw import ahead
from raffect.video.align import align
from raffect.video.detect import Detector
from raffect.video.faces import Crop, Face, VideoFrame
from raffect.video.people import NOBODY, People

_AHEAD = 2
"""Frames that are decoded, and as many searched, before they are asked for; one of 8k takes
100 MB."""


def find_crops(
    frames: Iterable[VideoFrame], detector: Detector, people: People
) -> Generator[tuple[VideoFrame, list[Crop]], None, None]:
    """Each frame with the crops of the people seen in it, in the frames' order.

    A thread decodes and one finds faces, both of them ahead of the caller; FFmpeg and ONNX Runtime
    work outside of Python's lock. Closing the iterator ends them after what they are at.

    Raises:
        Exception: What decoding or finding has raised, after all earlier frames.
    """

    def find(frame: VideoFrame) -> tuple[VideoFrame, list[Face], list[NDArray[np.uint8]]]:
        faces = detector.find(frame.pixels)
        return frame, faces, [align(frame.pixels, face) for face in faces]

    failures: list[Exception] = []

    def decoded(pool: ThreadPoolExecutor) -> Iterator[VideoFrame]:
        upcoming = iter(frames)
        try:
            for frame in ahead(pool, lambda _: next(upcoming, None), itertools.repeat(0), _AHEAD):
                if frame is None:
                    return
                yield frame
        except Exception as error:
            # Raised here it would come before the frames that are being searched.
            failures.append(error)

    with _one_thread() as decoding, _one_thread() as finding:
        for frame, faces, aligned in ahead(finding, find, decoded(decoding), _AHEAD):
            yield frame, name_crops(frame, faces, aligned, people)
    if failures:
        raise failures[0]


def name_crops(
    frame: VideoFrame, faces: Sequence[Face], aligned: Sequence[NDArray[np.uint8]], people: People
) -> list[Crop]:
    """The crops of the next frame's faces, in the order of their people."""
    persons = people.assign(faces, frame.time, aligned)
    crops = [
        Crop(person, face, pixels)
        for person, face, pixels in zip(persons, faces, aligned, strict=True)
        if person != NOBODY
    ]
    return sorted(crops, key=lambda crop: crop.person)


@contextmanager
def _one_thread() -> Iterator[ThreadPoolExecutor]:
    pool = ThreadPoolExecutor(1)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
