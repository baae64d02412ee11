from __future__ import annotations

import pickle
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from raffect.affwild2.naming import (
    LAST_FRAME,
    MOST_BYTES,
    CropName,
    Entry,
    EntryKind,
    ProblemKind,
    read_folder,
    read_name,
)
from raffect.affwild2.tasks import crop_name

NAME, PREFIX, SAME = ProblemKind.NAME, ProblemKind.PREFIX, ProblemKind.SAME
FAR = ProblemKind.TOO_FAR


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("00001.jpg", ("", "00001", ".jpg")),
        ("1.PNG", ("", "1", ".PNG")),
        ("000001.jpeg", ("", "000001", ".jpeg")),
        ("frame_00012.webp", ("frame_", "00012", ".webp")),
        ("f001001.bmp", ("f", "001001", ".bmp")),
        ("2-30-640x360_00007.jpg", ("2-30-640x360_", "00007", ".jpg")),
        ("frame_det_00_000003.bmp", ("frame_det_00_", "000003", ".bmp")),
        ("img.3.jpg", ("img.", "3", ".jpg")),
        ("caf\udce9\n_3.jpg", ("caf\udce9\n_", "3", ".jpg")),
        # Times, numbers below 0, copies, other digits, no number, no image's ending.
        ("1.04.jpg", None),
        ("0,5.jpg", None),
        ("-1.jpg", None),
        ("00001 (1).jpg", None),
        ("00001_aligned.jpg", None),
        ("١.jpg", None),
        ("face.jpg", None),
        (".jpg", None),
        ("00001", None),
        ("00001.gif", None),
        ("00001.jpg.part", None),
        ("00001.jpg ", None),
        ("00001.jpg\n", None),
    ],
)
def test_a_name_is_read_or_is_none(name: str, parts: tuple[str, str, str] | None) -> None:
    assert read_name(name) == (parts and CropName(*parts))


def files(*names: str) -> list[Entry]:
    return [Entry(name, EntryKind.FILE, 10 + i) for i, name in enumerate(names)]


def named(form: str, numbers: Sequence[int]) -> list[str]:
    return [form.format(n=n) for n in numbers]


@pytest.mark.parametrize(
    "form",
    ["{n:05d}.jpg", "{n:06d}.jpg", "{n}.jpg", "{n:04d}.jpg", "frame_{n:05d}.jpg", "IMG_{n}.png",
     "{n:05d}.JPG", "{n:05d}.jpeg", "{n:05d}.webp", "{n:05d}.BMP", "1-30-1280x720 {n}.jpg"],
)  # fmt: skip
def test_every_unambiguous_way_of_naming_gives_the_same_frames(form: str) -> None:
    numbers = [1, 2, 9, 10, 100, 9999, 10000, 100000]
    entries = files(*named(form, numbers))
    found = read_folder(reversed(entries), "root/video")
    assert found.frames.tolist() == numbers
    assert found.sizes.tolist() == [entry.size for entry in entries]
    assert [found.names.of(n) for n in numbers] == [entry.name for entry in entries]
    assert not found.names.others
    assert not found.problems
    assert found.lost == 0


TEN = named("{n:05d}.jpg", range(1, 11))


