"""Faces that detectors find in real pictures, made harder, and what else they take for faces.

    python -m tests.benchmarks.bench_faces [--pictures DIR] [--detector FILE.onnx ...]

The pictures: scikit-image's astronaut; from DIR `t1.jpg` of the package insightface and the test
pictures of face_recognition's source package (`pip download --no-deps` has both), where they are;
100 faces of Labeled Faces in the Wild, 25 pixels wide, enlarged to 50 and put on grey. False
alarms are counted in pictures without a face of scikit-image and scikit-learn and beside faces.
A face counts as found where a box lies within a third of its side; of false alarms those count
that would begin a person. "jitter" is how far landmarks
move, relative to the distance of the eyes, where only brightness, size or sharpness change. Times
are the processor's, of one core if started by `taskset -c 0`.
"""

from __future__ import annotations

import argparse
import io
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance
from scipy.ndimage import convolve1d

from raffect.video.detect import load_detector
from raffect.video.faces import Face

Pixels = NDArray[np.uint8]
Find = Callable[[Pixels], list[Face]]
SIZE = 640
FACES = {
    "astronaut": [(226, 118, 100)],
    "t1.jpg": [
        (112, 331, 115),
        (322, 212, 105),
        (518, 338, 120),
        (795, 411, 115),
        (956, 131, 120),
        (1178, 335, 110),
    ],
    "biden.jpg": [(571, 371, 340)],
    "obama.jpg": [(485, 280, 300)],
    "obama2.jpg": [(343, 434, 330)],
    "obama3.jpg": [(778, 435, 310)],
    "obama_partial_face.jpg": [(90, 280, 280)],
    "obama_partial_face2.jpg": [(480, 280, 280)],
}
"""Middle and side of each face, in pixels; looked at."""
SECOND = {"obama2.jpg": (560, 480, 300)}
"""A head in the background of which half is seen: found or not, it does not count."""
EMPTY = ("chelsea", "coffee", "rocket", "motorcycle_left", "hubble_deep_field", "cell", "grass",
         "gravel", "brick", "page", "text", "retina", "ihc", "horse")  # fmt: skip


