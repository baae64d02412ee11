from __future__ import annotations

import io
import itertools

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raffect.affwild2.labels import (
    VideoLabels,
    count_dataset,
    from_parquet,
    load_labels,
    runs,
    to_parquet,
)
from raffect.affwild2.tasks import SPECS, Split, Task
from raffect.errors import NotThereError
from raffect.store import DATASET, Stage, Store


def labels_of(task: Task, video: str, lines: int, split: Split = Split.TRAIN) -> VideoLabels:
    spec = SPECS[task]
    values = np.random.default_rng(lines).integers(-1, 2, (lines, spec.label_width))
    values = np.where(values < 0, spec.invalid, values).astype(np.float32)
    return VideoLabels(video, split, values, spec.valid(values))


@pytest.mark.parametrize("task", list(Task))
def test_labels_survive_the_store(store: Store, task: Task) -> None:
    videos = [
        labels_of(task, "b_left", 5),
        labels_of(task, "a", 3, Split.VALIDATION),
        labels_of(task, "b", 4),
    ]
    stage = Stage(store, DATASET, "dataset", {}, {})
    data = to_parquet(task, {video.video: video for video in videos})
    stage.finish([stage.write_part(f"labels/{task.value}.parquet", data)])
    loaded = load_labels(store, task)
    assert list(loaded) == ["a", "b", "b_left"]
    for video in videos:
        got = loaded[video.video]
        assert got.split is video.split
        assert got.values.dtype == np.float32
        np.testing.assert_array_equal(got.values, video.values)
        np.testing.assert_array_equal(got.valid, video.valid)


@pytest.mark.parametrize("task", list(Task))
def test_the_file_has_the_columns_that_others_read(task: Task) -> None:
    table = pq.read_table(io.BytesIO(to_parquet(task, {"a": labels_of(task, "a", 3)})))
    spec = SPECS[task]
    assert table.column_names == ["video", "split", "frame", *spec.label_columns, "valid"]
    types = [str(field.type) for field in table.schema]
    kind = {"float32": "float", "int8": "int8"}[spec.label_dtype]
    assert types[2:] == ["int32", *[kind] * spec.label_width, "bool"]
    assert table["frame"].to_pylist() == [1, 2, 3]
    assert table["split"].to_pylist() == ["train"] * 3


@pytest.mark.parametrize("task", list(Task))
def test_a_task_without_annotations_is_a_file_without_rows(task: Task) -> None:
    data = to_parquet(task, {})
    assert from_parquet(task, data) == {}
    assert pq.read_table(io.BytesIO(data)).num_columns == 4 + SPECS[task].label_width


def test_a_store_that_was_never_prepared_says_so(store: Store) -> None:
    with pytest.raises(NotThereError, match="prepare"):
        load_labels(store, Task.VA)


def test_counts_crops_on_valid_lines_only() -> None:
    values = np.float32([[0, 0], [-5, 0], [0, 0], [0, 0]])
    labels = VideoLabels("a", Split.TRAIN, values, SPECS[Task.VA].valid(values))
    # Frame 2 is invalid, frame 4 has no crop, frame 9 has no line; 'b' has no crop at all.
    other = VideoLabels("b", Split.TRAIN, values, SPECS[Task.VA].valid(values))
    crops = {"a": np.array([1, 2, 3, 9], np.int32)}
    found = count_dataset({Task.VA: {"a": labels, "b": other}}, crops, ["b/00001.jpg"])
    assert found["crops"] == {"readable": 4, "unreadable": ["b/00001.jpg"]}
    counts = found["labels"]
    expected = {"videos": 2, "frames": 8, "valid": 6, "valid_without_crop": 4}
    assert counts["va"]["train"] == expected
    assert counts["au"]["validation"] == dict.fromkeys(expected, 0)


@given(st.lists(st.integers(0, 2), max_size=20))
def test_runs_are_maximal_and_cover_all(codes: list[int]) -> None:
    found = runs(np.array(codes, dtype=np.int32))
    assert [i for start, stop in found for i in range(start, stop)] == list(range(len(codes)))
    for start, stop in found:
        assert len(set(codes[start:stop])) == 1
    for (start, stop), (following, _) in itertools.pairwise(found):
        assert stop == following
        assert codes[start] != codes[following]
