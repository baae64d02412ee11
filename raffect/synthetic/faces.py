"""Drawn faces: action units as shapes, varied by identity, pose, light, occlusion and noise.

The crop is the square [-1, 1] x [-1, 1] with y pointing down. As in the aligned crops of the real
dataset, eyes, brows and mouth fill much of it. Shapes are computed for all frames of a video at
once and only rasterised frame by frame.

Temporal models have something to gain, as in real videos: single frames jitter, flicker and blur,
speech and blinks pass over the face, a hand hides it for a few frames, and a subject's resting
face, which resembles a weak expression, is constant.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from raffect.synthetic.latents import UNITS, Floats, Performance, wander

SIZE = 112
"""Width and height of a crop in pixels."""
DRAWN = 2 * SIZE
"""Width and height of the drawing, which is halved to antialias its edges."""
_QUALITY = 90
_NOISE_BANK = 512
"""Rows of noise drawn once per video; each frame uses a random window of them."""
_JITTER = 0.3
_RESTING = 0.14
_FLICKER = 0.05
_HIDDEN = 1.28
"""Standard deviations above which a slow path hides the face: a tenth of the frames."""
_ANGLES = np.linspace(0.0, 2.0 * math.pi, 18, endpoint=False)
_OVAL = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Identity:
    """The constants of a subject: colours, proportions and the face at rest."""

    skin: Colour
    hair: Colour
    iris: Colour
    lips: Colour
    background: Colour
    face_width: float
    eye_distance: float
    eye_size: float
    mouth_y: float
    mouth_width: float
    brow_y: float
    brow_width: int
    nose_length: float
    fringe: float
    bearded: bool
    glasses: bool
    resting: Floats


@dataclass(frozen=True)
class Muscles:
    """The moving parts of the face, `(lines,)` each: 0 at rest, about -1 to 1."""

    smile: Floats
    jaw: Floats
    stretch: Floats
    press: Floats
    lip_raise: Floats
    brow_inner: Floats
    brow_outer: Floats
    frown: Floats
    eyes: Floats
    cheeks: Floats


Shape = tuple[int, Floats, Colour]
"""Line width (0: filled), points `(frames, points, 2)` in face coordinates, colour."""
Placed = tuple[int, list[list[float]], Colour]
"""The same with each frame's points as a flat list of pixel coordinates."""


def invent(rng: np.random.Generator) -> Identity:
    """A new subject."""
    tone = rng.uniform(0.6, 1.0)
    skin = np.array([235, 195, 165]) * tone + rng.normal(0, 6, 3)
    hair = np.array([120, 85, 55]) * rng.uniform(0.3, 1.0) + rng.normal(0, 6, 3)
    lips = skin * np.array([0.8, 0.42, 0.42]) + rng.normal(0, 6, 3)
    iris = rng.choice([(70, 45, 25), (60, 100, 60), (60, 90, 150), (30, 25, 20)])
    return Identity(
        skin=to_colour(skin),
        hair=to_colour(hair),
        iris=to_colour(iris),
        lips=to_colour(lips),
        background=to_colour(rng.uniform(90, 160) + rng.normal(0, 12, 3)),
        face_width=rng.uniform(0.82, 0.92),
        eye_distance=rng.uniform(0.38, 0.42),
        eye_size=rng.uniform(0.22, 0.25),
        mouth_y=rng.uniform(0.5, 0.55),
        mouth_width=rng.uniform(0.37, 0.42),
        brow_y=rng.uniform(-0.62, -0.58),
        brow_width=int(rng.integers(12, 17)),
        nose_length=rng.uniform(0.3, 0.4),
        fringe=rng.uniform(-1.12, -0.94),
        bearded=bool(rng.random() < 0.12),
        glasses=bool(rng.random() < 0.12),
        resting=rng.normal(0.0, _RESTING, len(Muscles.__dataclass_fields__)),
    )


