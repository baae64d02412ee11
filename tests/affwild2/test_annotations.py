from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raffect.affwild2.annotations import (
    digest_annotations,
    find_annotations,
    load_annotations,
    read_all,
    read_annotation,
)
from raffect.affwild2.naming import Problem, ProblemKind
from raffect.affwild2.tasks import SPECS, Split, Task
from raffect.errors import DataError
from raffect.store import Store
from tests.builders import RawTree, quirky_tree, upload

AU_ROW = "0,1,0,1,0,1,0,1,0,1,0,1"
VA_HEADER = "valence,arousal\n"
EXPR_HEADER = SPECS[Task.EXPR].header + "\n"
AU_HEADER = SPECS[Task.AU].header + "\n"


def write(folder: Path, content: str | bytes) -> Path:
    path = folder / "video.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    "content",
    [
        "valence,arousal\n0.5,-0.25\n-5,-5\n",
        "valence,arousal\r\n0.5,-0.25\r\n-5,-5\r\n",
        "valence,arousal\r0.5,-0.25\r-5,-5",
        "\ufeffvalence,arousal\n0.5,-0.25\n-5,-5\n",
        " valence , arousal \n 0.5 ,\t-0.25\n-5.0, -5\n\n  \n\n",
        "valence,arousal\n+.5,-2.5e-1\n-5,-5.00",
        "Valence, AROUSAL\n.5,-.25\n-5,-5\n",
        '"valence","arousal"\n"0.5","-0.25"\n"-5" , "-5"\n',
        "valence,arousal\r\r\n0.5,-0.25\r\r\n-5,-5\r\r\n",
    ],
)
def test_form_of_a_file_means_nothing(tmp_path: Path, content: str) -> None:
    values = read_annotation(write(tmp_path, content), Task.VA)
    assert values.dtype == np.float64
    np.testing.assert_array_equal(values, [[0.5, -0.25], [-5, -5]])


def test_a_value_is_the_float64_nearest_to_its_decimals(tmp_path: Path) -> None:
    texts = ["0.1", "0.1234567890123456", "-0.00000000000000017", "3e-3", "0.99999999999999989"]
    rows = "".join(f"{text},{text}\n" for text in texts)
    values = read_annotation(write(tmp_path, VA_HEADER + rows), Task.VA)
    assert values[:, 0].tolist() == values[:, 1].tolist() == [float(text) for text in texts]


def test_integers_may_be_written_as_other_programs_do(tmp_path: Path) -> None:
    texts = ["1.0", "1.", "+1", "1e0", "-1.0", "-1", "0.0", "7.000", "10e-1", " 3.0 "]
    expr = read_annotation(write(tmp_path, EXPR_HEADER + "\n".join(texts)), Task.EXPR)
    assert expr[:, 0].tolist() == [1, 1, 1, 1, -1, -1, 0, 7, 1, 3]
    au = read_annotation(write(tmp_path, AU_HEADER + "1.0,0.,1e0,+1" + ",-1.0" * 8), Task.AU)
    assert au.tolist() == [[1, 0, 1, 1] + [-1] * 8]
    path = write(tmp_path, EXPR_HEADER + "\n".join([*texts, "x"]))
    with pytest.raises(DataError, match="1 problem:\n  line 12: 'x' is not an integer"):
        read_annotation(path, Task.EXPR)


def test_valid_values_of_every_task(tmp_path: Path) -> None:
    expr = read_annotation(write(tmp_path, EXPR_HEADER + "0\n7\n-1\n"), Task.EXPR)
    np.testing.assert_array_equal(expr, [[0], [7], [-1]])
    au = read_annotation(
        write(tmp_path, AU_HEADER + f"{AU_ROW}\n" + ",".join(["-1"] * 12)), Task.AU
    )
    np.testing.assert_array_equal(au, [[0, 1] * 6, [-1] * 12])


