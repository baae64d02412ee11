"""The facts of the tasks, and how users and files name things."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raffect.affwild2.predictions import VideoPredictions, read_predictions, write_predictions
from raffect.affwild2.tasks import (
    SPECS,
    Split,
    Task,
    crop_name,
    image_location,
    name_fault,
    parse_split,
    parse_task,
    source_of,
)
from raffect.errors import SettingsError


@pytest.mark.parametrize(
    ("task", "outputs", "width"), [("va", 2, 2), ("expr", 8, 1), ("au", 12, 12)]
)
def test_outputs_and_labels(task: str, outputs: int, width: int):
    spec = SPECS[parse_task(task)]
    assert (spec.outputs, spec.label_width) == (outputs, width)
    assert spec.header.count(",") == outputs - 1


@pytest.mark.parametrize(
    ("task", "rows", "valid"),
    [
        (Task.VA, [[0.1, -0.2], [-5, -5], [0.3, -5], [-1, 1]], [True, False, False, True]),
        (Task.EXPR, [[0], [-1], [7]], [True, False, True]),
        (Task.AU, [[0] * 12, [1] * 11 + [-1], [-1] * 12], [True, False, False]),
    ],
)
def test_a_row_with_any_invalid_value_is_not_scored(task: Task, rows: list, valid: list[bool]):
    assert SPECS[task].valid(np.array(rows, dtype=np.float32)).tolist() == valid


@pytest.mark.parametrize(
    ("video", "source"),
    [
        ("28-30-1280x720-1", "28-30-1280x720-1"),
        ("10-30-1280x720_left", "10-30-1280x720"),
        ("10-30-1280x720_right", "10-30-1280x720"),
        ("video10_1", "video10_1"),
        ("video10_1_right", "video10_1"),
        ("left_right_hand", "left_right_hand"),
        ("_left", "_left"),
    ],
)
def test_only_a_final_side_is_a_subject(video: str, source: str):
    assert source_of(video) == source


@pytest.mark.parametrize(
    ("frame", "name"), [(1, "00001.jpg"), (99999, "99999.jpg"), (100000, "100000.jpg")]
)
def test_crop_names(frame: int, name: str):
    assert crop_name(frame) == name
    assert image_location("v_left", frame) == f"v_left/{name}"


def test_names_are_taken_in_any_case():
    assert parse_task("AU") is Task.AU
    assert parse_split("Validation") is Split.VALIDATION


def test_an_unknown_split_is_refused():
    with pytest.raises(SettingsError, match="train, validation"):
        parse_split("test")


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("28-30-1280x720-1", None),
        ('José\'s [take 2] "ü" 日本', None),
        ("caf\udce9", "not UTF-8"),
        ("a,b", "comma"),
        ("a\nb", "line end"),
        ("a\x85b", "control"),
        ("a\u2028b", "line end"),
        (" a", "space"),
        ("a\u00a0", "space"),
    ],
)
def test_names_that_no_video_can_have(name: str, fault: str | None):
    found = name_fault(name)
    assert found is None if fault is None else fault in str(found)


@given(st.text(st.characters(exclude_characters="/\0"), min_size=1))
def test_a_name_without_fault_comes_back_from_a_predictions_file(name: str):
    if name_fault(name) is None:
        one = VideoPredictions(name, np.array([1], np.int32), np.array([[0.5, -0.5]]))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "p.csv"
            write_predictions(path, Task.VA, [one])
            [(read, predictions)] = read_predictions(path, Task.VA).items()
        assert read == predictions.video == name
