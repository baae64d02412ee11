from __future__ import annotations

from pathlib import Path

import pytest

from raffect.affwild2.naming import ProblemKind
from raffect.affwild2.scan import scan
from raffect.errors import DataError
from tests.builders import QUIRKY_ROOTS, RawTree, jpeg, quirky_tree


def test_finds_the_crops_of_every_video_in_every_root(tmp_path: Path) -> None:
    tree = quirky_tree(tmp_path)
    found = scan([tree.root(name) for name in QUIRKY_ROOTS])
    assert {video.video: video.frames.tolist() for video in found.videos} == {
        "28-30-1280x720-1": [3, 4, 6, 7],
        "454": [1, 2, 5, 8],
        "99": [1, 100000],
        "video10_1_left": [1, 2, 3],
        "video10_1_right": [1, 2],
    }
    assert [video.video for video in found.videos] == sorted(v.video for v in found.videos)
    assert found.crops == 15
    for video in found.videos:
        files = [video.file(i) for i in range(len(video.frames))]
        sizes = [len(folder.read(name, 10**6)) for folder, name in files]
        assert sizes == video.sizes.tolist()
    divided = next(video for video in found.videos if video.video == "454")
    roots = [Path(divided.file(i)[0].uri).parent.name for i in range(4)]
    assert roots == [QUIRKY_ROOTS[0], QUIRKY_ROOTS[0], QUIRKY_ROOTS[1], QUIRKY_ROOTS[1]]


def test_lists_all_that_is_misplaced_and_nothing_else(tmp_path: Path) -> None:
    tree = quirky_tree(tmp_path)
    (tree.root() / "99" / "000002.jpg").write_bytes(jpeg())
    (tree.root() / "99" / "00002.JPG").write_bytes(jpeg())
    (tree.root() / "99" / "00003.jpg").symlink_to(tmp_path / "nowhere")
    one, two = QUIRKY_ROOTS
    found = scan([tree.root(name) for name in QUIRKY_ROOTS])
    assert {(problem.kind, problem.path, problem.count) for problem in found.problems} == {
        (ProblemKind.OUTSIDE, f"{one}/readme.txt", 1),
        (ProblemKind.SAME, f"{one}/454/1.jpg", 1),
        (ProblemKind.NAME, f"{one}/454/00009.gif", 1),
        (ProblemKind.SAME, f"{one}/99/000002.jpg", 2),
        (ProblemKind.BROKEN, f"{one}/99/00003.jpg", 1),
        (ProblemKind.INSIDE, f"{one}/454/sub", 1),
        (ProblemKind.EMPTY, f"{one}/empty", 1),
        (ProblemKind.TWICE, f"{two}/454/00002.jpg", 1),
    }
    assert len(found.problems) == 8
    # Frame 2, of which two files are called otherwise than the dataset's, and the dangling link.
    assert found.lost == {"99": 2}


def test_a_crop_in_two_roots_is_that_of_the_first(tmp_path: Path) -> None:
    tree = RawTree(tmp_path)
    tree.crops("a", [1, 2], "one")
    tree.crops("a", [2, 3], "two")
    for order in (["one", "two"], ["two", "one"]):
        [video] = scan([tree.root(name) for name in order]).videos
        assert video.frames.tolist() == [1, 2, 3]
        assert Path(video.file(1)[0].uri).parent.name == order[0]


def test_a_root_given_twice_counts_once(tmp_path: Path) -> None:
    tree = RawTree(tmp_path)
    tree.crops("a", [1, 2])
    found = scan([tree.root(), tree.root() / ".." / tree.root().name])
    assert found.crops == 2
    assert not found.problems


@pytest.mark.parametrize("state", ["missing", "file", "empty", "one level up", "one level down"])
def test_a_root_without_crops_is_refused(tmp_path: Path, state: str) -> None:
    root = tmp_path / "crops"
    if state == "file":
        root.write_text("")
    elif state != "missing":
        root.mkdir()
    if state == "one level up":
        RawTree(root).crops("a", [1])
    if state == "one level down":
        (root / "00001.jpg").write_bytes(jpeg())
    with pytest.raises(DataError) as caught:
        scan([root])
    assert str(root) in caught.value.got
    assert "VIDEO/00001.jpg" in caught.value.allowed


def test_no_root_at_all_is_refused() -> None:
    with pytest.raises(DataError, match="no crops"):
        scan([])


def test_the_digest_follows_names_and_sizes_but_not_the_place(tmp_path: Path) -> None:
    def digest(place: str, frames: list[int], video: str = "a") -> str:
        tree = RawTree(tmp_path / place)
        tree.crops(video, frames)
        return scan([tree.root()]).digest()

    one = digest("one", [1, 2])
    assert digest("two", [1, 2]) == one
    assert digest("three", [1, 3]) != one
    assert digest("four", [1, 2], "b") != one
    file = tmp_path / "two" / "cropped_aligned" / "a" / "00001.jpg"
    file.write_bytes(file.read_bytes() + b"x")
    assert scan([tmp_path / "two" / "cropped_aligned"]).digest() != one
