from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from raffect.affwild2.annotations import find_annotations, read_labels
from raffect.affwild2.findings import Finding, find_odd, findings_of, noted, refuse_warnings
from raffect.affwild2.scan import scan
from raffect.affwild2.tasks import Split, Task
from raffect.errors import DataError
from raffect.store.manifest import make_manifest
from tests.builders import QUIRKY_ROOTS, RawTree, jpeg, quirky_tree

Odd = Callable[[RawTree], None]


def odd(
    tree: RawTree, roots: tuple[str, ...] = ("cropped_aligned",), first_frame: int = 1,
    unreadable: tuple[str, ...] = (),
) -> dict[str, Finding]:  # fmt: skip
    """The findings of a raw tree by kind, of which these crops do not decode."""
    found = scan([tree.root(name) for name in roots], first_frame)
    labels: dict[Task, dict[str, object]] = {task: {} for task in Task}
    for file in find_annotations(tree.annotations):
        labels[file.task][file.video] = read_labels(file)
    readable = {
        video.video: np.array(
            [n for n in video.frames if f"{video.video}/{n:05d}.jpg" not in unreadable], np.int32
        )
        for video in found.videos
    }
    why = dict.fromkeys(unreadable, "truncated")
    findings = find_odd(found, labels, readable, why, found.problems)  # type: ignore[arg-type]
    assert [f.warning for f in findings] == sorted((f.warning for f in findings), reverse=True)
    assert [Finding(**json.loads(json.dumps(one))) for one in noted(findings)] == [
        Finding(**{**vars(finding), "names": list(finding.names)})  # type: ignore[arg-type]
        for finding in findings
    ]
    return {finding.kind: finding for finding in findings}


def whole_tree(folder: Path) -> RawTree:
    """Two videos of twelve crops, and one line more, as is usual."""
    tree = RawTree(folder)
    for video in ("a", "b"):
        tree.crops(video, range(1, 13))
        tree.annotate(Task.VA, Split.TRAIN, video, ["0.1,0.2"] * 13)
    return tree


def test_a_whole_tree_has_nothing_odd(tmp_path: Path) -> None:
    assert odd(whole_tree(tmp_path)) == {}


def stray(names: list[str]) -> Odd:
    def change(tree: RawTree) -> None:
        for name in names:
            (tree.root() / "a" / name).write_bytes(jpeg())

    return change


def shorter(lines: int) -> Odd:
    return lambda tree: tree.annotate(Task.VA, Split.TRAIN, "a", ["0,0"] * lines) and None


def test_counts_are_exact_where_names_are_not_all_kept(tmp_path: Path) -> None:
    tree = whole_tree(tmp_path)
    stray([f"cover{i}.x.jpg" for i in range(150)])(tree)
    found = odd(tree)
    assert found["name"].count == 150
    assert found["losing"].names == ("a (150 of 162)",)
    for i in range(150):
        tree.crops(f"test{i:03d}", [1])
    tests = odd(tree)["crops_without_annotations"]
    assert (tests.count, len(tests.names)) == (150, 100)


@pytest.mark.parametrize(
    ("change", "kinds"),
    [
        # One of thirteen is a stray; two of fourteen, and a tenth is lost.
        (stray(["cover.jpg"]), {"name": (1, False)}),
        (stray(["cover.jpg", "cover.x.jpg"]), {"name": (2, False), "losing": (1, True)}),
        (stray(["notes.txt", "list.csv", "x.gif"]), {"name": (3, False)}),
        (stray(["5.png"]), {"same": (1, False)}),
        # A crop past the last line, of twelve; then two.
        (shorter(12), {}),
        (shorter(11), {"beyond_labels": (1, False)}),
        (shorter(10), {"beyond_labels": (2, False), "far_beyond": (1, True)}),
        # Lines after the last crop and the one that is usual: of 14 one, of 15 two.
        (shorter(14), {}),
        (shorter(15), {"outside_crops": (1, True)}),
        (shorter(25), {"few_crops": (1, True)}),
    ],
)
def test_a_tenth_of_a_video_makes_a_warning(
    tmp_path: Path, change: Odd, kinds: dict[str, tuple[int, bool]]
) -> None:
    tree = whole_tree(tmp_path)
    change(tree)
    found = odd(tree)
    assert {kind: (f.count, f.warning) for kind, f in found.items()} == kinds


def test_crops_numbered_from_another_frame_on_are_a_warning(tmp_path: Path) -> None:
    tree = whole_tree(tmp_path)
    tree.crops("c", range(1001, 1041))
    tree.annotate(Task.AU, Split.TRAIN, "c", [",".join("0" * 12)] * 1041)
    tree.crops("d", range(5, 41))
    tree.annotate(Task.AU, Split.TRAIN, "d", [",".join("0" * 12)] * 41)
    tree.crops("e", range(6, 41))
    tree.annotate(Task.AU, Split.TRAIN, "e", [",".join("0" * 12)] * 41)
    found = odd(tree)
    assert found["few_crops"].names == ("c (au: 40 of 1,041)",)
    assert found["outside_crops"].names == ("e (au: 5 of 41)",)


