"""What a camera adds to a drawn face: light, occlusion, blur and sensor noise, and the JPEG."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from raffect.affwild2.latents import Floats, wander

SIZE = 112
"""Width and height of a crop in pixels."""
DRAWN = 2 * SIZE
"""Width and height at which it is drawn; halving it smooths the edges."""
_QUALITY = 90
_NOISE_BANK = 512

Colour = tuple[int, int, int]


class Camera:
    """Light, occlusion, blur and sensor noise of every frame of a video."""

    def __init__(self, rng: np.random.Generator, lines: int) -> None:
        self._rng = rng
        axis = np.linspace(-1.0, 1.0, SIZE, dtype=np.float32)
        self._x, self._y = axis[None, :, None], axis[:, None, None]
        spread = np.array([0.1, 0.09, 0.07, 0.04, 0.04])
        self._light = (wander(rng, lines, 5, 20.0, 1.0) + 0.5 * rng.standard_normal(5)) * spread
        self._blur = np.where(rng.random(lines) < 0.25, rng.uniform(0.6, 2.0, lines), 0.0)
        self._sigma = rng.uniform(2.0, 5.0) + rng.exponential(3.0, lines)
        hidden = wander(rng, lines, 1, 4.0, 1.0)[:, 0]
        self._hidden = (hidden > 1.8) | (rng.random(lines) < 0.03)
        self._bank = rng.standard_normal((_NOISE_BANK, SIZE * 3)).astype(np.float32)

    def take(self, image: Image.Image, row: int) -> bytes:
        """The JPEG of a drawn face, as the camera sees it in one frame."""
        if self._hidden[row]:
            self._occlude(image)
        image = image.reduce(2)
        if self._blur[row]:
            image = image.filter(ImageFilter.BoxBlur(float(self._blur[row])))
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

    def _occlude(self, image: Image.Image) -> None:
        x, y = self._rng.uniform(0.1, 0.9, 2) * DRAWN
        wide, high = self._rng.uniform(0.12, 0.26, 2) * DRAWN
        colour = to_colour(self._rng.uniform(10, 230, 3))
        ImageDraw.Draw(image).ellipse((x - wide, y - high, x + wide, y + high), fill=colour)


def to_colour(values: NDArray[np.generic] | Floats) -> Colour:
    """Red, green and blue as whole numbers from 0 to 255."""
    r, g, b = (int(v) for v in np.clip(np.asarray(values, dtype=np.float64), 0, 255))
    return r, g, b
