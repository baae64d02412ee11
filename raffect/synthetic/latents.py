"""Latent emotions of the synthetic subjects, the annotations of them, and the best predictions.

A subject's state is a slow path through (valence, arousal, dominance): events move it towards the
prototype of an expression, with onset, apex and offset, and an Ornstein-Uhlenbeck process is
added. Expressions are regions of that space, and action units follow from the soft membership in
the regions. Annotators see the state with a smooth error, so that even the best possible
prediction, the state itself, scores below 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raffect.affwild2.tasks import SPECS, Task

Floats = NDArray[np.float64]

WANDER_FRAMES = 45.0
"""Time constant of the slow wandering, in frames."""
_WANDER = 0.09
_ANNOTATOR_FRAMES = 25.0
_ANNOTATOR_VA = 0.15
_ANNOTATOR_EXPRESSION = 0.16
_ANNOTATOR_UNIT = 0.09
_ONSET_FRAMES, _OFFSET_FRAMES = 3.5, 6.0

# Per expression: valence, arousal and dominance of its prototype, the radius of its region, cards
# in the deck of events, mean length of an event in frames, and its action units at full strength.
# Units after Ekman's prototypes as far as the challenge annotates them; cards and lengths give
# about the imbalance of the real labels, with the rare ones common enough to be scored at all.
_PROTOTYPES: dict[str, tuple[float, float, float, float, int, float, dict[str, float]]] = {
    "Neutral": (0.0, 0.0, 0.0, 0.24, 12, 30, {}),
    "Anger": (-0.5, 0.6, 0.65, 0.3, 2, 25, {"4": 1.0, "7": 0.8, "23": 1.0, "24": 1.0}),
    "Disgust": (-0.7, 0.2, 0.15, 0.26, 2, 22, {"10": 1.0, "4": 0.6, "7": 0.5, "15": 1.0}),
    "Fear": (-0.45, 0.65, -0.6, 0.3, 2, 22, {"1": 0.9, "4": 0.5, "25": 0.8, "26": 0.3, "2": 0.4}),
    "Happiness": (0.65, 0.35, 0.1, 0.32, 6, 31, {"6": 0.9, "12": 1.0, "25": 0.6, "7": 0.4}),
    "Sadness": (-0.5, -0.3, -0.5, 0.32, 5, 31, {"1": 0.6, "4": 0.6, "15": 0.5}),
    "Surprise": (0.2, 0.8, -0.25, 0.3, 3, 24, {"1": 1.0, "2": 1.0, "25": 0.9, "26": 1.0}),
    "Other": (0.05, 0.3, 0.6, 0.28, 10, 31, {"10": 0.6, "24": 0.3, "7": 0.5, "2": 0.2, "6": 0.3}),
}
_NAMES = SPECS[Task.EXPR].columns
_erf = np.vectorize(math.erf, otypes=[np.float64])
UNITS = {name.removeprefix("AU"): i for i, name in enumerate(SPECS[Task.AU].columns)}
"""Position of an action unit by its number."""
_CENTRES = np.array([_PROTOTYPES[name][:3] for name in _NAMES])
_RADII = np.array([_PROTOTYPES[name][3] for name in _NAMES])
_STRENGTHS = np.array([[_PROTOTYPES[name][6].get(unit, 0.0) for unit in UNITS] for name in _NAMES])
# Chosen so that the positive rates are near the real ones, with the rare ones at 4 %.
_THRESHOLDS = np.array([0.76, 0.61, 0.62, 0.37, 0.38, 0.26, 0.25, 0.69, 0.54, 0.7, 0.28, 0.52])


@dataclass(frozen=True)
class Performance:
    """The latents of one subject, without annotators' errors; row i is frame i + 1.

    Attributes:
        affect: Valence and arousal in [-1, 1], `(lines, 2)`.
        expression: Index of the expression, `(lines,)`.
        intensities: Action units as they show in the face, about 0 to 1, `(lines, 12)`.
        speech: How much the subject is talking, 0 to 1, `(lines,)`.
        state: Valence, arousal and dominance, from which the rest follows, `(lines, 3)`.
    """

    affect: Floats
    expression: NDArray[np.int64]
    intensities: Floats
    speech: Floats
    state: Floats

    def best_predictions(self, task: Task) -> Floats:
        """The best possible predictions, `(lines, outputs)`.

        VA: the expected annotation. EXPR: the expression as one-hot. AU: the probability that
        an annotator marks the unit.
        """
        if task is Task.VA:
            return self.affect
        if task is Task.EXPR:
            return np.asarray(np.eye(len(_NAMES))[self.expression])
        z = (self.intensities - _THRESHOLDS) / _ANNOTATOR_UNIT
        return np.asarray(0.5 * (1.0 + _erf(z / math.sqrt(2.0))))

    def annotate(self, task: Task, rng: np.random.Generator) -> Floats:
        """What an annotator writes down, `(lines, label_width)`, all of it valid."""
        lines = len(self.affect)
        if task is Task.VA:
            error = wander(rng, lines, 2, _ANNOTATOR_FRAMES, _ANNOTATOR_VA)
            return np.clip(self.affect + error, -1.0, 1.0)
        if task is Task.EXPR:
            error = wander(rng, lines, 3, _ANNOTATOR_FRAMES, _ANNOTATOR_EXPRESSION)
            return _classify(self.state + error)[:, None].astype(np.float64)
        error = wander(rng, lines, len(UNITS), _ANNOTATOR_FRAMES, _ANNOTATOR_UNIT)
        return (self.intensities + error > _THRESHOLDS).astype(np.float64)


def deal(rng: np.random.Generator) -> Iterator[int]:
    """An endless sequence of expressions for events, from a deck reshuffled when it is used up.

    Subjects that share a deck cover all expressions between them, even with few events.
    """
    deck = np.repeat(np.arange(len(_NAMES)), [_PROTOTYPES[name][4] for name in _NAMES])
    while True:
        yield from (int(card) for card in rng.permutation(deck))


def perform(rng: np.random.Generator, lines: int, cards: Iterator[int]) -> Performance:
    """The path of one subject over `lines` frames, its events dealt from `cards`."""
    state = _follow(_targets(rng, lines, cards))
    state = np.clip(state + wander(rng, lines, 3, WANDER_FRAMES, _WANDER), -0.95, 0.95)
    logits = _logits(state)
    membership = np.exp(logits - logits.max(axis=1, keepdims=True))
    membership /= membership.sum(axis=1, keepdims=True)
    strength = 0.8 + 0.4 * np.clip(np.linalg.norm(state, axis=1), 0.0, 1.0)
    units = (membership @ _STRENGTHS) * strength[:, None]
    units += wander(rng, lines, len(UNITS), WANDER_FRAMES, 0.12)
    speech = 1.0 / (1.0 + np.exp(-wander(rng, lines, 1, WANDER_FRAMES, 4.0)[:, 0]))
    units[:, UNITS["25"]] += 0.45 * speech
    return Performance(
        affect=state[:, :2],
        expression=_classify(state),
        intensities=np.clip(units, 0.0, 1.3),
        speech=speech,
        state=state,
    )


def wander(
    rng: np.random.Generator, lines: int, width: int, time_constant: float, deviation: float
) -> Floats:
    """An Ornstein-Uhlenbeck process, sampled once a frame and stationary, `(lines, width)`."""
    keep = math.exp(-1.0 / time_constant)
    steps = rng.standard_normal((lines, width)) * math.sqrt(1.0 - keep * keep)
    path = np.empty((lines, width))
    value = rng.standard_normal(width)
    for i in range(lines):
        value = path[i] = keep * value + steps[i]
    return path * deviation


def _targets(rng: np.random.Generator, lines: int, cards: Iterator[int]) -> Floats:
    """The prototype that attracts the state in each frame, `(lines, 3)`: one after the other."""
    targets = np.empty((lines, 3))
    start = 0
    while start < lines:
        card = next(cards)
        length = int(_PROTOTYPES[_NAMES[card]][5] * rng.uniform(0.6, 1.4))
        reach = rng.uniform(0.85, 1.25)
        targets[start : start + length] = _CENTRES[card] * reach
        start += length
    return targets


def _follow(targets: Floats) -> Floats:
    """Two low-pass filters in series: smooth onsets, and slower offsets."""
    path = np.empty_like(targets)
    middle = targets[0].copy()
    value = targets[0].copy()
    for i, target in enumerate(targets):
        rising = float(target @ target) > float(value @ value)
        rate = 1.0 / (_ONSET_FRAMES if rising else _OFFSET_FRAMES)
        middle = middle + rate * (target - middle)
        value = path[i] = value + rate * (middle - value)
    return path


def _logits(state: Floats) -> Floats:
    distance = ((state[:, None, :] - _CENTRES) ** 2).sum(axis=2)
    return np.asarray(-distance / (2.0 * _RADII**2))


def _classify(state: Floats) -> NDArray[np.int64]:
    return np.asarray(_logits(state).argmax(axis=1), dtype=np.int64)
