from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from raffect.affwild2.predictions import VideoPredictions, header_of, read_predictions
from raffect.affwild2.submission import example_lengths, write_submission
from raffect.affwild2.tasks import SPECS, Task
from raffect.errors import DataError


def predictions(video: str, frames: list[int], values: object) -> dict[str, VideoPredictions]:
    array = np.asarray(values, np.float64).reshape(len(frames), -1)
    return {video: VideoPredictions(video, np.array(frames, np.int32), array)}


def example(folder: Path, header: str, rows: list[str], newline: str = "\n") -> Path:
    path = folder / "example.txt"
    path.write_bytes((newline.join([header, *rows]) + newline).encode())
    return path


def submit(task: Task, ours: dict[str, VideoPredictions], path: Path) -> str:
    out = path.with_name("predictions.txt")
    rows = write_submission(task, ours, path, out)
    text = out.read_text()
    assert text.count("\n") == rows + 1
    return text


def test_golden_rows_of_valence_and_arousal(tmp_path: Path) -> None:
    values = [[0.5, -0.5], [np.float32(0.1), -1e-9], [1.5, -2], [1 / 3, 1e-5]]
    ours = predictions("2-30-640x360", [1, 2, 3, 4], values)
    path = example(
        tmp_path,
        "image_location,valence,arousal",
        [f"2-30-640x360/{n:05d}.jpg,0,0" for n in (1, 2, 3, 4)],
    )
    assert submit(Task.VA, ours, path) == (
        "image_location,valence,arousal\n"
        "2-30-640x360/00001.jpg,0.5,-0.5\n"
        "2-30-640x360/00002.jpg,0.1,0\n"
        "2-30-640x360/00003.jpg,1,-1\n"
        "2-30-640x360/00004.jpg,0.333333,0.00001\n"
    )


def test_golden_rows_of_expressions(tmp_path: Path) -> None:
    ours = predictions("14-30-1920x1080", [1, 2], np.eye(8)[[0, 7]] * 0.6)
    path = example(
        tmp_path,
        header_of(Task.EXPR),
        ["14-30-1920x1080/00001.jpg,", "14-30-1920x1080/00002.jpg,3"],
    )
    assert submit(Task.EXPR, ours, path) == (
        "image_location,Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise,Other\n"
        "14-30-1920x1080/00001.jpg,0\n"
        "14-30-1920x1080/00002.jpg,7\n"
    )


def test_golden_rows_of_action_units(tmp_path: Path) -> None:
    values = [0.5, 0.4999, 1, 0, 0.51, 0.1, 0.9, 0.2, 0.5, 0.3, 0.7, 0.49]
    path = example(tmp_path, header_of(Task.AU), ["a_left/00001.jpg"])
    assert submit(Task.AU, predictions("a_left", [1], values), path) == (
        "image_location,AU1,AU2,AU4,AU6,AU7,AU10,AU12,AU15,AU23,AU24,AU25,AU26\n"
        "a_left/00001.jpg,1,0,1,0,1,0,1,0,1,0,1,0\n"
    )


def test_rows_and_order_are_those_of_the_example(tmp_path: Path) -> None:
    ours = predictions("b", [1, 2, 3], [[0, 0.1], [0, 0.2], [0, 0.3]])
    ours |= predictions("a", [1, 100000], [[1, 0], [0.5, 0]])
    ours |= predictions("unasked", [1], [[0, 0]])
    rows = ["b/00003.jpg,0,0", "a/100000.jpg,0,0", "b/00001.jpg,0,0", "a/00001.jpg,0,0"]
    path = example(tmp_path, "image_location, valence, arousal", rows, newline="\r\n")
    assert submit(Task.VA, ours, path) == (
        "image_location, valence, arousal\n"
        "b/00003.jpg,0,0.3\na/100000.jpg,0.5,0\nb/00001.jpg,0,0.1\na/00001.jpg,1,0\n"
    )


@pytest.mark.parametrize("task", list(Task))
def test_a_submission_can_be_read_and_submitted_again(tmp_path: Path, task: Task) -> None:
    frames = list(range(1, 51))
    values = np.random.default_rng(0).random((50, SPECS[task].outputs))
    path = example(tmp_path, header_of(task), [f"a/{n:05d}.jpg" for n in frames])
    first = submit(task, predictions("a", frames, values), path)
    again = read_predictions(tmp_path / "predictions.txt", task)
    assert submit(task, again, path) == first


def test_rows_without_a_prediction_are_told_and_nothing_is_written(tmp_path: Path) -> None:
    rows = [f"a/{n:05d}.jpg" for n in range(1, 9)] + ["b/00001.jpg"]
    path = example(tmp_path, header_of(Task.VA), rows)
    out = tmp_path / "predictions.txt"
    with pytest.raises(DataError) as caught:
        write_submission(Task.VA, predictions("a", [2, 5], [[0, 0], [0, 0]]), path, out)
    assert "7 of 9 rows" in caught.value.got
    assert "a/00001.jpg" in caught.value.got
    assert "a/00002.jpg" not in caught.value.got
    assert not out.exists()
    with pytest.raises(DataError, match="9 of 9"):
        write_submission(Task.VA, {}, path, out)


@pytest.mark.parametrize(
    ("header", "rows", "told"),
    [
        (header_of(Task.EXPR), ["a/00001.jpg,0"], "line 1"),
        ("a/00001.jpg,0,0", ["a/00002.jpg,0,0"], "line 1"),
        (header_of(Task.VA), [], "no rows"),
        (header_of(Task.VA), ["a/00001.jpg,0,0", "a/frame.jpg,0,0"], "line 3"),
        (header_of(Task.VA), ["a/00000.jpg,0,0"], "line 2"),
        (header_of(Task.VA), ["a/00001.jpg", "", "a/00002.jpg"], "line 3"),
    ],
)
def test_a_wrong_example_is_refused(
    tmp_path: Path, header: str, rows: list[str], told: str
) -> None:
    path = example(tmp_path, header, rows)
    with pytest.raises(DataError, match=told) as caught:
        write_submission(Task.VA, {}, path, tmp_path / "out.txt")
    assert str(path) in caught.value.got
    assert not (tmp_path / "out.txt").exists()


def test_an_example_of_another_task_is_called_so(tmp_path: Path) -> None:
    path = example(tmp_path, header_of(Task.AU), ["a/00001.jpg"])
    with pytest.raises(DataError, match="this is the example of au") as caught:
        write_submission(Task.VA, {}, path, tmp_path / "out.txt")
    assert "Say au" in caught.value.next_step


def test_values_that_are_clipped_are_counted(tmp_path: Path) -> None:
    path = example(tmp_path, header_of(Task.VA), ["a/00001.jpg", "a/00002.jpg"])
    notes: list[str] = []
    values = predictions("a", [1, 2], [[1.5, 0], [-1, -1.0001]])
    write_submission(Task.VA, values, path, tmp_path / "out.txt", notes.append)
    assert notes == ["2 of 4 values lie outside [-1, 1] and are clipped."]


def test_an_example_of_absurd_frames_is_refused(tmp_path: Path) -> None:
    path = example(tmp_path, header_of(Task.VA), ["a/00001.jpg", "b/999999999.jpg"])
    with pytest.raises(DataError, match=r"asks for b/999999999\.jpg"):
        example_lengths(Task.VA, path)


def test_a_missing_example_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        write_submission(Task.VA, {}, tmp_path / "none.txt", tmp_path / "out.txt")
