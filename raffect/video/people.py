"""Which faces of a video are of one person: followed from frame to frame by where they are.

Never looks ahead, so that a live picture and a file give the same. A sure face is a person from
its first frame on: to wait for more would lose rows, or delay all of them. What the detector is
unsure of only continues a person. Who is not seen for some seconds keeps the number where place
and looks fit; two people who take turns at one place without a pause are one to it.
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
_LOOK, _LEARN = 8, 0.1
_ALIKE = 0.7
"""Correlation of crops, shrunk to 8x8, that somebody has to reach after a pause. In a crowded
picture that is panned, zoomed and lit anew 83 % of a person's crops 0.6 to 2 s apart did, half cut
by the border or not, and 12 % of different people's (10 % of faces of LFW)."""
_FAR = 1e6


@dataclass(frozen=True)
class _Seen:
    """A face of a frame: middle and side of its box, and its crop as a few numbers."""

    middle: NDArray[np.float64]
    side: float
    look: NDArray[np.float64] | None


@dataclass
class _Track:
    """A person: middle of the face and its speed per second, side, and when it was seen."""

    person: int
    middle: NDArray[np.float64]
    side: float
    time: float
    speed: NDArray[np.float64]
    look: NDArray[np.float64] | None

    def distance(self, seen: _Seen, time: float) -> float:
        """From where the face is expected, in its sides; `_FAR` where it can't be the same."""
        middle, side, look = seen.middle, seen.side, seen.look
        unseen = time - self.time
        places = [self.middle + self.speed * min(unseen, _GLIDE_S)]
        if unseen > _GLIDE_S:
            # Who has left the frame comes back at its border.
            places.append(self.middle)
            if look is not None and self.look is not None and look @ self.look < _ALIKE:
                return _FAR
        far = min(math.dist(place, middle) for place in places) / math.sqrt(self.side * side)
        grown = abs(math.log(side / self.side))
        reach = min(_REACH + _FASTER * unseen, _MOST_REACH)
        return far + grown if far <= reach and grown <= math.log(_GROWTH) else _FAR

    def see(self, seen: _Seen, time: float) -> None:
        unseen = max(time - self.time, 1e-3)
        speed = (seen.middle - self.middle) / unseen
        # After a pause it tells nothing of how the face moves now.
        self.speed = (
            self.speed + _SMOOTH * (speed - self.speed) if unseen <= _GLIDE_S else speed * 0
        )
        self.middle, self.side, self.time = seen.middle, seen.side, time
        if self.look is not None and seen.look is not None:
            # Of some time: the last frame may be blurred, or hidden by a hand.
            self.look = _unit(self.look + _LEARN * (seen.look - self.look))


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

    def assign(
        self,
        faces: Sequence[Face],
        time: float | None = None,
        crops: Sequence[NDArray[np.uint8]] | None = None,
    ) -> list[int]:
        """The person of each face of the next frame; `NOBODY` where a face is unsure.

        Args:
            time: Of the frame, in seconds; None: 1/25 s after the last one.
            crops: Of each face, `(112, 112, 3)`, by which people are recognised after a pause;
                None: they are by their place.
        """
        self._time = self._time + _FRAME_S if time is None else time
        self._tracks = [one for one in self._tracks if self._time - one.time <= self._patience]
        seen = [_measured(face, crops[i] if crops else None) for i, face in enumerate(faces)]
        people = [NOBODY] * len(faces)
        free = list(self._tracks)
        # The unsure ones take whom the sure ones leave.
        for sure in (True, False):
            indices = [i for i, face in enumerate(faces) if face.sure == sure]
            free = self._follow(seen, indices, free, people)
        new = [i for i, face in enumerate(faces) if face.sure and people[i] == NOBODY]
        for index in sorted(new, key=lambda one: float(faces[one].box[0])):
            one = seen[index]
            self._tracks.append(
                _Track(self._count, one.middle, one.side, self._time, np.zeros(2), one.look)
            )
            people[index] = self._count
            self._count += 1
        return people

    def _follow(
        self, seen: Sequence[_Seen], indices: list[int], free: list[_Track], people: list[int]
    ) -> list[_Track]:
        """Give some faces the numbers of the people they fit best; who is left."""
        from scipy.optimize import linear_sum_assignment

        if not free or not indices:
            return free
        distances = np.array(
            [[one.distance(seen[i], self._time) for i in indices] for one in free]
        )
        taken = []
        for row, column in zip(*linear_sum_assignment(distances), strict=True):
            if distances[row, column] < _FAR:
                free[row].see(seen[indices[column]], self._time)
                people[indices[column]] = free[row].person
                taken.append(row)
        return [one for row, one in enumerate(free) if row not in taken]


def _measured(face: Face, crop: NDArray[np.uint8] | None) -> _Seen:
    box = face.box.astype(np.float64)
    width, height = box[2:] - box[:2]
    middle, side = (box[:2] + box[2:]) / 2, math.sqrt(max(width * height, 1.0))
    return _Seen(middle, side, None if crop is None else _look(crop))


def _look(crop: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Numbers whose product with another's is the correlation: brightness does not count."""
    rows, columns = crop.shape[0] // _LOOK, crop.shape[1] // _LOOK
    parts = crop[: rows * _LOOK, : columns * _LOOK].reshape(_LOOK, rows, _LOOK, columns, 3)
    values = parts.mean(axis=(1, 3)).ravel()
    return _unit(values - values.mean())


def _unit(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(values / max(float(np.linalg.norm(values)), 1e-9))
