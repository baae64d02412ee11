import pickle
from dataclasses import replace

import numpy as np
import pytest

from raffect.affwild2.tasks import Split, Task, source_of
from raffect.errors import ConflictError, NotThereError, StoreError
from raffect.store import DATASET, Store
from raffect.store.manifest import make_manifest, write_manifest
from raffect.temporal.data import load_split, load_task_data
from raffect.temporal.rows import read_features
from tests.temporal.builders import Video, fill, make_video, small_videos


def test_each_crop_has_its_own_feature_in_its_own_frame(small_store):
    data = load_task_data(small_store, "clip", Task.VA)
    videos = {video.name: video for video in small_videos()}
    for timelines, split in ((data.train, "train"), (data.validation, "validation")):
        assert timelines.videos == tuple(sorted(v for v in videos if v.startswith(split)))
        for name, start in zip(timelines.videos, timelines.offsets, strict=False):
            video = videos[name]
            rows = timelines.row[start + video.frames - 1]
            expected = video.features.astype(np.float16)
            np.testing.assert_array_equal(data.features[rows], expected)
            assert timelines.present[start + video.frames - 1].all()
    assert data.train.present.sum() + data.validation.present.sum() == len(data.features)


def test_labels_lie_in_their_frames(small_store):
    data = load_task_data(small_store, "clip", Task.EXPR)
    videos = {video.name: video for video in small_videos()}
    labels = data.train.labels[Task.EXPR]
    for name, start, length in zip(
        data.train.videos, data.train.offsets, data.train.lengths, strict=False
    ):
        own = videos[name].labels[Task.EXPR]
        assert length == len(own.valid)
        here = slice(start, start + length)
        np.testing.assert_array_equal(labels.values[here], own.values)
        np.testing.assert_array_equal(labels.valid[here], own.valid)


def test_features_of_videos_outside_the_task_are_left_out(store):
    videos = small_videos()
    stranger = make_video("aaa-stranger", Split.TRAIN, 40, 99)
    del stranger.labels[Task.VA]
    fill(store, [stranger, *videos])
    data = load_task_data(store, "clip", Task.VA)
    assert "aaa-stranger" not in data.train.videos
    assert len(data.features) == sum(len(video.frames) for video in videos)
    assert "aaa-stranger" in load_task_data(store, "clip", Task.EXPR).train.videos


def test_auxiliary_labels_never_come_from_another_split(store):
    """A video may be in train of one task and in validation of another."""
    a, b, c, d = (make_video(name, Split.TRAIN, 30, i) for i, name in enumerate("abcd"))
    for video in (c, d):
        video.labels[Task.VA] = make_video(video.name, Split.VALIDATION, 30, 8).labels[Task.VA]
    b.labels[Task.EXPR] = make_video("b", Split.VALIDATION, 30, 5).labels[Task.EXPR]
    fill(store, [a, b, c, d])
    data = load_task_data(store, "clip", Task.VA, (Task.EXPR, Task.VA))
    assert data.train.videos == ("a", "b")
    labels = data.train.labels[Task.EXPR]
    assert labels.valid[:31].any()
    assert not labels.valid[31:].any()
    assert set(data.validation.labels) == {Task.VA}


def test_an_auxiliary_task_without_labels_of_the_training_videos_is_refused(store):
    videos = small_videos()
    for video in videos:
        if video.name.startswith("train"):
            del video.labels[Task.EXPR]
            unknown = video.labels[Task.AU]
            unknown.values[:] = -1
            unknown.valid[:] = False
    fill(store, videos)
    with pytest.raises(NotThereError, match=r"labels of expr, au for the videos of va"):
        load_task_data(store, "clip", Task.VA, (Task.EXPR, Task.AU))
    load_task_data(store, "clip", Task.VA)


def test_action_units_that_are_known_in_part_can_be_trained_on(store):
    """No frame of training has all twelve; the score's split has to."""
    videos = small_videos()
    for video in videos:
        if video.name.startswith("train"):
            video.labels[Task.AU].values[:, 7] = -1
            video.labels[Task.AU].valid[:] = False
    fill(store, videos)
    data = load_task_data(store, "clip", Task.AU)
    assert not data.train.labels[Task.AU].valid.any()
    assert (data.train.labels[Task.AU].values[:, 0] >= 0).any()


