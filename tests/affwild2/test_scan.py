from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from raffect.affwild2.naming import ProblemKind
from raffect.affwild2.scan import SYNTHETIC_MARKER, is_synthetic, scan
from raffect.affwild2.tasks import crop_name
from raffect.errors import DataError
from raffect.store import Store
from tests.builders import QUIRKY_ROOTS, RawTree, jpeg, quirky_tree, upload


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


def test_the_digest_of_the_datasets_own_names_is_what_it_always_was(tmp_path: Path) -> None:
    tree = quirky_tree(tmp_path)
    files: dict[str, dict[int, int]] = {}
    for name in QUIRKY_ROOTS:
        for path in tree.root(name).glob("*/?????*.jpg"):
            sizes = files.setdefault(path.parent.name, {})
            sizes.setdefault(int(path.stem), path.stat().st_size)
    by_hand = hashlib.sha256()
    for video, sizes in sorted(files.items()):
        by_hand.update(f"{video} {len(sizes)}\n".encode())
        by_hand.update(np.array(sorted(sizes), "<i4").tobytes())
        by_hand.update(np.array([sizes[n] for n in sorted(sizes)], "<i8").tobytes())
    assert scan([tree.root(name) for name in QUIRKY_ROOTS]).digest() == by_hand.hexdigest()


def test_a_crop_of_frame_0_is_refused_read_or_left_out(tmp_path: Path) -> None:
    tree = RawTree(tmp_path)
    tree.crops("a", [1, 2])
    tree.crops("b", [0, 1])
    with pytest.raises(DataError) as caught:
        scan([tree.root()])
    assert "b/00000.jpg" in caught.value.got
    assert "1 of 2 videos" in caught.value.got
    assert "--first-frame 0" in caught.value.next_step
    found = scan([tree.root()], first_frame=0)
    assert [video.frames.tolist() for video in found.videos] == [[2, 3], [1, 2]]
    assert [found.videos[1].file(i)[1] for i in (0, 1)] == ["00000.jpg", "00001.jpg"]
    found = scan([tree.root()], first_frame=1)
    assert [video.frames.tolist() for video in found.videos] == [[1, 2], [1]]
    assert [problem.path for problem in found.problems] == ["cropped_aligned/b/00000.jpg"]


def test_names_of_two_roots_may_follow_different_patterns(tmp_path: Path) -> None:
    tree = RawTree(tmp_path)
    tree.crops("a", [1, 3], "one")
    other = tree.crops("a", [], "two")
    for name in ("img_02.jpeg", "img_03.jpeg", "img_04.PNG"):
        (other / name).write_bytes(jpeg())
    [video] = scan([tree.root("one"), tree.root("two")]).videos
    assert video.frames.tolist() == [1, 2, 3, 4]
    names = [video.file(i)[1] for i in range(4)]
    assert names == ["00001.jpg", "img_02.jpeg", "00003.jpg", "img_04.PNG"]


def test_links_that_lead_nowhere_or_to_themselves_are_listed(tmp_path: Path) -> None:
    tree = RawTree(tmp_path)
    folder = tree.crops("a", [1])
    (folder / "00002.jpg").symlink_to("00002.jpg")
    (folder / "00003.jpg").symlink_to(folder)
    os.mkfifo(folder / "00004.jpg")
    (folder / "00005.jpg").symlink_to("/dev/zero")
    (tree.root() / "b").symlink_to("b")
    (tree.root() / "c").symlink_to(tree.root())
    os.mkfifo(tree.root() / "d")
    found = scan([tree.root()])
    assert [video.video for video in found.videos] == ["a"]
    assert {(p.kind.name, p.path.partition("/")[2], p.count) for p in found.problems} == {
        ("BROKEN", "a/00002.jpg", 1),
        ("INSIDE", "a/00003.jpg", 1),
        ("NO_FILE", "a/00004.jpg", 2),
        ("BROKEN", "b", 1),
        ("INSIDE", "c/a", 2),
        ("NO_FILE", "c/d", 1),
        ("BROKEN", "c/b", 1),
        ("NO_FILE", "d", 1),
    }


def test_all_folders_that_may_not_be_read_are_named_at_once() -> None:
    # Below pytest's own folder nobody else may read anything.
    place = Path(tempfile.mkdtemp())
    try:
        place.chmod(0o755)
        tree = RawTree(place)
        for video in "abc":
            tree.crops(video, [1]).chmod(0o755 if video == "b" else 0)
        with nobody(), pytest.raises(DataError) as caught:
            scan([tree.root()])
        assert caught.value.got.startswith("2 image folders can't be listed")
        assert caught.value.got.count("Permission denied") == 2
    finally:
        for folder in tree.root().iterdir():
            folder.chmod(0o755)
        shutil.rmtree(place)


@contextmanager
def nobody() -> Iterator[None]:
    """Without root's right to read everything."""
    mine = os.geteuid()
    try:
        if mine == 0:
            os.seteuid(65534)
        yield
    finally:
        os.seteuid(mine)


def test_a_bucket_is_the_same_dataset_as_the_folder(tmp_path: Path, s3_store: Store) -> None:
    tree = quirky_tree(tmp_path)
    tree.crops("a b 50% #1 ?*[x]", [1, 2])
    upload(tree.folder, s3_store)
    local = scan([tree.root(name) for name in QUIRKY_ROOTS])
    found = scan([s3_store.where(f"{name}/") for name in QUIRKY_ROOTS])
    assert found.digest() == local.digest()
    assert found.lost == local.lost
    assert found.problems == local.problems
    for video in found.videos:
        for index, size in enumerate(video.sizes.tolist()):
            folder, name = video.file(index)
            assert len(folder.read(name, 10**6)) == size


def test_whether_a_bucket_is_synthetic_is_beside_its_root(s3_store: Store) -> None:
    s3_store.write_bytes("real/crops/v/00001.jpg", jpeg())
    s3_store.write_bytes(f"drawn/{SYNTHETIC_MARKER}", b"{}")
    s3_store.write_bytes("drawn/crops/v/00001.jpg", jpeg())
    assert is_synthetic(s3_store.where("drawn/crops/"))
    assert is_synthetic(s3_store.where("drawn"))
    assert not is_synthetic(s3_store.where("real/crops"))


@pytest.mark.parametrize("end", ["", "/", "/v/00001.jpg"])
def test_a_bucket_without_crops_is_refused_as_it_was_typed(s3_store: Store, end: str) -> None:
    s3_store.write_bytes("one/v/00001.jpg", jpeg())
    typed = s3_store.where(("one" if "jpg" in end else "none") + end)
    with pytest.raises(DataError) as caught:
        scan([typed])
    assert f"The image folder {typed} " in caught.value.got


def test_a_listing_takes_a_request_for_each_video(
    s3_store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    crops = [f"crops/v{video}/{crop_name(n)}" for video in range(5) for n in range(1, 9)]
    s3_store.filesystem.pipe({s3_store.path(crop): b"x" for crop in crops})
    with caplog.at_level(logging.DEBUG, "s3fs"):
        assert scan([s3_store.where("crops")]).crops == 40
    calls = [message.split()[1] for message in caplog.messages if message.startswith("CALL")]
    # The root twice: whether it is a folder is asked first, of all roots.
    assert calls == ["list_objects_v2"] * (2 + 5)
