"""Which faces of a video are of one person: followed from frame to frame by where they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raffect.video.faces import Face

_LEAST_OVERLAP = 0.2


@dataclass
class _Track:
    person: int
    box: NDArray[np.float32]
    speed: NDArray[np.float32]
    frame: int


class People:
    """Numbers faces by person, frame by frame; never looks ahead.

    Args:
        patience: Frames for which a person who is not seen keeps the number.
    """

    def __init__(self, patience: int = 30) -> None:
        self._patience = patience
        self._tracks: list[_Track] = []
        self._known = 0
        self._frame = 0

    def assign(self, faces: Sequence[Face]) -> list[int]:
        """The person of each face of the next frame."""
        from scipy.optimize import linear_sum_assignment

        self._frame += 1
        alive = [t for t in self._tracks if self._frame - t.frame <= self._patience]
        people = [-1] * len(faces)
        if alive and faces:
            overlap = np.array([[_iou(self._guess(t), face.box) for face in faces] for t in alive])
            for row, column in zip(*linear_sum_assignment(-overlap), strict=True):
                if overlap[row, column] >= _LEAST_OVERLAP:
                    track = alive[row]
                    people[column] = track.person
                    gap = self._frame - track.frame
                    track.speed = (faces[column].box - track.box) / gap
                    track.box, track.frame = faces[column].box, self._frame
        for index in sorted(range(len(faces)), key=lambda one: float(faces[one].box[0])):
            if people[index] < 0:
                people[index] = self._known
                alive.append(
                    _Track(self._known, faces[index].box, np.zeros(4, np.float32), self._frame)
                )
                self._known += 1
        self._tracks = alive
        return people

    def _guess(self, track: _Track) -> NDArray[np.float32]:
        return track.box + track.speed * np.float32(min(self._frame - track.frame, 3))


def _iou(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    corner, far = np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])
    shared = float(np.prod((far - corner).clip(0)))
    areas = sum(float(np.prod(box[2:] - box[:2])) for box in (one, other))
    return shared / (areas - shared) if areas > shared else 0.0
