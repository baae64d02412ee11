from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raffect.affwild2.predictions import (
    VideoPredictions,
    header_of,
    read_predictions,
    write_predictions,
)
from raffect.affwild2.tasks import SPECS, Task
from raffect.errors import DataError

VA = header_of(Task.VA) + "\n"
EXPR = header_of(Task.EXPR) + "\n"
AU = header_of(Task.AU) + "\n"


def write(folder: Path, content: str | bytes) -> Path:
    path = folder / "predictions.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@given(data=st.data(), task=st.sampled_from(list(Task)))
def test_float32_predictions_survive_the_file(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, task: Task
) -> None:
    spec = SPECS[task]
    names = st.from_regex(r"[A-Za-z0-9_-]{1,12}", fullmatch=True)
    value = st.floats(0, 1, width=32) if task is Task.AU else st.floats(-1, 1, width=32)
    row = st.lists(value, min_size=spec.outputs, max_size=spec.outputs)
    frames = st.lists(st.integers(1, 200_000), min_size=1, max_size=4, unique=True).map(sorted)
    videos = []
    for name in data.draw(st.lists(names, min_size=1, max_size=3, unique=True)):
        numbers = data.draw(frames)
        rows = [data.draw(row) for _ in numbers]
        videos.append(VideoPredictions(name, np.int32(numbers), np.array(rows, np.float64)))
    path = tmp_path_factory.mktemp("predictions") / "p.csv"
    write_predictions(path, task, videos)
    found = read_predictions(path, task)
    assert list(found) == sorted(video.video for video in videos)
    for video in videos:
        got = found[video.video]
        assert got.frames.dtype == np.int32
        np.testing.assert_array_equal(got.frames, video.frames)
        np.testing.assert_array_equal(np.float32(got.values), np.float32(video.values))


def test_every_float64_survives_the_file(tmp_path: Path) -> None:
    values = np.array([[0.1, 1 / 3], [0.49999999999999994, 5e-324], [-1.0, 0.7]])
    write_predictions(
        tmp_path / "p.csv", Task.VA, [VideoPredictions("a", np.int32([1, 2, 3]), values)]
    )
    np.testing.assert_array_equal(
        read_predictions(tmp_path / "p.csv", Task.VA)["a"].values, values
    )