def move(rng: np.random.Generator, identity: Identity, performance: Performance) -> Muscles:
    """The muscles of a subject in every frame: performance, resting face, speech and jitter."""
    lines = len(performance.affect)
    valence, arousal = performance.affect.T
    au = {name: performance.intensities[:, column] for name, column in UNITS.items()}
    phase = np.cumsum(rng.uniform(0.6, 1.8, lines))
    talking = performance.speech * np.sin(phase)
    blink = np.convolve(rng.random(lines) < 1 / 45, np.ones(3), mode="same").clip(0.0, 1.0)
    performed = np.stack(
        [
            au["12"] - 0.9 * au["15"] + 0.35 * valence,
            0.9 * au["26"] + 0.4 * au["25"] + 0.35 * talking,
            0.5 * au["12"] - 0.6 * au["24"] + 0.3 * au["15"] - 0.15 * talking,
            0.9 * au["24"] + 0.6 * au["23"],
            au["10"],
            au["1"] - 0.8 * au["4"] + 0.2 * arousal,
            au["2"] - 0.2 * au["4"] + 0.2 * arousal,
            au["4"],
            0.7 * arousal + 0.4 * au["1"] - 0.5 * au["7"] - 0.3 * au["6"],
            au["6"],
        ],
        axis=1,
    )
    shown = performed + identity.resting + rng.normal(0.0, _JITTER, performed.shape)
    shown[:, 8] -= 2.0 * blink
    return Muscles(*shown.T)


def draw(
    rng: np.random.Generator,
    identity: Identity,
    performance: Performance,
    frames: NDArray[np.int64],
) -> Iterator[bytes]:
    """JPEG crops of the given frames (1-based) of a performance, in that order."""
    muscles = move(rng, identity, performance)
    lines = len(performance.affect)
    shapes = [
        *_head(identity, lines),
        *_eyes(rng, identity, muscles),
        *_brows(identity, muscles),
        *_mouth(identity, muscles),
    ]
    if identity.glasses:
        shapes += _glasses(identity, lines)
    placed = _place(rng, shapes, lines)
    camera = Camera(rng, identity.skin, lines)
    for frame in frames:
        image = Image.new("RGB", (DRAWN, DRAWN), identity.background)
        pen = ImageDraw.Draw(image)
        for width, points, colour in placed:
            flat = points[frame - 1]
            if width:
                pen.line(flat, fill=colour, width=width)
            else:
                pen.polygon(flat, fill=colour)
        yield camera.take(image, int(frame) - 1)


def _head(who: Identity, lines: int) -> list[Shape]:
    wide = who.face_width
    shade = _shade(who.skin, 0.8)
    parts: list[Shape] = [
        (0, _OVAL * (wide * 1.18, 1.15) + (0.0, -0.15), who.hair),
        (0, _OVAL * (wide * 0.5, 0.5) + (0.0, 0.95), shade),
        (0, _OVAL * (wide, 1.0) + (0.0, 0.05), who.skin),
        (0, _OVAL * (wide * 0.85, 0.26) + (0.0, who.fringe), who.hair),
    ]
    if who.bearded:
        beard = to_colour(0.5 * (np.array(who.hair) + np.array(who.skin)))
        parts.append((0, _OVAL * (wide * 0.62, 0.4) + (0.0, 0.72), beard))
    nose = np.array([(-0.03, -0.2), (-0.13, who.nose_length - 0.15), (0.0, who.nose_length - 0.1)])
    nose = np.concatenate([nose, nose[:2][::-1] * (-1, 1)])
    parts.append((0, nose, shade))
    return [(width, np.broadcast_to(p, (lines, *p.shape)), colour) for width, p, colour in parts]


def _eyes(rng: np.random.Generator, who: Identity, m: Muscles) -> list[Shape]:
    lines = len(m.eyes)
    gaze = wander(rng, lines, 2, 12.0, 0.025)
    opening = np.clip(0.12 * (1.0 + 0.95 * m.eyes), 0.008, 0.27)
    line = _shade(who.skin, 0.62)
    shapes: list[Shape] = []
    for side in (-1.0, 1.0):
        centre = np.array([side * who.eye_distance, -0.24])
        white = _scaled(_OVAL, who.eye_size, opening) + centre
        iris = _scaled(_OVAL, 0.085, np.minimum(0.095, opening)) + centre + gaze[:, None, :]
        pupil = _scaled(_OVAL, 0.04, np.minimum(0.045, opening)) + centre + gaze[:, None, :]
        lid = white[:, 9:] + np.array([0.0, -0.02])
        shapes += [(0, white, (238, 236, 230)), (0, iris, who.iris)]
        shapes += [(0, pupil, (12, 10, 10)), (5, lid, line)]
        bag = _scaled(_OVAL[:10], 0.2, 0.03 + 0.09 * np.clip(m.cheeks, 0, 1.2))
        bag = bag + centre + np.array([0.0, 0.17])
        shapes.append((4, bag - np.stack([0 * m.cheeks, 0.08 * m.cheeks], 1)[:, None], line))
    return shapes