@dataclass(frozen=True)
class Picture:
    """Faces are rows of x, y and side."""

    pixels: Pixels
    faces: NDArray[np.float64]
    ignored: NDArray[np.float64]

    def mapped(self, pixels: Pixels, matrix: NDArray[np.float64]) -> Picture:
        """As it is after its points were mapped by a matrix `(2, 3)`."""
        scale = math.sqrt(abs(np.linalg.det(matrix[:, :2])))

        def moved(rows: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.column_stack(
                (rows[:, :2] @ matrix[:, :2].T + matrix[:, 2], rows[:, 2] * scale)
            )

        return Picture(pixels, moved(self.faces), moved(self.ignored))


def load(name: str, image: Image.Image) -> Picture:
    rows = np.array(FACES[name], np.float64)
    ignored = np.array([SECOND[name]] if name in SECOND else [], np.float64).reshape(-1, 3)
    picture = Picture(np.asarray(image.convert("RGB")), rows, ignored)
    return shrunk(picture, SIZE / max(image.size))


def shrunk(picture: Picture, scale: float, canvas: bool = False) -> Picture:
    """Smaller; on a canvas of the old size, as a face far away is."""
    height, width = picture.pixels.shape[:2]
    small = Image.fromarray(picture.pixels).resize(
        (max(1, round(width * scale)), max(1, round(height * scale))), Image.Resampling.LANCZOS
    )
    if canvas:
        whole = Image.new("RGB", (width, height), (90, 90, 90))
        whole.paste(small, (width // 3, height // 3))
        return picture.mapped(
            np.asarray(whole), np.array([[scale, 0, width // 3], [0, scale, height // 3]])
        )
    return picture.mapped(np.asarray(small), np.array([[scale, 0, 0], [0, scale, 0]], float))


def turned(picture: Picture, degrees: float) -> Picture:
    height, width = picture.pixels.shape[:2]
    side = math.ceil(math.hypot(height, width))
    angle = math.radians(degrees)
    linear = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    offset = np.array([side, side]) / 2 - linear @ np.array([width, height]) / 2
    back = linear.T
    start = -back @ offset
    image = Image.fromarray(picture.pixels).transform(
        (side, side), Image.Transform.AFFINE, (*back[0], start[0], *back[1], start[1]),
        resample=Image.Resampling.BICUBIC, fillcolor=(90, 90, 90),
    )  # fmt: skip
    return picture.mapped(np.asarray(image), np.column_stack((linear, offset)))


def mirrored(picture: Picture) -> Picture:
    width = picture.pixels.shape[1]
    return picture.mapped(picture.pixels[:, ::-1].copy(), np.array([[-1.0, 0, width], [0, 1, 0]]))


def brighter(picture: Picture, factor: float) -> Picture:
    image = ImageEnhance.Brightness(Image.fromarray(picture.pixels)).enhance(factor)
    return Picture(np.asarray(image), picture.faces, picture.ignored)


def grey(picture: Picture) -> Picture:
    image = Image.fromarray(picture.pixels).convert("L").convert("RGB")
    return Picture(np.asarray(image), picture.faces, picture.ignored)


def blurred(picture: Picture, part: float) -> Picture:
    """Moved sideways by a part of a face's side while the shutter was open."""
    length = max(1, round(part * float(np.median(picture.faces[:, 2]))))
    smooth = convolve1d(picture.pixels.astype(np.float32), np.full(length, 1 / length), axis=1)
    return Picture(smooth.round().astype(np.uint8), picture.faces, picture.ignored)


def coarse(picture: Picture, quality: int) -> Picture:
    buffer = io.BytesIO()
    Image.fromarray(picture.pixels).save(buffer, "JPEG", quality=quality)
    return Picture(np.asarray(Image.open(buffer).convert("RGB")), picture.faces, picture.ignored)


def hidden(picture: Picture, below: bool) -> Picture:
    """A hand or a mask over the lower or the left half of each face."""
    pixels = picture.pixels.copy()
    for x, y, side in picture.faces:
        left, right = round(x - side * 0.6), round(x if not below else x + side * 0.6)
        top, bottom = round(y + side * 0.05 if below else y - side * 0.8), round(y + side * 0.8)
        pixels[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = (120, 100, 90)
    return Picture(pixels, picture.faces, picture.ignored)


CONDITIONS: dict[str, Callable[[Picture], Picture]] = {
    "as it is": lambda one: one,
    "mirrored": mirrored,
    "grey": grey,
    "half as large": lambda one: shrunk(one, 1 / 2, canvas=True),
    "a quarter": lambda one: shrunk(one, 1 / 4, canvas=True),
    "an eighth": lambda one: shrunk(one, 1 / 8, canvas=True),
    "turned by 15": lambda one: turned(one, 15),
    "turned by 30": lambda one: turned(one, 30),
    "turned by 45": lambda one: turned(one, -45),
    "dark (x 0.3)": lambda one: brighter(one, 0.3),
    "dark (x 0.1)": lambda one: brighter(one, 0.1),
    "bright (x 2)": lambda one: brighter(one, 2),
    "blurred by 10 %": lambda one: blurred(one, 0.1),
    "blurred by 25 %": lambda one: blurred(one, 0.25),
    "JPEG quality 8": lambda one: coarse(one, 8),
    "mouth hidden": lambda one: hidden(one, below=True),
    "left half hidden": lambda one: hidden(one, below=False),
}
STILL = ("grey", "dark (x 0.3)", "bright (x 2)", "blurred by 10 %", "JPEG quality 8")
"""Conditions under which landmarks have to stay where they are."""


def matched(picture: Picture, faces: list[Face]) -> tuple[dict[int, Face], int]:
    """The face found for each true one, and how many are none."""
    found: dict[int, Face] = {}
    false = 0
    for face in faces:
        middle, side = (
            (face.box[:2] + face.box[2:]) / 2,
            float(np.ptp(face.box.reshape(2, 2), 0).max()),
        )
        near = [
            index
            for index, (x, y, wanted) in enumerate(picture.faces)
            if math.dist(middle, (x, y)) < wanted / 3 and wanted / 2 < side < wanted * 2.2
        ]
        if near:
            found.setdefault(near[0], face)
        elif face.sure and not any(math.dist(middle, row[:2]) < row[2] for row in picture.ignored):
            false += 1
    return found, false


def real_pictures(folder: Path | None) -> dict[str, Picture]:
    from skimage.data import astronaut

    found = {"astronaut": load("astronaut", Image.fromarray(astronaut()))}
    for name in FACES:
        paths = sorted(folder.rglob(name)) if folder else []
        if paths:
            found[name] = load(name, Image.open(paths[0]))
    return found


def empty_pictures() -> Iterator[Pixels]:
    import skimage.data
    from sklearn.datasets import load_sample_image

    images = []
    for name in EMPTY:
        folder = Path(skimage.data.__file__).parent
        images.append(Image.open(next(folder.glob(f"{name}.*"))))
    images += [Image.fromarray(load_sample_image(name)) for name in ("china.jpg", "flower.jpg")]
    for image in images:
        whole = image.convert("RGB")
        whole.thumbnail((SIZE, SIZE))
        yield np.asarray(whole)


def small_faces() -> tuple[list[Picture], list[Pixels]]:
    """LFW's faces and its cuttings without one, four times four on grey."""
    from skimage.data import lfw_subset

    cuttings = (lfw_subset() * 255).round().astype(np.uint8)
    pictures, step, side = [], 110, 50
    for start in range(0, 200, 20):
        whole = Image.new("RGB", (SIZE, 480), (110, 110, 110))
        rows = []
        for place, cutting in enumerate(cuttings[start : start + 20]):
            x, y = 40 + place % 5 * step, 20 + place // 5 * step
            small = Image.fromarray(cutting).resize((side, side), Image.Resampling.BICUBIC)
            whole.paste(small.convert("RGB"), (x, y))
            rows.append((x + side / 2, y + side / 2, side))
        faces = np.array(rows if start < 100 else [], np.float64).reshape(-1, 3)
        pictures.append(Picture(np.asarray(whole), faces, np.zeros((0, 3))))
    return pictures[:5], [one.pixels for one in pictures[5:]]


def jitter(before: dict[int, Face], after: dict[int, Face]) -> list[float]:
    moved = []
    for index in before.keys() & after.keys():
        old, new = before[index].landmarks, after[index].landmarks
        if old is not None and new is not None:
            eyes = float(np.linalg.norm(old[1] - old[0]))
            moved.append(float(np.linalg.norm(new - old, axis=1).mean()) / eyes)
    return moved


def seconds(find: Find) -> float:
    """Of a picture of 640x360 with a face."""
    from skimage.data import astronaut

    picture = np.asarray(Image.fromarray(astronaut()[:288]).resize((640, 360)))
    times = []
    for _ in range(8):
        began = time.process_time()
        find(picture)
        times.append(time.process_time() - began)
    return min(times)


def examine(name: str, find: Find, folder: Path | None, detail: bool) -> str:
    """A row of the table."""
    pictures = real_pictures(folder)
    found_in = {
        name: {
            key: matched(one := change(picture), find(one.pixels))
            for key, picture in pictures.items()
        }
        for name, change in CONDITIONS.items()
    }
    total = sum(len(picture.faces) for picture in pictures.values())
    hits = {
        condition: sum(len(found) for found, _ in one.values())
        for condition, one in found_in.items()
    }
    if detail:
        print(
            "\n".join(f"    {condition:20} {count}/{total}" for condition, count in hits.items())
        )
    beside = sum(false for one in found_in.values() for _, false in one.values())
    many, none = small_faces()
    lfw = sum(len(matched(one, find(one.pixels))[0]) for one in many)
    empty = sum(face.sure for pixels in (*empty_pictures(), *none) for face in find(pixels))
    moved = [
        value
        for condition in STILL
        for key in pictures
        for value in jitter(found_in["as it is"][key][0], found_in[condition][key][0])
    ]
    marks = f"{100 * np.mean(moved):.1f} %" if moved else "none"
    sure = sum(face.sure for one in found_in.values() for found, _ in one.values()
               for face in found.values())  # fmt: skip
    found = f"{sum(hits.values())}/{total * len(CONDITIONS)} | {sure}"
    return (
        f"| {name} | {found} | {lfw}/100 | {beside} | {empty} "
        f"| {1000 * seconds(find):.0f} | {marks} |"
    )


HEAD = (
    "| detector | found | of them sure | LFW | false beside | false in empty | ms | jitter |\n"
    "|---|---|---|---|---|---|---|---|"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--detector", nargs="*", default=[])
    parser.add_argument("--detail", action="store_true")
    given = parser.parse_args()
    rows = []
    for which in (None, *given.detector):
        detector = load_detector(which)
        rows.append(examine(detector.name, detector.find, given.pictures, given.detail))
    print(HEAD, *rows, sep="\n")


if __name__ == "__main__":
    main()