WRONG = [
    (Task.VA, "arousal,valence\n0,0\n", ["line 1", "'arousal,valence'"], "valence,arousal"),
    (Task.VA, "0.1,0.2\n0,0\n", ["line 1", "'0.1,0.2'"], "valence,arousal"),
    (Task.VA, "", ["line 1", "''"], "valence,arousal"),
    (Task.EXPR, "expression\n0\n", ["line 1"], "Neutral,Anger"),
    (Task.AU, EXPR_HEADER + "0\n", ["line 1"], "AU1,AU2,AU4"),
    (Task.EXPR, EXPR_HEADER.replace(",Other", "") + "0\n", ["without Other"], "Surprise,Other"),
    (Task.VA, VA_HEADER, ["no frames"], "-5"),
    (Task.VA, VA_HEADER + "0,0\n0,happy\n", ["line 3", "'happy' is not a number"], "-1 to 1"),
    (Task.VA, VA_HEADER + "0,0\n0,1.01\n", ["line 3", "'1.01' is out of range"], "-1 to 1"),
    (Task.VA, VA_HEADER + "-4,0\n", ["line 2", "'-4' is out of range"], "-5"),
    (Task.VA, VA_HEADER + "nan,0\n", ["line 2", "'nan' is not a number"], "-1 to 1"),
    (Task.VA, VA_HEADER + "0,inf\n", ["line 2", "'inf' is not a number"], "-1 to 1"),
    (Task.VA, VA_HEADER + "0,1e999\n", ["line 2", "'1e999' is out of range"], "-1 to 1"),
    (Task.VA, VA_HEADER + "0\n", ["line 2", "1 values, not 2"], "two numbers"),
    (Task.VA, VA_HEADER + "0,0,\n", ["line 2", "3 values, not 2"], "two numbers"),
    (Task.VA, VA_HEADER + "0,\n", ["line 2", "'' is not a number"], "two numbers"),
    (Task.VA, VA_HEADER + "0,0\n\n0,0\n", ["line 3", "blank"], "two numbers"),
    (Task.VA, VA_HEADER.encode() + b"0,\xff\xfe\n", ["line 2", "not a number"], "two numbers"),
    (Task.EXPR, EXPR_HEADER + "0\n9\n", ["line 3", "'9' is out of range"], "7 Other, or -1"),
    (Task.EXPR, EXPR_HEADER + "8\n", ["line 2", "'8' is out of range"], "7 Other"),
    (Task.EXPR, EXPR_HEADER + "-2\n", ["line 2", "'-2' is out of range"], "7 Other"),
    (Task.EXPR, EXPR_HEADER + "-5\n", ["line 2", "'-5' is out of range"], "-1"),
    (Task.EXPR, EXPR_HEADER + "0.5\n", ["line 2", "'0.5' is not an integer"], "one integer"),
    (Task.EXPR, EXPR_HEADER + "-1.0\n1.5\n", ["line 3", "'1.5' is not"], "one integer"),
    (Task.EXPR, EXPR_HEADER + "8.0\n", ["line 2", "'8.0' is out of range"], "one integer"),
    (Task.VA, VA_HEADER + '0,"1\n', ["line 2", "not a number"], "two numbers"),
    (Task.VA, VA_HEADER + '0,"0"5"\n', ["line 2", "not a number"], "two numbers"),
    (Task.EXPR, EXPR_HEADER + "1.5\n", ["line 2", "'1.5' is not an integer"], "one integer"),
    (Task.EXPR, EXPR_HEADER + "0x5\n", ["line 2", "'0x5' is not an integer"], "one integer"),
    (Task.EXPR, EXPR_HEADER + "300\n", ["line 2", "'300' is out of range"], "one integer"),
    (Task.EXPR, EXPR_HEADER + "1\n\n2\n", ["line 3", "blank"], "one integer"),
    (Task.AU, AU_HEADER + AU_ROW[:-1] + "2\n", ["line 2", "'2' is out of range"], "0 or 1"),
    (Task.AU, AU_HEADER + AU_ROW[:-2] + "\n", ["line 2", "11 values, not 12"], "twelve"),
]