def _brows(who: Identity, m: Muscles) -> list[Shape]:
    lines = len(m.frown)
    line, hair = _shade(who.skin, 0.62), _shade(who.hair, 0.7)
    shapes: list[Shape] = []
    for side in (-1.0, 1.0):
        inner_x, outer_x = 0.13 - 0.07 * m.frown, np.full(lines, 0.24)
        inner = np.stack([side * (who.eye_distance - 0.05 - inner_x), _brow(who, m.brow_inner)], 1)
        outer = np.stack([side * (who.eye_distance + outer_x), _brow(who, m.brow_outer) + 0.04], 1)
        arch = 0.5 * (inner + outer) + np.stack([np.zeros(lines), -0.05 - 0.04 * m.brow_outer], 1)
        shapes.append((who.brow_width, np.stack([inner, arch, outer], 1), hair))
        crease = np.array([side * 0.05, -0.38]) + np.zeros((lines, 1, 2))
        drop = np.stack([0 * m.frown, 0.2 * np.clip(m.frown, 0.0, 1.2)], 1)[:, None]
        shapes.append((5, np.concatenate([crease - drop / 2, crease + drop / 2], 1), line))
    return shapes


def _mouth(who: Identity, m: Muscles) -> list[Shape]:
    half = np.clip(who.mouth_width * (1.0 + 0.3 * m.stretch), 0.14, 0.62)
    gape = np.clip(0.34 * m.jaw, 0.0, 0.42)
    lip = np.clip(0.085 * (1.0 - 0.75 * m.press), 0.015, 0.13)
    raised = 0.09 * np.clip(m.lip_raise, 0.0, 1.3)
    x = np.linspace(-1.0, 1.0, 9)
    bow = 1.0 - x**2
    # Corners up for a smile: y points down, and the middle of the mouth sinks by as much.
    bend = 0.2 * np.clip(m.smile, -1.2, 1.2)[:, None] * (2.0 * bow - 1.0) + who.mouth_y
    upper_in = bend - (0.25 * gape + raised)[:, None] * bow
    lower_in = bend + (0.75 * gape)[:, None] * bow
    upper_out = upper_in - lip[:, None] * (0.25 + 0.75 * bow)
    lower_out = lower_in + 1.3 * lip[:, None] * (0.25 + 0.75 * bow)
    across = half[:, None] * x
    outer = _ring(across, upper_out, lower_out)
    inside = _ring(0.92 * across, upper_in, lower_in)
    teeth = _ring(0.8 * across, upper_in, np.minimum(lower_in, upper_in + 0.07 * bow))
    seam = np.stack([across, 0.5 * (upper_in + lower_in)], 2)
    dark = (70, 18, 22)
    return [
        *_folds(who, m, half),
        (0, outer, who.lips),
        (3, seam, dark),
        (0, inside, dark),
        (0, teeth, (240, 236, 224)),
    ]


def _folds(who: Identity, m: Muscles, half: Floats) -> list[Shape]:
    """From the nose to the corners of the mouth, deep for raised lips and cheeks."""
    depth = np.clip(0.5 * m.lip_raise + 0.5 * m.cheeks, 0.0, 1.0)[:, None]
    top = np.full((len(half), 1), 0.18)
    fold_x = half[:, None] * np.array([0.55, 1.05]) + np.array([0.0, 0.1])
    fold_y = np.concatenate([top, top + 0.34 * depth], 1)
    colour = _shade(who.skin, 0.66)
    return [(5, np.stack([side * fold_x, fold_y], 2), colour) for side in (-1.0, 1.0)]


def _glasses(who: Identity, lines: int) -> list[Shape]:
    rims = []
    for side in (-1.0, 1.0):
        rim = np.concatenate([_OVAL, _OVAL[:1]]) * (0.29, 0.25) + (side * who.eye_distance, -0.24)
        rims.append((4, np.broadcast_to(rim, (lines, *rim.shape)), (25, 22, 22)))
    return rims


def _place(rng: np.random.Generator, shapes: list[Shape], lines: int) -> list[Placed]:
    """Turn, shift and scale the head in every frame: face coordinates to drawn pixels."""
    roll, scale, shift_x, shift_y, yaw = wander(rng, lines, 5, 30.0, 1.0).T * np.array(
        [[0.05], [0.03], [0.03], [0.03], [0.05]]
    )
    cos, sin = np.cos(roll) * np.exp(scale), np.sin(roll) * np.exp(scale)
    turn = np.stack([np.stack([cos, sin], 1), np.stack([-sin, cos], 1)], 1)
    shift = np.stack([shift_x, shift_y], 1)[:, None, :]
    placed = []
    for width, points, colour in shapes:
        # The middle of the face protrudes, and so moves most when the head turns.
        near = 1.0 - np.minimum(1.0, np.abs(points[..., 0]))
        turned = points + np.stack([yaw[:, None] * near, np.zeros_like(near)], 2)
        pixels = (turned @ turn + shift + 1.0) * (0.5 * DRAWN)
        placed.append((width, pixels.reshape(lines, -1).tolist(), colour))
    return placed