def test_videos_that_are_lost_as_a_whole(tmp_path: Path) -> None:
    tree = whole_tree(tmp_path)
    for n in range(1, 13):
        (tree.root() / "b" / f"{n:05d}.jpg").rename(tree.root() / "b" / f"{n:05d}.tiff")
    tree.annotate(Task.AU, Split.TRAIN, "c", ["0" + ",0" * 11] * 9)
    tree.crops("d", [1]).rename(os.fsdecode(os.fsencode(tree.root()) + b"/Jos\xe9\n"))
    found = odd(tree)
    assert found["annotated_without_crops"].names == ("b", "c")
    assert found["annotated_without_crops"].warning
    assert (found["name"].count, found["name"].names) == (12, ("cropped_aligned/b/00001.tiff",))
    assert found["video_name"].names == ("cropped_aligned/Jos\\xe9\\n",)
    assert found["video_name"].warning


def test_crops_that_do_not_decode_are_lost(tmp_path: Path) -> None:
    tree = whole_tree(tmp_path)
    assert set(odd(tree, unreadable=("a/00003.jpg",))) == {"unreadable"}
    found = odd(tree, unreadable=("a/00003.jpg", "a/00004.jpg"))
    assert found["losing"].names == ("a (2 of 12)",)
    assert found["unreadable"].names[0] == "a/00003.jpg: truncated"


def test_the_shortest_labels_of_a_video_count(tmp_path: Path) -> None:
    tree = whole_tree(tmp_path)
    tree.annotate(Task.EXPR, Split.VALIDATION, "a", ["0"] * 6)
    found = odd(tree)
    assert found["far_beyond"].names == ("a (expr: 6 of 12)",)
    assert (found["beyond_labels"].count, found["beyond_labels"].names) == (6, ("a/00007.jpg",))


def test_a_first_frame_of_0_that_no_crop_has_is_said(tmp_path: Path) -> None:
    tree = whole_tree(tmp_path)
    found = odd(tree, first_frame=0)
    assert found["shifted"].names == ("a/00001.jpg",)
    assert found["shifted"].warning
    tree.crops("a", [0])
    assert "shifted" not in odd(tree, first_frame=0)


def test_the_quirks_of_the_dataset(tmp_path: Path) -> None:
    found = odd(quirky_tree(tmp_path), QUIRKY_ROOTS, unreadable=("454/00005.jpg",))
    assert {kind: finding.count for kind, finding in found.items() if not finding.warning} == {
        "outside": 1, "inside": 1, "same": 1, "name": 1, "empty": 1, "twice": 1, "unreadable": 1,
        "crops_without_annotations": 1, "beyond_labels": 1,
    }  # fmt: skip
    assert found["twice"].names == ("cropped_aligned_new_50_vids/454/00002.jpg",)


def test_strict_refuses_all_warnings_at_once(tmp_path: Path) -> None:
    tree = whole_tree(tmp_path)
    refuse_warnings(list(odd(tree, unreadable=("a/00003.jpg",)).values()))
    shorter(10)(tree)
    tree.annotate(Task.VA, Split.TRAIN, "c", ["0,0"])
    with pytest.raises(DataError) as caught:
        refuse_warnings(list(odd(tree).values()))
    assert "annotated videos without crops: 1, e.g. c" in caught.value.got
    assert "videos with too few lines of labels: 1, e.g. a (va: 2 of 12)" in caught.value.got


def test_an_older_manifest_tells_what_it_listed() -> None:
    notes = {
        "misplaced": [
            {"kind": "not the name of a crop (00001.jpg)", "path": "r/a/1.jpg"},
            {"kind": "not the name of a crop (00001.jpg)", "path": "r/a/2.jpg"},
        ],
        "unreadable": {"a/00005.jpg": "truncated"},
        "annotated_without_crops": ["77"],
        "crops_without_annotations": [],
        "synthetic": False,
    }
    found = findings_of(make_manifest("dataset", {}, {}, [], notes=notes))
    assert [(f.kind, f.count, f.names[0], f.warning) for f in found] == [
        ("annotated_without_crops", 1, "77", True),
        ("unreadable", 1, "a/00005.jpg", False),
        ("misplaced", 2, "r/a/1.jpg", False),
    ]
    assert findings_of(make_manifest("dataset", {}, {}, [])) == []
    assert findings_of(make_manifest("dataset", {}, {}, [], notes={"findings": noted(found)})) == (
        found
    )
