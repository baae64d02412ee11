"""What prepare and check say of a raw tree; nothing here gets as far as starting Ray."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from raffect.affwild2.findings import Finding, noted
from raffect.affwild2.naming import ProblemKind
from raffect.affwild2.tasks import Split, Task, crop_name
from raffect.cli.app import run
from raffect.store import DATASET, Store, write_manifest
from tests.affwild2.test_check import dataset
from tests.builders import RawTree, jpeg

Tree = Callable[[RawTree], None]


def counted_from_0(tree: RawTree) -> None:
    tree.crops("a", range(4))


def of_other_names(tree: RawTree) -> None:
    folder = tree.crops("a", [])
    for kind in ("left", "right"):
        for n in range(1, 5):
            (folder / f"{kind}_{n}.jpg").write_bytes(jpeg(n))


def of_times(tree: RawTree) -> None:
    folder = tree.crops("a", [])
    for n in range(1, 5):
        (folder / f"2024051812{n:04d}.jpg").write_bytes(jpeg(n))


def of_links_and_pipes(tree: RawTree) -> None:
    folder = tree.crops("a", [])
    for n in range(1, 5):
        (folder / crop_name(n)).symlink_to(crop_name(n))
    os.mkfifo(folder / crop_name(5))
    (folder / crop_name(6)).mkdir()
    (tree.root() / "again").symlink_to(tree.root())


def of_another_name(tree: RawTree) -> None:
    tree.crops("a,b", [1])
    tree.crops("caf\udce9", [1])
    tree.crops("line\nend", [1])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (counted_from_0, ["cropped_aligned/a/00000.jpg is a crop of frame 0", "--first-frame 0"]),
        (of_other_names, ["cropped_aligned/a/left_1.jpg: not the prefix of the folder's crops"]),
        (of_times, ["cropped_aligned/a/20240518120001.jpg: a date or time: number above"]),
        (
            of_links_and_pipes,
            ["cropped_aligned/a/00001.jpg: a link", "cropped_aligned/a/00005.jpg: neither a file"],
        ),
        (of_another_name, ["a name that no predictions file can hold"]),
    ],
)
@pytest.mark.parametrize("strict", [False, True])
def test_a_tree_in_which_no_crop_can_be_read_by_its_name_is_refused(
    tmp_path: Path,
    store: Store,
    capsys: pytest.CaptureFixture[str],
    change: Tree,
    words: list[str],
    strict: bool,
) -> None:
    tree = RawTree(tmp_path)
    tree.annotate(Task.VA, Split.TRAIN, "a", ["0,0"] * 5)
    change(tree)
    code, said = prepare(capsys, tree, store, *(["--strict"] if strict else []))
    assert code == 2
    for word in words:
        assert word in said
    assert "Traceback" not in said
    assert not store.files("")


def prepare(
    capsys: pytest.CaptureFixture[str], tree: RawTree, store: Store, *more: str
) -> tuple[int, str]:
    words = ["prepare", "--images", tree.root(), "--annotations", tree.annotations, *more]
    code = run([str(word) for word in [*words, "--store", store.uri]])
    return code, capsys.readouterr().err


def test_strict_lists_all_warnings_and_writes_nothing(
    tmp_path: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = RawTree(tmp_path)
    tree.crops("a", [1, 2])
    of_another_name(tree)
    tree.annotate(Task.VA, Split.TRAIN, "a", ["0,0"])
    tree.annotate(Task.VA, Split.TRAIN, "b", ["0,0"])
    code, said = prepare(capsys, tree, store, "--strict")
    assert code == 2
    assert "annotated videos without crops: 1, e.g. b" in said
    assert "videos with too few lines of labels: 1, e.g. a (va: 1 of 2)" in said
    assert "a name that no predictions file can hold: 3, e.g. cropped_aligned/a,b" in said
    assert not store.files("")


FOUND = [
    Finding("losing", "videos that lose a tenth of their crops", 3, ("a[red] (1 of 2)",), True),
    Finding("name", "not the name of a crop (00001.jpg)", 12345, (f"root/{'x' * 80}/9.gif",)),
    *(Finding(kind.name.lower(), kind.value, 1, ("r/a/1.jpg",)) for kind in ProblemKind),
]


@pytest.fixture
def noted_store(store: Store, tmp_path: Path) -> Store:
    manifest = dataset(store, tmp_path)
    notes = {"findings": noted(FOUND)}
    write_manifest(store, DATASET, manifest.model_copy(update={"notes": notes}))
    return store


def check(capsys: pytest.CaptureFixture[str], store: Store, *more: str) -> str:
    assert run(["check", "--store", store.uri, *more]) == 0
    return capsys.readouterr().out


def test_check_repeats_what_is_odd(noted_store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    said = check(capsys, noted_store)
    lines = [" ".join(line.split()) for line in said.splitlines()]
    assert "va train 1 3 3 2 1" in lines
    assert "Crops: 3 readable, 1 unreadable" in lines
    assert "! videos that lose a tenth of their crops 3 a[red] (1 of 2)" in lines
    assert "not the name of a crop (00001.jpg) 12,345 root/xxxxxxxxx…xxxxxxxx/9.gif" in lines
    assert "! 1 warning: scores may suffer; `prepare --strict` would refuse it." in lines
    assert max(len(line) for line in said.splitlines() if "manifest.json" not in line) <= 80


def test_check_gives_scripts_the_same(
    noted_store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    found = json.loads(check(capsys, noted_store, "--json"))
    assert found["crops"] == {"readable": 3, "unreadable": ["a/00002.jpg"]}
    assert found["findings"] == noted(FOUND)


def test_nothing_odd_is_no_table(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset(store, tmp_path)
    assert "odd" not in check(capsys, store)
    assert json.loads(check(capsys, store, "--json"))["findings"] == []