def test_a_video_without_any_crop_is_predicted_all_the_same(store):
    videos = small_videos()
    blind = make_video("validation-blind", Split.VALIDATION, 12, 5)
    object.__setattr__(blind, "frames", blind.frames[:0])
    object.__setattr__(blind, "features", blind.features[:0])
    fill(store, [*videos, blind])
    data = load_task_data(store, "clip", Task.VA)
    start = data.validation.offsets[data.validation.videos.index("validation-blind")]
    assert (data.validation.row[start : start + 13] == -1).all()


def test_the_data_survives_the_object_store_format(small_store):
    """Out-of-band buffers are what Ray shares without a copy."""
    data = load_task_data(small_store, "clip", Task.AU)
    buffers = []
    stream = pickle.dumps(data, protocol=5, buffer_callback=buffers.append)
    assert len(stream) < 4000
    assert pickle.loads(stream, buffers=buffers).digest == data.digest


def test_the_digest_follows_the_sources(small_store, tmp_path):
    first = load_task_data(small_store, "clip", Task.VA)
    assert load_task_data(small_store, "clip", Task.AU).digest == first.digest
    assert first.lineage["features"] == "clip"
    assert set(first.lineage["sources"]) == {"dataset", "features/clip"}
    other = Store(str(tmp_path / "other"))
    fill(other, small_videos()[1:])
    assert load_task_data(other, "clip", Task.VA).digest != first.digest


def test_missing_features_name_the_command_that_makes_them(small_store):
    with pytest.raises(NotThereError, match="raffect extract"):
        load_task_data(small_store, "dino", Task.VA)


def test_a_task_without_annotations_in_a_split_is_named(store):
    fill(store, [video for video in small_videos() if video.name.startswith("train")])
    with pytest.raises(NotThereError, match="no VA labels in validation"):
        load_task_data(store, "clip", Task.VA)
    with pytest.raises(NotThereError, match="Validation_Set"):
        load_split(store, "clip", Task.VA, Split.VALIDATION)


def test_features_of_a_dataset_that_was_replaced_are_refused(small_store):
    write_manifest(small_store, DATASET, make_manifest("dataset", {"new": 1}, {}, []))
    with pytest.raises(ConflictError, match="another dataset"):
        load_task_data(small_store, "clip", Task.VA)


def test_a_damaged_file_is_named(small_store):
    small_store.write_bytes("features/clip/00001.parquet", b"PAR1 no more")
    with pytest.raises(StoreError, match=r"00001\.parquet is damaged"):
        read_features(small_store, "clip", {"train-1"})


@pytest.mark.parametrize("auxiliary", [(), (Task.EXPR, Task.AU)])
def test_a_fold_holds_its_sources_out_of_every_task(store: Store, auxiliary: tuple[Task, ...]):
    videos = small_videos()
    # Subjects of one source in both official splits, and a video that only EXPR has labels of.
    videos[0] = rename(videos[0], "two_left")
    videos[5] = rename(videos[5], "two_right")
    fill(store, videos)
    official = {name for split in Split for name in _names(store, split)}
    held = []
    for number in (1, 2, 3):
        data = load_task_data(store, "clip", Task.VA, auxiliary, f"{number}/3")
        train = {source_of(name) for name in data.train.videos}
        validation = {source_of(name) for name in data.validation.videos}
        assert not train & validation
        assert {*data.train.videos, *data.validation.videos} == official
        assert set(data.train.labels) == {Task.VA, *auxiliary}
        _, timelines = load_split(store, "clip", Task.VA, Split.VALIDATION, f"{number}/3")
        assert timelines.videos == data.validation.videos
        held += data.validation.videos
    assert sorted(held) == sorted(official)


def _names(store: Store, split: Split) -> tuple[str, ...]:
    return load_split(store, "clip", Task.VA, split)[1].videos


def rename(video: Video, name: str) -> Video:
    labels = {task: replace(of, video=name) for task, of in video.labels.items()}
    return replace(video, name=name, labels=labels)
