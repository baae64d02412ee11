"""What a plot shows of a video's persons, apart from how it is drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from raffect.affwild2.tasks import SPECS, Task
from raffect.predict.chosen import Chosen
from raffect.predict.persons import Person
from raffect.predict.video import PredictedVideo

MOST_PERSONS = 6
"""Those whose face is seen longest; a picture of more can't be read."""
MOST_POINTS = 3000
"""Of a curve; longer videos are drawn by means of as many frames as it takes."""
SLOTS = 14
"""Places for thumbnails, side by side over the time."""
_SHORTEST_GAP = 1 / 800
"""Of the time shown: shorter gaps would not be seen."""
COLOURS = {
    "valence": "#1b69ab", "arousal": "#bd530b",
    "Neutral": "#b3bcc8", "Anger": "#c0392b", "Disgust": "#7a9a2e", "Fear": "#7e57c2",
    "Happiness": "#f2b632", "Sadness": "#2f6db5", "Surprise": "#1fa39b", "Other": "#8d6e63",
}  # fmt: skip
ACTION_UNITS = {
    "AU1": "inner brow raiser", "AU2": "outer brow raiser", "AU4": "brow lowerer",
    "AU6": "cheek raiser", "AU7": "lid tightener", "AU10": "upper lip raiser",
    "AU12": "lip corner puller", "AU15": "lip corner depressor", "AU23": "lip tightener",
    "AU24": "lip pressor", "AU25": "lips part", "AU26": "jaw drop",
}  # fmt: skip
"""Names of the Facial Action Coding System."""


@dataclass(frozen=True)
class ModelCurves:
    """What one model predicts of a person.

    Attributes:
        name: Of the model, for a title.
        values: `(points, outputs)`.
    """

    name: str
    task: Task
    values: NDArray[np.float64]

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the outputs."""
        return SPECS[self.task].columns


@dataclass(frozen=True)
class PersonCurves:
    """A person's curves over `times` `(points,)`, in seconds.

    Attributes:
        step: Frames that a point is the mean of.
        start: Seconds of the first frame; `end`: of the last one.
        gaps: Start and end of the times without a face.
        thumbnails: By slot of SLOTS over the time shown, a face `(height, width, 3)`.
    """

    number: int
    title: str
    times: NDArray[np.float64]
    step: int
    start: float
    end: float
    models: tuple[ModelCurves, ...]
    gaps: list[tuple[float, float]]
    thumbnails: dict[int, NDArray[np.uint8]]

    @property
    def slot(self) -> float:
        """Seconds of a slot."""
        return (self.end - self.start) / SLOTS


def curves_of(chosen: Chosen, predicted: PredictedVideo) -> list[PersonCurves]:
    """The curves of the persons that are shown, in their order."""
    seen = sorted(predicted.summary.persons, key=lambda one: (-one.faces, one.person))
    shown = sorted(one.person for one in seen[:MOST_PERSONS])
    return [_of_person(chosen, predicted, predicted.persons.found[number]) for number in shown]


def left_out(predicted: PredictedVideo) -> str:
    """How many persons are not shown, in words; empty: none."""
    more = len(predicted.summary.persons) - MOST_PERSONS
    return f"{more:,} more persons, seen less, are not shown" if more > 0 else ""


def _of_person(chosen: Chosen, predicted: PredictedVideo, person: Person) -> PersonCurves:
    table = predicted.table.filter(pc.field("person") == person.number)
    times = table["time"].to_numpy()
    face = table["face"].to_numpy(zero_copy_only=False)
    # A video of one frame has a length, too.
    frame = float(np.median(np.diff(times))) if len(times) > 1 else 0.04
    start, end = float(times[0]), float(times[-1]) + frame
    step = -(-len(times) // MOST_POINTS)
    models = tuple(
        ModelCurves(
            name,
            ensemble.config.task,
            _thin(np.stack([table[column].to_numpy() for column in columns], axis=1), step),
        )
        for name, ensemble, columns in zip(
            chosen.names, chosen.ensembles, chosen.columns, strict=True
        )
    )
    slots: dict[int, NDArray[np.uint8]] = {}
    for number, pixels in person.thumbnails.items():
        place = (predicted.persons.times[number - 1] - start) / (end - start) * SLOTS
        slots.setdefault(min(SLOTS - 1, int(place)), pixels)
    faces, rows = int(face.sum()), len(face)
    missing = f", {rows - faces:,} of {rows:,} frames without a face" if faces < rows else ""
    return PersonCurves(
        person.number,
        f"Person {person.number}: {start:.1f} to {end:.1f} s{missing}",
        _thin(times[:, None], step)[:, 0],
        step,
        start,
        end,
        models,
        _gaps(times, face, frame, _SHORTEST_GAP * (end - start)),
        slots,
    )


def _thin(values: NDArray[np.floating], step: int) -> NDArray[np.float64]:
    """Means of so many rows each, the last one of what is left."""
    starts = np.arange(0, len(values), step)
    sums = np.add.reduceat(values.astype(np.float64), starts, axis=0)
    counts = np.diff([*starts, len(values)])
    return np.asarray(sums / counts[:, None])


def _gaps(
    times: NDArray[np.float64], face: NDArray[np.bool_], frame: float, shortest: float
) -> list[tuple[float, float]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[1], face.astype(np.int8), [1]])))
    ends = np.append(times, times[-1] + frame)
    found = [
        (float(ends[a]), float(ends[b])) for a, b in zip(edges[::2], edges[1::2], strict=True)
    ]
    return [(a, b) for a, b in found if b - a >= shortest]
