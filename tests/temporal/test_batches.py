import numpy as np
import torch

from raffect.affwild2.labels import VideoLabels
from raffect.affwild2.tasks import Split, Task
from raffect.config import SegmentConfig
from raffect.temporal.batches import DeviceTimelines
from raffect.temporal.segments import index_segments
from raffect.temporal.timelines import build_timelines

CPU = torch.device("cpu")


def device_timelines(features, crops, labels):
    return DeviceTimelines(features, build_timelines(list(labels), crops, {Task.AU: labels}), CPU)


def test_a_batch_holds_the_rows_labels_and_masks_of_its_frames():
    features = np.arange(20, dtype=np.float16).reshape(10, 2)
    long = np.zeros((6, 12), np.float32)
    long[2, 3] = -1
    short = np.ones((2, 12), np.float32)
    labels = {
        "a": VideoLabels("a", Split.TRAIN, long, (long != -1).all(axis=1)),
        "b": VideoLabels("b", Split.TRAIN, short, np.ones(2, bool)),
    }
    crops = {"a": (np.array([1, 2, 4, 5, 6]), np.arange(5)), "b": (np.array([2]), np.array([7]))}
    resident = device_timelines(features, crops, labels)
    segments = index_segments(resident.timelines, SegmentConfig(window=4, stride=4))
    batch = resident.gather(segments, (Task.AU,))

    assert batch.x.dtype == torch.float32
    assert batch.x[0].tolist() == features[[0, 1, 1, 2]].tolist()
    assert batch.x[1].tolist() == features[[1, 2, 3, 4]].tolist()
    assert batch.x[2, :2].tolist() == features[[7, 7]].tolist()
    assert batch.present[:2].tolist() == [[1, 1, 0, 1], [0, 1, 1, 1]]
    assert batch.real.tolist() == [[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 0, 0]]
    # An AU frame with one unknown unit still trains the others; padding trains nothing.
    assert batch.known[Task.AU][0].sum(dim=1).tolist() == [12, 12, 11, 12]
    assert batch.known[Task.AU][2].sum(dim=1).tolist() == [12, 12, 0, 0]


def test_a_video_without_any_crop_has_zero_features():
    labels = {"a": VideoLabels("a", Split.TRAIN, np.zeros((5, 12), np.float32), np.ones(5, bool))}
    for rows in (0, 3):
        resident = device_timelines(np.ones((rows, 2), np.float16), {}, labels)
        segments = index_segments(resident.timelines, SegmentConfig(window=5, stride=5))
        batch = resident.gather(segments)
        assert batch.real is None
        assert not batch.x.any()
        assert not batch.present.any()


def test_read_only_arrays_are_neither_copied_nor_warned_about(recwarn):
    features = np.ones((3, 2), np.float16)
    features.setflags(write=False)
    labels = {"a": VideoLabels("a", Split.TRAIN, np.zeros((5, 12), np.float32), np.ones(5, bool))}
    resident = device_timelines(features, {"a": (np.arange(3) + 1, np.arange(3))}, labels)
    assert resident.features.tensors[0].data_ptr() == features.ctypes.data
    assert not recwarn.list