def _brow(who: Identity, raised: Floats) -> Floats:
    return who.brow_y + 0.02 - 0.19 * np.clip(raised, -1.1, 1.2)


def _scaled(outline: Floats, wide: float, high: Floats) -> Floats:
    """An outline `(points, 2)` of constant width and per-frame height."""
    return np.asarray(outline * np.stack([np.full_like(high, wide), high], 1)[:, None])


def _ring(across: Floats, upper: Floats, lower: Floats) -> Floats:
    top, bottom = np.stack([across, upper], 2), np.stack([across, lower], 2)
    return np.concatenate([top, bottom[:, ::-1]], 1)


def _shade(colour: Colour, factor: float) -> Colour:
    return to_colour(np.array(colour) * factor)


def to_colour(values: NDArray[np.generic] | Floats) -> Colour:
    """Red, green and blue as whole numbers from 0 to 255."""
    r, g, b = (int(v) for v in np.clip(np.asarray(values, dtype=np.float64), 0, 255))
    return r, g, b


class Camera:
    """Light, occlusion, blur and sensor noise of every frame of a video.

    A hand or an object passes in front of the face in a tenth of the frames, a few at a time; the
    light flickers; and a sixth of the frames are blurred by motion, along or across.
    """

    def __init__(self, rng: np.random.Generator, skin: Colour, lines: int) -> None:
        self._rng = rng
        axis = np.linspace(-1.0, 1.0, SIZE, dtype=np.float32)
        self._x, self._y = axis[None, :, None], axis[:, None, None]
        spread = np.array([0.1, 0.09, 0.07, 0.04, 0.04])
        self._light = (wander(rng, lines, 5, 20.0, 1.0) + 0.5 * rng.standard_normal(5)) * spread
        self._light[:, 0] += rng.normal(0.0, _FLICKER, lines)
        self._motion = 3.0 * np.maximum(np.abs(wander(rng, lines, 2, 3.0, 1.0)) - 1.2, 0.0)
        self._sigma = rng.uniform(2.0, 5.0) + rng.exponential(3.0, lines)
        self._hidden = wander(rng, lines, 1, 4.0, 1.0)[:, 0] > _HIDDEN
        self._object = wander(rng, lines, 4, 8.0, 1.0) * (0.25, 0.25, 0.05, 0.05)
        self._object += np.array([0.5, 0.5, 0.3, 0.3])
        # Hands come more often than objects.
        self._colours = [_shade(skin, 0.9), _shade(skin, 1.1), to_colour(rng.uniform(10, 230, 3))]
        self._which = np.cumsum(np.diff(self._hidden, prepend=False)) // 2 % len(self._colours)
        self._bank = rng.standard_normal((_NOISE_BANK, SIZE * 3)).astype(np.float32)

    def take(self, image: Image.Image, row: int) -> bytes:
        """The JPEG of a drawn face as the camera sees it in one frame."""
        if self._hidden[row]:
            x, y, wide, high = self._object[row] * DRAWN
            box = (x - abs(wide), y - abs(high), x + abs(wide), y + abs(high))
            colour = self._colours[self._which[row]]
            ImageDraw.Draw(image).ellipse(box, fill=colour, outline=_shade(colour, 0.7), width=3)
        image = image.reduce(2)
        if self._motion[row].any():
            across, down = self._motion[row].tolist()
            image = image.filter(ImageFilter.BoxBlur((across, down)))
        gain, across, down, red, blue = self._light[row].astype(np.float32)
        white = np.exp(np.array([gain + red, gain, gain + blue], dtype=np.float32))
        pixels = np.asarray(image, dtype=np.float32) * (1.0 + across * self._x + down * self._y)
        pixels *= white
        start = int(self._rng.integers(_NOISE_BANK - SIZE))
        noise = self._bank[start : start + SIZE].reshape(SIZE, SIZE, 3)
        pixels += np.float32(self._sigma[row]) * noise
        np.clip(pixels, 0.0, 255.0, out=pixels)
        file = io.BytesIO()
        Image.fromarray(pixels.astype(np.uint8)).save(file, "JPEG", quality=_QUALITY)
        return file.getvalue()