@pytest.mark.parametrize(
    ("names", "frames", "problem", "lost"),
    [
        # The dataset's own name is taken, whatever else there is for its frame.
        (["00001.jpg", "1.png"], [1], (SAME, "1.png", 1), 0),
        (["00001.jpg", "00001.JPG", "00001.jpeg"], [1], (SAME, "00001.JPG", 2), 0),
        # Otherwise none: which of the two it is can't be known.
        (["1.jpg", "01.jpg", "2.jpg"], [2], (SAME, "01.jpg", 2), 1),
        (["1.jpg", "1.png"], [], (SAME, "1.jpg", 2), 1),
        # One stray beside ten crops is left out; two prefixes by halves leave none.
        ([*TEN, "thumb_1.jpg"], list(range(1, 11)), (PREFIX, "thumb_1.jpg", 1), 1),
        ([*named("f{n}.jpg", range(1, 11)), "1.jpg"], list(range(1, 11)), (PREFIX, "1.jpg", 1), 1),
        (["a1.jpg", "a2.jpg", "b1.jpg", "b2.jpg"], [], (PREFIX, "a1.jpg", 4), 4),
        (["00001_0.jpg", "00002_0.jpg"], [], (PREFIX, "00001_0.jpg", 2), 2),
        (["1.00.jpg", "1.04.jpg"], [], (NAME, "1.00.jpg", 2), 2),
        ([*TEN, "notes.txt"], list(range(1, 11)), (NAME, "notes.txt", 1), 0),
        ([*TEN, "cover.jpg"], list(range(1, 11)), (NAME, "cover.jpg", 1), 1),
        ([*TEN, "999999999.jpg"], list(range(1, 11)), (FAR, "999999999.jpg", 1), 1),
        (["20240518120001.jpg"], [], (FAR, "20240518120001.jpg", 1), 1),
        (["00000.jpg", "00001.jpg"], [1], (ProblemKind.FRAME_ZERO, "00000.jpg", 1), 0),
        ([], [], (ProblemKind.EMPTY, "", 1), 0),
        ([".DS_Store", "._00001.jpg", "Thumbs.db"], [], (ProblemKind.EMPTY, "", 1), 0),
    ],
)  # fmt: skip
def test_what_is_ambiguous_is_left_out_and_said(
    names: list[str], frames: list[int], problem: tuple[ProblemKind, str, int], lost: int
) -> None:
    found = read_folder(files(*names), "root/video")
    assert found.frames.tolist() == frames
    kind, first, count = problem
    [told] = found.problems
    assert (told.kind, told.count) == (kind, count)
    assert told.path == f"root/video/{first}".rstrip("/")
    assert found.lost == lost


@pytest.mark.parametrize(
    ("entry", "kind"),
    [
        (Entry("00003.jpg", EntryKind.FOLDER), ProblemKind.INSIDE),
        (Entry("00003.jpg", EntryKind.OTHER), ProblemKind.NO_FILE),
        (Entry("00003.jpg", EntryKind.BROKEN), ProblemKind.BROKEN),
        (Entry("00003.jpg", EntryKind.FILE, MOST_BYTES + 1), ProblemKind.TOO_LARGE),
    ],
)
def test_what_is_no_crop_whatever_its_name(entry: Entry, kind: ProblemKind) -> None:
    found = read_folder([*files("00001.jpg", "00002.jpg"), entry], "r/v")
    assert found.frames.tolist() == [1, 2]
    assert [(p.kind, p.path) for p in found.problems] == [(kind, "r/v/00003.jpg")]
    assert found.lost == 1


def test_frames_counted_from_0_are_those_from_1_less_one() -> None:
    numbers = [0, 1, 5, LAST_FRAME]
    found = read_folder(files(*named("frame{n:04d}.jpg", numbers)), "r/v", first_frame=0)
    assert found.frames.tolist() == [1, 2, 6, LAST_FRAME + 1]
    assert [found.names.of(n + 1) for n in numbers] == named("frame{n:04d}.jpg", numbers)
    assert not found.problems


NUMBERS = st.lists(st.integers(1, 200_000), min_size=1, max_size=30, unique=True)


@given(NUMBERS, st.integers(0, 8), st.lists(st.sampled_from([".jpg", ".PNG", ".webp"])))
@example([9999, 10000], 0, [".jpg", ".PNG"])
def test_names_come_back_whatever_their_padding(
    numbers: list[int], width: int, endings: list[str]
) -> None:
    ends = dict(zip(numbers, endings, strict=False))
    names = {n: f"{n:0{width}d}{ends.get(n, '.jpg')}" for n in numbers}
    found = pickle.loads(pickle.dumps(read_folder(files(*names.values()), "r/v")))
    assert found.frames.tolist() == sorted(numbers)
    assert all(found.names.of(n) == name for n, name in names.items())


@given(st.lists(st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=12)))
@example(["caf\udce9.txt", "1\n.jpg", "00001.jpg"])
def test_any_names_at_all_give_frames_once_and_problems_that_can_be_written(
    names: list[str],
) -> None:
    names = sorted(set(names))
    found = read_folder(files(*names), "r/v")
    frames = found.frames.tolist()
    assert frames == sorted(set(frames))
    assert all(found.names.of(n) in names for n in frames)
    for problem in found.problems:
        assert problem.path.isprintable()
        problem.path.encode()


@given(st.lists(st.integers(1, 10**7), unique=True, max_size=50))
def test_the_datasets_own_names_are_read_whatever_lies_beside_them(numbers: list[int]) -> None:
    own = [crop_name(n) for n in numbers]
    strays = [f"{n}.png" for n in numbers[::2]] + ["notes.txt", "._00001.jpg"]
    assert read_folder(files(*own, *strays), "r/v").frames.tolist() == sorted(numbers)