def test_the_file_is_what_the_design_says(tmp_path: Path) -> None:
    values = np.float64([[0.5, -0.5], [np.float32(0.1), 1]])
    write_predictions(
        tmp_path / "new" / "p.csv", Task.VA, [VideoPredictions("a", np.int32([1, 100000]), values)]
    )
    text = (tmp_path / "new" / "p.csv").read_text()
    assert text == VA + "a/00001.jpg,0.5,-0.5\na/100000.jpg,0.100000001,1\n"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["p.csv"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = write(tmp_path, "old")

    def broken() -> object:
        yield VideoPredictions("a", np.int32([1]), np.zeros((1, 2)))
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        write_predictions(path, Task.VA, broken())  # type: ignore[arg-type]
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    below = write(tmp_path, "x") / "below.csv"
    for out in (tmp_path, below, "/dev/null/x", "/dev/null/x/y", ".", "/", tmp_path / ("x" * 300)):
        with pytest.raises(DataError, match="can't be written"):
            write_predictions(Path(out), Task.VA, [])
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.txt"]


def test_a_device_takes_what_is_written_and_stays_one(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(pipe.read_text)
        write_predictions(pipe, Task.VA, [])
        assert reader.result(10).startswith("image_location")
    assert pipe.is_fifo()


def test_reads_the_challenges_rows(tmp_path: Path) -> None:
    va = VA + "2-30-640x360/00002.jpg,0.5,-0.5\n2-30-640x360/00001.jpg,0,1\n"
    found = read_predictions(write(tmp_path, va), Task.VA)["2-30-640x360"]
    assert found.frames.tolist() == [1, 2]
    assert found.values.tolist() == [[0, 1], [0.5, -0.5]]
    expr = EXPR + "14-30-1920x1080/00001.jpg,0\n14-30-1920x1080/00002.jpg,7\n"
    found = read_predictions(write(tmp_path, expr), Task.EXPR)["14-30-1920x1080"]
    assert found.values.tolist() == [[1] + [0] * 7, [0] * 7 + [1]]
    au = AU + "a_left/00001.jpg,0,1,0,1,0,1,0,1,0,1,0,1\n"
    assert read_predictions(write(tmp_path, au), Task.AU)["a_left"].values.tolist() == [[0, 1] * 6]


def test_form_of_a_file_means_nothing(tmp_path: Path) -> None:
    for content in (
        "\ufeffimage_location, valence ,arousal\r\na/00001.jpg , 0.5,1\r\n\r\n \r\n",
        '"image_location","Valence","Arousal"\n"a/00001.jpg","+.5","1."\n',
    ):
        found = read_predictions(write(tmp_path, content), Task.VA)
        assert found["a"].values.tolist() == [[0.5, 1]]


WRONG = [
    (Task.VA, "", ["line 1"], "image_location,valence,arousal"),
    (Task.VA, EXPR + "a/00001.jpg,0\n", ["line 1"], "image_location,valence,arousal"),
    (Task.VA, "image_location,valence,mood\n", ["line 1", "mood"], "arousal"),
    (Task.VA, "image_location,arousal,valence\n", ["line 1"], "valence,arousal"),
    (Task.VA, VA, ["no rows"], "two numbers"),
    (Task.VA, VA + "a/00001.jpg,0,0\na/00002.jpg,0,x\n", ["line 3", "'x'"], "two numbers"),
    (Task.VA, VA + "a/00001.jpg,0,\n", ["line 2", "'' is not a number"], "two numbers"),
    (Task.VA, VA + "a/00001.jpg,0,nan\n", ["line 2", "nan is out of range"], "two numbers"),
    (Task.VA, VA + "a/00001.jpg,inf,0\n", ["line 2", "inf is out of range"], "two numbers"),
    (Task.VA, VA + "a/00001.jpg,0\n", ["line 2", "2 fields, not 3"], "two numbers"),
    (Task.VA, VA + "a/00001.jpg,0,0,0\n", ["line 2", "4 fields, not 3"], "two numbers"),
    (Task.VA, VA + "a/00001.jpg,0,0\n\na/00002.jpg,0,0\n", ["line 3", "blank"], "two numbers"),
    (Task.VA, VA + "a/00000.jpg,0,0\n", ["line 2", "'a/00000.jpg' names no"], "a/00001.jpg"),
    (Task.VA, VA + "a/1.jpg,0,0\n", ["line 2", "names no frame"], "video/00001.jpg"),
    (Task.VA, VA + "a/b/00001.jpg,0,0\n", ["line 2", "names no frame"], "video/00001.jpg"),
    (Task.VA, VA + "00001.jpg,0,0\n", ["line 2", "names no frame"], "video/00001.jpg"),
    (Task.VA, VA + "a/99999999999.jpg,0,0\n", ["line 2", "names no"], "video/00001.jpg"),
    (Task.VA, VA.encode() + b"\xff/00001.jpg,0,0\n", ["line 2", "not UTF-8"], "video/00001.jpg"),
    (Task.EXPR, EXPR + "a/00001.jpg,8\n", ["line 2", "8 is out of range"], "from 0 to 7"),
    (Task.EXPR, EXPR + "a/00001.jpg,-1\n", ["line 2", "-1 is out of range"], "from 0 to 7"),
    (Task.EXPR, EXPR + "a/00001.jpg,.5\n", ["line 2", "0.5 is out of range"], "from 0 to 7"),
    (
        Task.EXPR,
        EXPR + "a/00001.jpg,0\nb/00001.jpg" + ",0" * 8,
        ["line 3", "9 fields"],
        "one class",
    ),
    (Task.AU, AU + "a/00001.jpg" + ",0" * 11 + ",1.5\n", ["line 2", "1.5 is out"], "0 to 1"),
    (Task.AU, AU + "a/00001.jpg" + ",-1" * 12 + "\n", ["line 2", "-1 is out"], "0 to 1"),
]


@pytest.mark.parametrize(("task", "content", "got", "allowed"), WRONG)
def test_wrong_content_is_told_with_its_line(
    tmp_path: Path, task: Task, content: str | bytes, got: list[str], allowed: str
) -> None:
    path = write(tmp_path, content)
    with pytest.raises(DataError) as caught:
        read_predictions(path, task)
    for part in (str(path), *got):
        assert part in caught.value.got
    assert allowed.removeprefix("a/") in caught.value.allowed


def test_rows_given_twice_are_all_told(tmp_path: Path) -> None:
    lines = ["a/00002.jpg,0,0", "a/00001.jpg,0,0", "a/00002.jpg,1,1", "a/00002.jpg,0,0"]
    with pytest.raises(DataError) as caught:
        read_predictions(write(tmp_path, VA + "\n".join(lines)), Task.VA)
    assert "2 problems" in caught.value.got
    assert "line 4: a second row for a/00002.jpg" in caught.value.got
    assert "line 5: a second row for a/00002.jpg" in caught.value.got


def test_wrong_values_and_places_are_listed_together_and_at_most_ten(tmp_path: Path) -> None:
    lines = [f"a/{n:05d}.jpg,0,nan" for n in range(1, 12)] + ["a/00000.jpg,0,0"]
    with pytest.raises(DataError) as caught:
        read_predictions(write(tmp_path, VA + "\n".join(lines)), Task.VA)
    assert "12 problems" in caught.value.got
    assert "2 more" in caught.value.got


def test_a_file_of_another_task_or_kind_is_called_so(tmp_path: Path) -> None:
    path = write(tmp_path, VA + "a/00001.jpg,0,0\n")
    with pytest.raises(DataError, match="this is a VA file") as caught:
        read_predictions(path, Task.AU)
    assert f"raffect evaluate va {path} ..." in caught.value.next_step
    with pytest.raises(DataError, match="an annotation file of expr") as caught:
        read_predictions(write(tmp_path, SPECS[Task.EXPR].header + "\n0\n"), Task.EXPR)
    assert "--annotations" in caught.value.next_step


def test_what_is_no_file_or_too_large_is_refused_unread(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a file"):
        read_predictions(Path("/dev/zero"), Task.VA)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="it is a pipe"):
        read_predictions(tmp_path / "pipe", Task.VA)
    path = write(tmp_path, VA)
    os.truncate(path, 10 * 2**30)
    with pytest.raises(DataError, match="10,737,418,240 bytes"):
        read_predictions(path, Task.VA)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_predictions(tmp_path / "none.csv", Task.VA)
