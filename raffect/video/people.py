"""Which faces of a video are of one person: followed from frame to frame by where they are.

Never looks ahead, so that a live picture and a file give the same. A sure face is a person from
its first frame on: to wait for more would lose rows, or delay all of them. What the detector is
unsure of only continues a person. Who is not seen for some seconds keeps the number where the
place fits, also over a cut; two people who take turns at one place are one to it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raffect.video.faces import Face

NOBODY = -1
PATIENCE_S = 5.0
"""Seconds for which the number of a person who is not seen is kept."""
_FRAME_S = 1 / 25
_REACH, _FASTER, _MOST_REACH = 0.6, 1.0, 1.2
"""How far from where it is expected a face may be, in sides of its box; more for each second since
it was seen, and the most."""
_GROWTH = 1.6
"""By which factor a face may seem larger or smaller."""
_GLIDE_S = 0.5
"""For so long a person who is not seen is expected to go on moving."""
_SMOOTH = 0.4
_FAR = 1e6


@dataclass
class _Track:
    """A person: middle of the face and its speed per second, side, and when it was seen."""

    person: int
    middle: NDArray[np.float64]
    side: float
    time: float
    speed: NDArray[np.float64]

    def distance(self, middle: NDArray[np.float64], side: float, time: float) -> float:
        """From where the face is expected, in its sides; `_FAR` where it can't be the same."""
        unseen = time - self.time
        places = [self.middle + self.speed * min(unseen, _GLIDE_S)]
        if unseen > _GLIDE_S:
            # Who has left the frame comes back at its border.
            places.append(self.middle)
        far = min(math.dist(place, middle) for place in places) / math.sqrt(self.side * side)
        grown = abs(math.log(side / self.side))
        reach = min(_REACH + _FASTER * unseen, _MOST_REACH)
        return far + grown if far <= reach and grown <= math.log(_GROWTH) else _FAR

    def see(self, middle: NDArray[np.float64], side: float, time: float) -> None:
        unseen = max(time - self.time, 1e-3)
        speed = (middle - self.middle) / unseen
        # After a pause it tells nothing of how the face moves now.
        self.speed = (
            self.speed + _SMOOTH * (speed - self.speed) if unseen <= _GLIDE_S else speed * 0
        )
        self.middle, self.side, self.time = middle, side, time


class People:
    """Numbers faces by person, frame by frame.

    Args:
        patience: Seconds for which the number of a person who is not seen is kept.
    """

    def __init__(self, patience: float = PATIENCE_S) -> None:
        self._patience = patience
        self._tracks: list[_Track] = []
        self._count = 0
        self._time = -_FRAME_S

    def assign(self, faces: Sequence[Face], time: float | None = None) -> list[int]:
        """The person of each face of the next frame; `NOBODY` where a face is unsure.

        Args:
            time: Of the frame, in seconds; None: 1/25 s after the last one.
        """
        self._time = self._time + _FRAME_S if time is None else time
        self._tracks = [one for one in self._tracks if self._time - one.time <= self._patience]
        people = [NOBODY] * len(faces)
        free = self._follow(faces, [i for i, face in enumerate(faces) if face.sure], people)
        self._follow(faces, [i for i, face in enumerate(faces) if not face.sure], people, free)
        new = [i for i, face in enumerate(faces) if face.sure and people[i] == NOBODY]
        for index in sorted(new, key=lambda one: float(faces[one].box[0])):
            middle, side = _measured(faces[index])
            self._tracks.append(_Track(self._count, middle, side, self._time, np.zeros(2)))
            people[index] = self._count
            self._count += 1
        return people

    def _follow(
        self,
        faces: Sequence[Face],
        indices: Sequence[int],
        people: list[int],
        tracks: list[_Track] | None = None,
    ) -> list[_Track]:
        """Give some faces the numbers of the people they fit best; who is left."""
        from scipy.optimize import linear_sum_assignment

        free = list(self._tracks) if tracks is None else tracks
        if not free or not indices:
            return free
        measured = [_measured(faces[index]) for index in indices]
        distances = np.array(
            [[one.distance(*face, self._time) for face in measured] for one in free]
        )
        taken = []
        for row, column in zip(*linear_sum_assignment(distances), strict=True):
            if distances[row, column] < _FAR:
                free[row].see(*measured[column], self._time)
                people[indices[column]] = free[row].person
                taken.append(row)
        return [one for row, one in enumerate(free) if row not in taken]


def _measured(face: Face) -> tuple[NDArray[np.float64], float]:
    """Middle and side of a face's box."""
    box = face.box.astype(np.float64)
    width, height = box[2:] - box[:2]
    return (box[:2] + box[2:]) / 2, math.sqrt(max(width * height, 1.0))
