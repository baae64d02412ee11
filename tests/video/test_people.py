"""A person keeps a number while the place fits, whatever comes later."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from raffect.video.faces import Face
from raffect.video.people import NOBODY, People

FRAME = 1 / 25


def at(x: float, y: float = 100, side: float = 60, sure: bool = True) -> Face:
    box = np.array([x - side / 2, y - side / 2, x + side / 2, y + side / 2], np.float32)
    return Face(box, 0.9 if sure else 0.4, None, sure)


def follow(frames: Sequence[Sequence[Face]], step: float = FRAME) -> list[list[int]]:
    people = People()
    return [people.assign(faces, number * step) for number, faces in enumerate(frames)]


def test_people_are_numbered_from_left_to_right_as_they_come() -> None:
    assert follow([[at(300), at(100)], [at(100), at(200), at(300)]]) == [[1, 0], [0, 2, 1]]


def test_a_moving_face_keeps_its_number() -> None:
    frames = [[at(50 + 12 * n, 100 + 5 * n, 60 * 1.02**n)] for n in range(40)]
    assert follow(frames) == [[0]] * 40


def test_at_few_frames_a_second_too() -> None:
    frames = [[at(50 + 40 * n)] for n in range(12)]
    assert follow(frames, step=0.2) == [[0]] * 12


def test_people_who_cross_keep_their_numbers() -> None:
    """One passes behind the other, who hides the face."""
    frames = []
    for n in range(60):
        left, right = at(60 + 6 * n, 100), at(420 - 6 * n, 130)
        hidden = abs(left.box[0] - right.box[0]) < 50
        frames.append([left] if hidden else [left, right])
    seen = follow(frames)
    assert seen[0] == [0, 1]
    assert seen[-1] == [0, 1]
    assert {number for row in seen for number in row} == {0, 1}


@pytest.mark.parametrize(
    ("gap_s", "moved", "number"),
    [(1, 0, 0), (1, 50, 0), (4.5, 0, 0), (5.5, 0, 1), (1, 200, 1), (0.04, 200, 1)],
)
def test_who_comes_back_near_by_in_time_is_the_same(
    gap_s: float, moved: float, number: int
) -> None:
    people = People()
    for n in range(10):
        people.assign([at(200)], n * FRAME)
    last = 9 * FRAME
    for n in range(1, int(gap_s / FRAME)):
        assert people.assign([], last + n * FRAME) == []
    assert people.assign([at(200 + moved)], last + gap_s) == [number]


def test_a_face_of_another_size_is_another_person() -> None:
    assert follow([[at(200)], [at(200, side=150)]]) == [[0], [1]]


def test_unsure_faces_continue_people_and_begin_none() -> None:
    frames = [
        [at(300, sure=False)], [at(100)], [at(104, sure=False), at(300, sure=False)], [at(108)]
    ]  # fmt: skip
    assert follow(frames) == [[NOBODY], [0], [0, NOBODY], [0]]


def test_a_sure_face_goes_before_an_unsure_one() -> None:
    assert follow([[at(100)], [at(100, sure=False), at(112)]]) == [[0], [NOBODY, 0]]


FACES = st.lists(
    st.builds(at, st.floats(0, 640), st.floats(0, 360), st.floats(10, 200), st.booleans()),
    max_size=5,
)


@given(st.lists(FACES, max_size=12))
@settings(max_examples=60, deadline=None)
def test_numbers_are_unique_causal_and_the_same_again(frames: list[list[Face]]) -> None:
    seen = follow(frames)
    assert follow(frames) == seen
    assert follow(frames[:6]) == seen[:6]
    known = -1
    for faces, numbers in zip(frames, seen, strict=True):
        people = [number for number in numbers if number != NOBODY]
        assert len(set(people)) == len(people)
        new = sorted(number for number in people if number > known)
        # No number is left out.
        assert new == list(range(known + 1, known + 1 + len(new)))
        known += len(new)
        assert all(n != NOBODY for n, face in zip(numbers, faces, strict=True) if face.sure)


def test_without_times_frames_are_a_25th_of_a_second() -> None:
    people = People(patience=1)
    people.assign([at(100)])
    for _ in range(23):
        people.assign([])
    assert people.assign([at(100)]) == [0]
    for _ in range(26):
        people.assign([])
    assert people.assign([at(100)]) == [1]


def test_who_leaves_the_frame_comes_back_at_its_border() -> None:
    leaving = [[at(100 - 10 * n)] for n in range(10)]
    coming = [[at(10 + 10 * n)] for n in range(10)]
    seen = follow([*leaving, *[[]] * 35, *coming])
    assert [one for one in seen if one] == [[0]] * 20


def look(seed: int, light: float = 1.0) -> NDArray[np.uint8]:
    """A crop of large patches, which other seeds have elsewhere."""
    patches = np.random.default_rng(seed).uniform(30, 220, (8, 8, 3))
    return (np.kron(patches, np.ones((14, 14, 1))) * light).astype(np.uint8)


@pytest.mark.parametrize(
    ("gap_s", "seed", "number"),
    [(2, 0, 0), (2, 1, 1), (0.2, 1, 0)],
    ids=["alike", "another", "no pause"],
)
def test_after_a_pause_looks_decide_too(gap_s: float, seed: int, number: int) -> None:
    people = People()
    for n in range(10):
        assert people.assign([at(200)], n * FRAME, [look(0)]) == [0]
    # Under other light.
    assert people.assign([at(210)], 9 * FRAME + gap_s, [look(seed, 0.4)]) == [number]


def test_one_crop_under_a_hand_does_not_change_what_is_known_of_a_face() -> None:
    people = People()
    for n in range(10):
        people.assign([at(200)], n * FRAME, [look(0)])
    people.assign([at(200)], 10 * FRAME, [look(1)])
    assert people.assign([at(200)], 60 * FRAME, [look(0)]) == [0]