@pytest.mark.parametrize(("task", "content", "got", "allowed"), WRONG)
def test_wrong_content_is_told_with_file_and_line(
    tmp_path: Path, task: Task, content: str | bytes, got: list[str], allowed: str
) -> None:
    path = write(tmp_path, content)
    with pytest.raises(DataError) as caught:
        read_annotation(path, task)
    for part in (str(path), *got):
        assert part in caught.value.got
    assert allowed in caught.value.allowed
    assert caught.value.next_step


def test_several_problems_are_listed_at_once_and_at_most_ten(tmp_path: Path) -> None:
    path = write(tmp_path, EXPR_HEADER + "9\n" * 13 + "x\n1\n")
    with pytest.raises(DataError) as caught:
        read_annotation(path, Task.EXPR)
    assert "14 problems" in caught.value.got
    assert [f"line {n}:" in caught.value.got for n in (2, 11, 12)] == [True, True, False]
    assert "4 more" in caught.value.got


def test_a_missing_file_and_a_folder_are_told(tmp_path: Path) -> None:
    for path in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(DataError, match="can't be read"):
            read_annotation(path, Task.VA)


VA_VALUE = st.floats(-1, 1) | st.just(-5.0)
EXPR_VALUE = st.integers(-1, 7)
AU_VALUE = st.integers(-1, 1)


@given(
    data=st.data(),
    task=st.sampled_from(list(Task)),
    newline=st.sampled_from(["\n", "\r\n"]),
    space=st.sampled_from(["", " "]),
    bom=st.booleans(),
    end=st.sampled_from(["", "\n", "\n\n \n"]),
)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory,
    data: st.DataObject,
    task: Task,
    newline: str,
    space: str,
    bom: bool,
    end: str,
) -> None:
    spec = SPECS[task]
    value = {Task.VA: VA_VALUE, Task.EXPR: EXPR_VALUE, Task.AU: AU_VALUE}[task]
    row = st.lists(value, min_size=spec.label_width, max_size=spec.label_width)
    rows = data.draw(st.lists(row, min_size=1, max_size=8))
    lines = [f"{space},".join(map(repr, row)) for row in rows]
    text = newline.join([spec.header, *lines]) + end.replace("\n", newline)
    path = tmp_path_factory.mktemp("annotation") / "v.txt"
    path.write_bytes((b"\xef\xbb\xbf" if bom else b"") + text.encode())
    np.testing.assert_array_equal(read_annotation(path, task), np.array(rows))


