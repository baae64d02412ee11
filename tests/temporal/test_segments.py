import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raffect.affwild2.labels import VideoLabels
from raffect.affwild2.tasks import Split, Task
from raffect.config import SegmentConfig
from raffect.temporal.segments import index_segments, segment_starts
from raffect.temporal.timelines import NO_ROW, build_timelines, fill_rows


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (1, [0]),
        (299, [0]),
        (300, [0]),
        (301, [0, 1]),
        (500, [0, 200]),
        (501, [0, 200, 201]),
        (700, [0, 200, 400]),
        (899, [0, 200, 400, 599]),
    ],
)
def test_the_last_segment_ends_at_the_tail(length, expected):
    assert segment_starts(length, 300, 200).tolist() == expected


@given(st.integers(1, 400), st.integers(1, 60), st.data())
def test_segments_cover_every_frame_with_as_few_as_the_stride_allows(length, window, data):
    stride = data.draw(st.integers(1, window))
    starts = segment_starts(length, window, stride)
    covered = np.zeros(max(length, window), dtype=int)
    for start in starts:
        covered[start : start + window] += 1
    assert (covered[:length] > 0).all()
    assert starts[0] == 0
    assert (np.diff(starts) > 0).all()
    assert (np.diff(starts) <= stride).all()
    # Without the last one, the tail would be uncovered.
    if len(starts) > 1:
        assert starts[-2] + window < length
        assert starts[-1] + window == length
    assert len(starts) == 1 + -(-max(0, length - window) // stride)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=6))
def test_segments_of_several_videos_stay_inside_their_video(lengths):
    labels = {
        str(i): VideoLabels(str(i), Split.TRAIN, np.zeros((n, 2), np.float32), np.ones(n, bool))
        for i, n in enumerate(lengths)
    }
    timelines = build_timelines(list(labels), {}, {Task.VA: labels})
    segments = index_segments(timelines, SegmentConfig(window=8, stride=5))
    owner = np.searchsorted(timelines.offsets, segments.start, side="right") - 1
    assert (segments.real >= 1).all()
    assert (segments.start + segments.real <= timelines.offsets[owner + 1]).all()
    covered = np.zeros(timelines.frames, dtype=int)
    for start, real in zip(segments.start, segments.real, strict=True):
        covered[start : start + real] += 1
    assert (covered > 0).all()


@pytest.mark.parametrize(
    ("frames", "rows", "length", "used", "present"),
    [
        ([3, 5], [10, 11], 6, [10, 10, 10, 10, 11, 11], [0, 0, 1, 0, 1, 0]),
        ([5, 3], [11, 10], 6, [10, 10, 10, 10, 11, 11], [0, 0, 1, 0, 1, 0]),
        ([1, 2, 3], [0, 1, 2], 3, [0, 1, 2], [1, 1, 1]),
        ([], [], 2, [NO_ROW, NO_ROW], [0, 0]),
    ],
)
def test_a_missing_crop_uses_the_earlier_one_or_else_the_next(frames, rows, length, used, present):
    row, own = fill_rows(np.array(frames, int), np.array(rows, int), length)
    assert row.tolist() == used
    assert own.tolist() == [bool(x) for x in present]


def labels_of(video, lines):
    values = np.arange(2 * lines, dtype=np.float32).reshape(lines, 2) / 100
    return VideoLabels(video, Split.TRAIN, values, np.ones(lines, bool))


def test_a_timeline_is_as_long_as_the_annotation_or_the_last_crop():
    crops = {"a": (np.array([1, 2]), np.array([0, 1])), "b": (np.array([4]), np.array([2]))}
    labels = {"a": labels_of("a", 3), "b": labels_of("b", 2), "c": labels_of("c", 1)}
    timelines = build_timelines(["a", "b", "c"], crops, {Task.VA: labels})
    assert timelines.lengths.tolist() == [3, 4, 1]
    assert timelines.labels[Task.VA].valid.tolist() == [1, 1, 1, 1, 1, 0, 0, 1]
    assert timelines.labels[Task.VA].values[3:7].tolist() == [
        *labels["b"].values.tolist(),
        [-5, -5],
        [-5, -5],
    ]
    assert timelines.row.tolist() == [0, 1, 1, 2, 2, 2, 2, NO_ROW]
    assert timelines.present.tolist() == [1, 1, 0, 0, 0, 0, 1, 0]


def test_a_video_without_labels_of_a_task_is_invalid_there():
    labels = {Task.VA: {"a": labels_of("a", 3)}, Task.EXPR: {}}
    timelines = build_timelines(["a"], {}, labels)
    assert not timelines.labels[Task.EXPR].valid.any()
    assert (timelines.labels[Task.EXPR].values == -1).all()


def test_splitting_gives_one_view_per_video():
    labels = {"a": labels_of("a", 3), "b": labels_of("b", 2)}
    timelines = build_timelines(["a", "b"], {}, {Task.VA: labels})
    assert [part.tolist() for part in timelines.split(np.arange(5))] == [[0, 1, 2], [3, 4]]
