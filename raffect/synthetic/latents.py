"""Latent emotions of the synthetic subjects, the annotations of them, and the best predictions.

A subject's state is a slow path through (valence, arousal, dominance): events move it towards the
prototype of an expression, with onset, apex and offset, and an Ornstein-Uhlenbeck process is
added. Expressions are regions of that space, and action units follow from the soft membership in
the regions.

Annotators see the state with a smooth error, so that even the best possible prediction scores
below 1, and they have habits, so that context is worth something. With a joystick they are late
(by 1 to 6 s: Mariooryad and Busso, "Correcting Time-Continuous Emotional Labels by Modeling the
Reaction Lag of Evaluators", 2015) and smooth. Of expressions, for which they go back and forth,
they mark the beginning before it shows, and pass over what does not last. They mark an action unit
with some frames before and after it, and keep one that hovers about its threshold.
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

LAG = 8
"""Frames by which valence and arousal are written down late."""
_SMOOTHING = 24
"""Half-width in frames of the triangular window that smooths them."""
_LEAD = 5
"""Frames by which expressions are marked before they show."""
PATIENCE = 8
"""Frames that an expression has to last to be marked."""
_HOLD = 0.12
"""A unit is active from so far above its threshold until so far below it."""
_BEFORE, _AFTER = 9, 10
"""Frames that are marked with a unit, before it is active and after."""
_ANNOTATORS = 200
"""Annotators that the best predictions are the average of."""

# Per expression: valence, arousal and dominance of its prototype, the radius of its region, cards
# in the deck of events, mean length of an event in frames, and its action units at full strength.
# Units after Ekman's prototypes as far as the challenge annotates them; cards and lengths give
# about the imbalance of the real labels, with the rare ones common enough to be scored at all.
_PROTOTYPES: dict[str, tuple[float, float, float, float, int, float, dict[str, float]]] = {
    "Neutral": (0.0, 0.0, 0.0, 0.24, 12, 30, {}),
    "Anger": (-0.5, 0.6, 0.65, 0.3, 3, 28, {"4": 1.0, "7": 0.8, "23": 1.0, "24": 1.0}),
    "Disgust": (-0.7, 0.2, 0.15, 0.26, 3, 26, {"10": 1.0, "4": 0.6, "7": 0.5, "15": 1.0}),
    "Fear": (-0.45, 0.65, -0.6, 0.3, 3, 26, {"1": 0.9, "4": 0.5, "25": 0.8, "26": 0.3, "2": 0.4}),
    "Happiness": (0.65, 0.35, 0.1, 0.32, 6, 31, {"6": 0.9, "12": 1.0, "25": 0.6, "7": 0.4}),
    "Sadness": (-0.5, -0.3, -0.5, 0.32, 5, 31, {"1": 0.6, "4": 0.6, "15": 0.5}),
    "Surprise": (0.2, 0.8, -0.25, 0.3, 3, 28, {"1": 1.0, "2": 1.0, "25": 0.9, "26": 1.0}),
    "Other": (0.05, 0.3, 0.6, 0.28, 10, 31, {"10": 0.6, "24": 0.3, "7": 0.5, "2": 0.2, "6": 0.3}),
}
_NAMES = SPECS[Task.EXPR].columns
UNITS = {name.removeprefix("AU"): i for i, name in enumerate(SPECS[Task.AU].columns)}
"""Position of an action unit by its number."""
_CENTRES = np.array([_PROTOTYPES[name][:3] for name in _NAMES])
_RADII = np.array([_PROTOTYPES[name][3] for name in _NAMES])
_STRENGTHS = np.array([[_PROTOTYPES[name][6].get(unit, 0.0) for unit in UNITS] for name in _NAMES])
# Chosen so that the positive rates are near the real ones, with the rare ones at 4 %.
_THRESHOLDS = np.array([0.91, 0.79, 0.74, 0.46, 0.49, 0.42, 0.36, 0.83, 0.74, 0.9, 0.41, 0.62])


@dataclass(frozen=True)
class Performance:
    """The latents of one subject, without annotators' errors; row i is frame i + 1.

    Attributes:
        affect: Valence and arousal in [-1, 1], `(lines, 2)`.
        intensities: Action units as they show in the face, about 0 to 1, `(lines, 12)`.
        speech: How much the subject is talking, 0 to 1, `(lines,)`.
        state: Valence, arousal and dominance, from which the rest follows, `(lines, 3)`.
    """

    affect: Floats
    intensities: Floats
    speech: Floats
    state: Floats

    def best_predictions(self, task: Task) -> Floats:
        """The best possible predictions, `(lines, outputs)`: what many annotators write, averaged.

        VA: the expected annotation. EXPR: the probability that an annotator is at an expression.
        AU: the probability that an annotator marks the unit.
        """
        written = self._annotations(task, np.random.default_rng(0), _ANNOTATORS)
        if task is Task.EXPR:
            written = written == np.arange(len(_NAMES))
        return np.asarray(written.mean(axis=1))

    def annotate(self, task: Task, rng: np.random.Generator) -> Floats:
        """What an annotator writes down, `(lines, label_width)`, all of it valid."""
        return self._annotations(task, rng, 1)[:, 0]

    def _annotations(self, task: Task, rng: np.random.Generator, people: int) -> Floats:
        """What several annotators write down of the same face, `(lines, people, label_width)`."""
        if task is Task.VA:
            truth, deviation = _smooth(_later(self.affect, LAG)), _ANNOTATOR_VA
        elif task is Task.EXPR:
            truth, deviation = _later(self.state, -_LEAD), _ANNOTATOR_EXPRESSION
        else:
            truth, deviation = self.intensities, _ANNOTATOR_UNIT
        lines, width = truth.shape
        error = wander(rng, lines, people * width, _ANNOTATOR_FRAMES, deviation)
        seen = truth[:, None] + error.reshape(lines, people, width)
        if task is Task.VA:
            return np.clip(seen, -1.0, 1.0)
        if task is Task.EXPR:
            return _settle(_classify(seen))[:, :, None].astype(np.float64)
        return _widen(_hold(seen)).astype(np.float64)


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
    distance = ((state[..., None, :] - _CENTRES) ** 2).sum(axis=-1)
    return np.asarray(-distance / (2.0 * _RADII**2))


def _classify(state: Floats) -> NDArray[np.int64]:
    return np.asarray(_logits(state).argmax(axis=-1), dtype=np.int64)


def _later(path: Floats, frames: int) -> Floats:
    """The path so many frames later (earlier, if negative), its ends repeated."""
    return path[np.clip(np.arange(len(path)) - frames, 0, len(path) - 1)]


def _smooth(path: Floats) -> Floats:
    """The path `(lines, 2)` under a centred triangular window, its ends repeated."""
    box = np.full(_SMOOTHING, 1.0 / _SMOOTHING)
    ends = ((_SMOOTHING - 1, _SMOOTHING - 1), (0, 0))
    window = np.convolve(box, box)
    padded = np.pad(path, ends, mode="edge")
    return np.stack([np.convolve(column, window, mode="valid") for column in padded.T], 1)


def _settle(classes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Classes `(lines, people)` without those that do not last: the one before stays."""
    same = np.diff(classes, axis=0, prepend=-1) == 0
    length = np.zeros_like(classes)
    for i in range(len(classes)):
        length[i] = np.where(same[i], length[i - 1] + 1, 1)
    for i in range(len(classes) - 1, 0, -1):
        length[i - 1] = np.where(same[i], length[i], length[i - 1])
    written = classes.copy()
    for i in range(1, len(classes)):
        written[i] = np.where(length[i] < PATIENCE, written[i - 1], classes[i])
    return written


def _hold(intensities: Floats) -> NDArray[np.bool_]:
    """Which units `(lines, people, units)` are active, with hysteresis."""
    active = np.empty(intensities.shape, dtype=np.bool_)
    before = intensities[0] > _THRESHOLDS
    for i, now in enumerate(intensities):
        before = active[i] = now > _THRESHOLDS + np.where(before, -_HOLD, _HOLD)
    return active


def _widen(active: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which units are marked: those active in a frame or in one of its neighbours."""
    marked = active.copy()
    for frames in range(1, _BEFORE + 1):
        marked[:-frames] |= active[frames:]
    for frames in range(1, _AFTER + 1):
        marked[frames:] |= active[:-frames]
    return marked
