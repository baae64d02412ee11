"""Plots and overlays: what they show of a table, and what they are as files."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from raffect.affwild2.tasks import Task
from raffect.errors import DataError
from raffect.predict.chosen import Chosen, choose
from raffect.predict.curves import MOST_PERSONS, MOST_POINTS, SLOTS, curves_of, left_out
from raffect.predict.overlay import write_overlay
from raffect.predict.persons import Person, Persons
from raffect.predict.plot import write_plot
from raffect.predict.table import schema_of
from raffect.predict.video import PersonSeen, PredictedVideo, VideoSummary
from raffect.store import Store
from tests.predict.stores import TASKS
from tests.video.videos import make_video

RATE = 25
BOX = (100, 80, 180, 160)


@pytest.fixture(scope="module")
def chosen(with_tasks: Store) -> Chosen:
    return choose(with_tasks, TASKS)


def predicted(
    chosen: Chosen, persons: dict[int, list[bool]], video: str = "clip <1> $x_1$ 視.mp4"
) -> PredictedVideo:
    """A table of persons, each from the first frame on, with a face where it is said."""
    rng = np.random.default_rng(0)
    frames = max(map(len, persons.values()))
    kept, tables, seen = Persons(), [], []
    kept.times.extend(number / RATE for number in range(frames))
    for number, faces in persons.items():
        count = len(faces)
        person = kept.found[number] = Person(number)
        for frame in np.flatnonzero(faces):
            person.frames.append(int(frame) + 1)
            shade = np.full((112, 112, 3), 255 * frame // frames, np.uint8)
            person.thumbnails[int(frame) + 1] = shade
        va = np.tanh(np.cumsum(rng.normal(0, 0.1, (count, 2)), axis=0))
        expr = rng.dirichlet(np.ones(8), count)
        where = [[float(side) if face else None for face in faces] for side in BOX]
        confidence = [0.9 if face else None for face in faces]
        cells = [
            range(1, count + 1), list(kept.times[:count]), [number] * count, faces, confidence,
            *np.concatenate([va, expr, rng.uniform(size=(count, 12))], axis=1).T, *where,
        ]  # fmt: skip
        schema = schema_of(chosen)
        tables.append(
            pa.table([pa.array(c, f.type) for c, f in zip(cells, schema, strict=True)], schema)
        )
        seen.append(PersonSeen(number, 1, count, int(sum(faces))))
    summary = VideoSummary(video, frames, frames / RATE, tuple(seen))
    return PredictedVideo(pa.concat_tables(tables), summary, kept)


def test_long_curves_are_means_and_times_without_a_face_are_marked(chosen: Chosen):
    faces = [True] * 7000
    faces[1000:1250] = [False] * 250
    faces[2000] = False
    found = predicted(chosen, {0: faces})
    (curves,) = curves_of(chosen, found)
    assert curves.step == 3
    assert len(curves.times) == -(-7000 // 3) < MOST_POINTS
    valence = found.table["valence"].to_numpy()
    assert curves.models[0].values[10, 0] == pytest.approx(valence[30:33].mean(), abs=1e-6)
    assert curves.models[0].values[-1, 0] == pytest.approx(valence[6999:].mean(), abs=1e-6)
    # One frame of 280 seconds would not be seen.
    assert curves.gaps == [(40.0, 50.0)]
    assert set(curves.thumbnails) == set(range(SLOTS))
    assert curves.title == "Person 0: 0.0 to 280.0 s, 251 of 7,000 frames without a face"


def test_the_persons_that_are_seen_longest_are_drawn(chosen: Chosen):
    found = predicted(chosen, {number: [True] * (40 + number) for number in range(9)})
    numbers = [one.number for one in curves_of(chosen, found)]
    assert numbers == list(range(9 - MOST_PERSONS, 9))
    assert left_out(found) == "3 more persons, seen less, are not shown"


@pytest.mark.parametrize("frames", [1, 60])
@pytest.mark.parametrize("ending", ["png", "html"])
def test_a_plot_is_the_same_for_the_same_numbers(
    chosen: Chosen, tmp_path: Path, ending: str, frames: int
):
    found = predicted(chosen, {0: [True] * frames, 2: [True] + [False] * (frames - 1)})
    files = [tmp_path / f"{name}.{ending}" for name in "ab"]
    for file in files:
        write_plot(file, chosen, found)
    first, second = (file.read_bytes() for file in files)
    assert first == second
    if ending == "png":
        assert Image.open(io.BytesIO(first)).width == 1320
        assert b"Matplotlib" not in first
    else:
        assert b"clip &lt;1&gt; $x_1$" in first
        assert b"clip <1>" not in first


def test_a_page_shows_its_numbers_without_a_network(chosen: Chosen, tmp_path: Path):
    from tests.browsers import CHROMIUM, chromium, watch

    if CHROMIUM is None:
        pytest.skip("There is no chromium: apt-get install chromium")
    faces = [True] * 20 + [False] * 20 + [True] * 60
    write_plot(tmp_path / "p.html", chosen, predicted(chosen, {0: faces, 1: [True] * 50}))
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        problems: list[str] = []
        watch(page, problems, ("file:", "data:", "blob:"))
        page.goto((tmp_path / "p.html").as_uri())
        page.wait_for_selector(".heatmaplayer image", state="attached")
        assert page.locator(".layer-above image, .imagelayer image").count() >= SLOTS
        assert page.locator("text=no face found").count() == 1
        assert page.evaluate("document.documentElement.scrollWidth") <= 1200
        assert problems == []


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return make_video(
        tmp_path / "clip.mp4", frames=12, times=[0.1 * n + 0.01 * (n % 2) for n in range(12)]
    )


def decode(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def test_an_overlay_is_the_video_with_boxes_at_the_same_times(
    chosen: Chosen, video: Path, tmp_path: Path
):
    faces = [True] * 6 + [False] * 6
    done: list[int] = []
    out = tmp_path / "o.mp4"
    write_overlay(out, video, chosen, predicted(chosen, {0: faces}), lambda n, _: done.append(n))
    assert done == list(range(1, 13))
    before, after = decode(video), decode(out)
    assert [round(f.time, 4) for f in after] == [round(f.time, 4) for f in before]
    changed = []
    for one, other in zip(before, after, strict=True):
        pixels = other.reformat(one.width, one.height, "rgb24").to_ndarray().astype(int)
        gap = np.abs(pixels - one.to_ndarray(format="rgb24").astype(int))
        left, top, right, _ = BOX
        changed.append(float(gap[top - 1 : top + 2, left:right].mean()))
    assert min(changed[:6]) > 2 * max(changed[6:])
    assert max(changed[6:]) < 20


@pytest.mark.parametrize("size", [(321, 241), (33, 470), (64, 64)])
def test_an_overlay_of_odd_or_small_frames_has_even_sides(
    chosen: Chosen, tmp_path: Path, size: tuple[int, int]
):
    video = make_video(tmp_path / "odd.mkv", [], 3, size=size, codec="ffv1", pixels="bgr0")
    out = tmp_path / "o.mp4"
    write_overlay(out, video, chosen, predicted(chosen, {0: [True] * 3, 1: [True] * 3}))
    frame = decode(out)[-1]
    assert frame.width % 2 == frame.height % 2 == 0
    assert frame.width >= size[0]
    assert frame.width / frame.height == pytest.approx(size[0] / size[1], rel=0.1)


def test_an_overlay_that_can_not_be_made_leaves_nothing(
    chosen: Chosen, video: Path, tmp_path: Path
):
    found = predicted(chosen, {0: [True] * 12})
    video.unlink()
    with pytest.raises(DataError, match=r"clip\.mp4"):
        write_overlay(tmp_path / "o.mp4", video, chosen, found)
    assert list(tmp_path.iterdir()) == []


def test_captions_name_each_tasks_values(chosen: Chosen):
    from raffect.predict.overlay import _caption

    assert _caption(Task.VA, [0.5, -0.25]) == ["valence +0.50", "arousal -0.25"]
    assert _caption(Task.EXPR, [0, 0, 0, 0, 0.75, 0.25, 0, 0]) == ["Happiness 0.75"]
    assert _caption(Task.AU, [0.1] * 12) == ["no action unit"]
    assert _caption(Task.AU, [0.9] * 5 + [0.1] * 7) == ["AU1 AU2 AU4 AU6", "AU7"]
    assert replace(chosen, names=("a", "b", "c")).tasks == (Task.VA, Task.EXPR, Task.AU)