@given(text=st.text(alphabet="01-5.,\n\r xe+", max_size=40))
def test_any_text_is_read_or_refused_never_a_crash(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.mktemp("annotation") / "v.txt"
    path.write_bytes((VA_HEADER + text).encode())
    try:
        values = read_annotation(path, Task.VA)
    except DataError:
        return
    stripped = text.replace("\r\n", "\n").replace("\r", "\n").rstrip(" \t\n")
    assert len(values) == stripped.count("\n") + 1
    assert np.all((np.abs(values) <= 1) | (values == -5))


def test_finds_every_task_split_and_folder_name(tmp_path: Path) -> None:
    tree = RawTree(tmp_path)
    tree.annotate(Task.VA, Split.TRAIN, "b", ["0,0"])
    tree.annotate(Task.VA, Split.VALIDATION, "a_left", ["0,0"])
    tree.annotate(Task.EXPR, Split.TRAIN, "b", ["0"])
    tree.annotate(Task.EXPR, Split.VALIDATION, "c", ["0"], folder="EXPR_Classification_Challenge")
    tree.annotate(Task.AU, Split.VALIDATION, "b", [AU_ROW])
    folder = tree.annotations / "AU_Detection_Challenge" / "Validation_Set"
    (folder / ".hidden.txt").write_text("x")
    (folder / "readme.md").write_text("x")
    (folder / "folder.txt").mkdir()
    found = [(file.task, file.split, file.video) for file in find_annotations(tree.annotations)]
    assert found == [
        (Task.VA, Split.VALIDATION, "a_left"),
        (Task.VA, Split.TRAIN, "b"),
        (Task.EXPR, Split.TRAIN, "b"),
        (Task.EXPR, Split.VALIDATION, "c"),
        (Task.AU, Split.VALIDATION, "b"),
    ]
    assert [file.video for file in find_annotations(tree.annotations, Task.EXPR)] == ["b", "c"]


@pytest.mark.parametrize("state", ["missing", "file", "empty", "other", "bare", "one level up"])
def test_a_root_without_annotations_names_the_layout(tmp_path: Path, state: str) -> None:
    root = tmp_path / "annotations"
    if state == "file":
        root.write_text("")
    elif state != "missing":
        root.mkdir()
    if state == "other":
        (root / "something").mkdir()
    if state == "bare":
        (root / "VA_Estimation_Challenge" / "Train_Set").mkdir(parents=True)
    if state == "one level up":
        RawTree(root).annotate(Task.VA, Split.TRAIN, "a", ["0,0"])
    with pytest.raises(DataError) as caught:
        find_annotations(root)
    assert str(root) in caught.value.got
    assert "VA_Estimation_Challenge" in caught.value.allowed
    assert "EXPR_Classification_Challenge" in caught.value.allowed
    assert "Train_Set" in caught.value.allowed


@pytest.mark.parametrize("older", [False, True])
def test_a_video_annotated_twice_in_a_task_is_refused(tmp_path: Path, older: bool) -> None:
    tree = RawTree(tmp_path)
    one = tree.annotate(Task.EXPR, Split.TRAIN, "a", ["0"])
    folder = "EXPR_Classification_Challenge" if older else None
    split = Split.TRAIN if older else Split.VALIDATION
    two = tree.annotate(Task.EXPR, split, "a", ["0"], folder=folder)
    for read in (
        lambda: read_all(find_annotations(tree.annotations)),
        lambda: load_annotations(tree.annotations, Task.EXPR, split),
    ):
        with pytest.raises(DataError) as caught:
            read()
        assert str(one) in caught.value.got
        assert str(two) in caught.value.got


def test_files_of_every_fault_are_told_at_once(tmp_path: Path) -> None:
    tree = RawTree(tmp_path)
    tree.annotate(Task.VA, Split.TRAIN, "good", ["0,0"])
    tree.annotate(Task.VA, Split.TRAIN, "semicolons", ["0;0"] * 20)
    tree.annotate(Task.VA, Split.VALIDATION, "good", ["0,0"])
    tree.annotate(Task.EXPR, Split.TRAIN, "blank", ["0", "", "1"])
    tree.annotate(Task.EXPR, Split.VALIDATION, "half", ["0.5"])
    tree.annotate(Task.EXPR, Split.VALIDATION, "a,b", ["0"])
    folder = tree.annotate(Task.AU, Split.TRAIN, "empty", [AU_ROW]).parent
    (folder / "empty.txt").write_bytes(b"")
    (folder / "gone.txt").symlink_to(tmp_path / "nowhere.txt")
    (folder / "loop.txt").symlink_to(folder / "loop.txt")
    (folder / "wide.txt").write_bytes((AU_HEADER + AU_ROW + "\n").encode("utf-16"))
    os.mkfifo(folder / "pipe.txt")
    for number in range(3):
        tree.annotate(Task.AU, Split.VALIDATION, f"short{number}", ["0,1"])
    with pytest.raises(DataError) as caught:
        read_all(find_annotations(tree.annotations))
    got = caught.value.got
    assert got.startswith("13 annotation files are wrong:")
    for told in (
        "good.txt annotates a video for va again", "semicolons.txt has 20 problems",
        "line 4: 1 values, not 2: '0;0'", "a,b.txt: no video can be called so: it has a comma",
        "line 3: it is blank", "'0.5' is not an integer", "line 1: the header is ''",
        "a link to", "which is not there", "Too many levels of symbolic links",
        "it is a pipe, a socket or a device", "and 3 more: 2 of au/validation, 1 of au/train",
    ):  # fmt: skip
        assert told in got
    assert "line 5" not in got
    assert "two numbers" in caught.value.allowed
    assert "one integer" in caught.value.allowed
    with pytest.raises(DataError, match="it is UTF-16; save it as UTF-8"):
        read_annotation(folder / "wide.txt", Task.AU)


def test_what_is_no_annotation_file_is_left_out_and_listed(tmp_path: Path) -> None:
    tree = RawTree(tmp_path)
    folder = tree.annotate(Task.VA, Split.TRAIN, "a", ["0,0"]).parent
    for name in ("a (1).txt", "a - Copy.txt", "a copy 2.txt", "a.txt~", "a.txt.bak", "._a.txt"):
        (folder / name).write_text("x")
    (folder / "folder.txt").mkdir()
    (folder / os.fsdecode(b"caf\xe9.md")).write_text("x")
    tree.annotate(Task.VA, Split.TRAIN, "b (1)", ["0,0"])
    tree.annotate(Task.VA, Split.TRAIN, "c", ["0,0"]).rename(folder / "c.TXT")
    (folder.parent / "train_set").mkdir()
    left_out: list[Problem] = []
    found = find_annotations(tree.annotations, left_out=left_out)
    assert [file.video for file in found] == ["a", "b (1)", "c"]
    place = "annotations/VA_Estimation_Challenge"
    assert sorted(left_out, key=str) == sorted(
        [
            Problem(ProblemKind.COPY, f"{place}/Train_Set/a (1).txt", 3),
            Problem(ProblemKind.NO_LABELS, f"{place}/Train_Set/a.txt.bak", 4),
            Problem(ProblemKind.NO_SPLIT, f"{place}/train_set"),
        ],
        key=str,
    )


def test_folders_that_are_links_to_nowhere_are_listed(tmp_path: Path) -> None:
    tree = RawTree(tmp_path)
    tree.annotate(Task.VA, Split.TRAIN, "a", ["0,0"])
    (tree.annotations / "AU_Detection_Challenge").symlink_to(tmp_path / "unmounted")
    split = tree.annotations / "VA_Estimation_Challenge" / "Validation_Set"
    split.symlink_to(split)
    left_out: list[Problem] = []
    assert len(find_annotations(tree.annotations, left_out=left_out)) == 1
    assert left_out == [
        Problem(ProblemKind.BROKEN, "VA_Estimation_Challenge/Validation_Set"),
        Problem(ProblemKind.BROKEN, "annotations/AU_Detection_Challenge"),
    ]


def test_a_name_that_is_not_utf8_is_told(tmp_path: Path) -> None:
    tree = RawTree(tmp_path)
    tree.annotate(Task.VA, Split.TRAIN, os.fsdecode(b"Jos\xe9"), ["0,0"])
    with pytest.raises(DataError, match=r"Jos\\xe9\.txt: .*not UTF-8"):
        load_annotations(tree.annotations, Task.VA, Split.TRAIN)


def test_a_file_of_another_task_is_called_so(tmp_path: Path) -> None:
    path = write(tmp_path, VA_HEADER + "0,0\n")
    with pytest.raises(DataError, match="this is a VA file") as caught:
        read_annotation(path, Task.AU)
    assert "VA_Estimation_Challenge; `raffect evaluate va ...`" in caught.value.next_step
    tree = RawTree(tmp_path / "tree")
    tree.annotate(Task.VA, Split.VALIDATION, "a", ["0,0"])
    with pytest.raises(DataError, match="no annotation file of au") as caught:
        load_annotations(tree.annotations, Task.AU, Split.VALIDATION)
    assert "raffect evaluate va" in caught.value.next_step


def test_a_file_larger_than_any_annotation_is_not_read(tmp_path: Path) -> None:
    path = write(tmp_path, VA_HEADER)
    os.truncate(path, 10 * 2**30)
    with pytest.raises(DataError, match=r"10,737,418,240 bytes"):
        read_annotation(path, Task.VA)


def test_loads_a_split_and_marks_a_frame_with_any_invalid_value(tmp_path: Path) -> None:
    tree = RawTree(tmp_path)
    tree.annotate(Task.VA, Split.TRAIN, "a", ["0,0", "-5,0", "0,-5", "-5,-5", "1,-1"])
    tree.annotate(Task.VA, Split.VALIDATION, "b", ["0,0"])
    labels = load_annotations(tree.annotations, Task.VA, Split.TRAIN)
    assert list(labels) == ["a"]
    assert labels["a"].split is Split.TRAIN
    assert labels["a"].valid.tolist() == [True, False, False, False, True]
    assert labels["a"].values.shape == (5, 2)


def test_an_absent_task_or_split_is_told(tmp_path: Path) -> None:
    tree = RawTree(tmp_path)
    tree.annotate(Task.VA, Split.TRAIN, "a", ["0,0"])
    with pytest.raises(DataError, match="no validation annotations of va"):
        load_annotations(tree.annotations, Task.VA, Split.VALIDATION)
    with pytest.raises(DataError, match="no annotation file") as caught:
        load_annotations(tree.annotations, Task.AU, Split.TRAIN)
    assert "AU_Detection_Challenge" in caught.value.allowed


def test_the_digest_depends_on_content_and_place_but_not_on_the_root(tmp_path: Path) -> None:
    def digest(name: str, split: Split, row: str) -> str:
        tree = RawTree(tmp_path / name)
        tree.annotate(Task.VA, split, "a", [row])
        return digest_annotations(find_annotations(tree.annotations))

    one = digest("one", Split.TRAIN, "0,0")
    assert digest("two", Split.TRAIN, "0,0") == one
    assert digest("three", Split.VALIDATION, "0,0") != one
    assert digest("four", Split.TRAIN, "0,1") != one
    # As version 0.1 worked it out: stores recognise by it what they were made of.
    assert one == "b777a87e44cd150b79e892f1583b0bce8ea9dc37521b76c5f08a5fb61f4fd8dc"


def test_a_bucket_has_the_same_labels_as_the_folder(tmp_path: Path, s3_store: Store) -> None:
    tree = quirky_tree(tmp_path)
    tree.annotate(Task.VA, Split.TRAIN, "a b 50% #1 ?*[x]", ["0.5,0.25"])
    upload(tree.folder, s3_store)
    typed = s3_store.where("annotations/")
    problems: list[list[Problem]] = [[], []]
    local = find_annotations(tree.annotations, left_out=problems[0])
    found = find_annotations(typed, left_out=problems[1])
    assert problems[0] == problems[1]
    assert digest_annotations(found) == digest_annotations(local)
    for task, videos in read_all(local).items():
        labels = read_all(found)[task]
        assert list(labels) == list(videos)
        for name, video in videos.items():
            np.testing.assert_array_equal(labels[name].values, video.values)
    place = "VA_Estimation_Challenge/Train_Set"
    s3_store.write_bytes(f"annotations/{place}/c.txt", b"valence,arousal\n7,0\n")
    s3_store.write_bytes(f"annotations/{place}/d.txt", b"valence,arousal\n0,\0\n")
    with pytest.raises(DataError) as caught:
        read_all(find_annotations(typed))
    assert f"{typed}{place}/c.txt has 1 problem" in caught.value.got
    assert f"{typed}{place}/d.txt can't be read: it holds NUL bytes" in caught.value.got
    with pytest.raises(DataError, match=r"annotation folder s3://.*/none does not exist"):
        find_annotations(s3_store.where("none"))
