from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from raffect.affwild2.labels import VideoLabels, load_labels
from raffect.affwild2.tasks import Split, Task
from raffect.clip.finetune import batches_of
from raffect.clip.images import Preprocessing
from raffect.clip.ingest import UNUSED, WorkerFrames, choose_frames, find_rows, read_frames
from raffect.errors import DataError
from raffect.store import Store
from tests.clip.clip_data import FRAMES

SMALL = Preprocessing(8, 8, (0.0,) * 3, (1.0,) * 3)


def video(name: str, split: Split, values: list[int]) -> VideoLabels:
    column = np.array(values, np.float32)[:, None]
    return VideoLabels(name, split, column, column[:, 0] >= 0)


def test_the_stride_counts_valid_training_frames_only():
    labels = {
        "a": video("a", Split.TRAIN, [5, -1, 1, 2, 3, -1, 4]),
        "b": video("b", Split.VALIDATION, [-1, 1, 2]),
        "c": video("c", Split.TRAIN, [-1, -1]),
    }
    wanted = choose_frames(labels, 2)
    assert {k: v.tolist() for k, v in wanted.train.items()} == {"a": [5, -1, -1, 2, -1, -1, 4]}
    assert wanted.validation["b"].tolist() == [-1, 1, 2]
    assert wanted.class_counts().tolist() == [0, 0, 1, 0, 1, 1, 0, 0]


def test_a_split_without_labels_is_refused():
    with pytest.raises(DataError, match="validation"):
        choose_frames({"a": video("a", Split.TRAIN, [1])}, 1)
    with pytest.raises(DataError, match="train and validation") as caught:
        choose_frames({}, 1)
    assert "--set epochs=0" in caught.value.next_step
    assert "raffect extract --model" in caught.value.next_step


@pytest.mark.parametrize("encoded", [True, False])
def test_rows_find_their_labels_whatever_the_order(encoded: bool):
    names = pa.array(["b", "a", "a", "z", "b", "a"])
    table = pa.table(
        {"video": names.dictionary_encode() if encoded else names, "frame": [1, 2, 3, 1, 2, 1]}
    )
    labels = {"a": np.array([4, UNUSED], np.int8), "b": np.array([7, 6, 5], np.int8)}
    assert find_rows(table, labels).tolist() == [7, UNUSED, UNUSED, UNUSED, 6, 4]


def read(share: WorkerFrames, seed: int | None = None) -> list[tuple[int, bytes]]:
    """Rows of a share in the order of its batches."""
    rows: list[tuple[int, bytes]] = []
    options: dict[str, Any] = {} if seed is None else {
        "local_shuffle_buffer_size": 16, "local_shuffle_seed": seed
    }  # fmt: skip
    for batch in share.dataset.iter_torch_batches(batch_size=8, **options):
        images = batch["image"].numpy()
        rows += [(int(c), x.tobytes()) for c, x in zip(batch["label"], images, strict=True)]
    assert len(rows) == share.rows
    return rows


@pytest.mark.ray
def test_shares_are_disjoint_shuffled_and_the_same_every_time(ray_local: None, dataset: Store):
    wanted = choose_frames(load_labels(dataset, Task.EXPR), 1)
    usable = 8 * (FRAMES + 1 - 2) - 8
    shares = read_frames(dataset, wanted.train, SMALL, 3, seed=5)
    assert [share.rows for share in shares] == [usable // 3] * 3
    rows = [read(share, 1) for share in shares]
    pixels = [x for share in rows for _, x in share]
    assert len(set(pixels)) == len(pixels) == usable // 3 * 3
    again = [read(s, 1) for s in read_frames(dataset, wanted.train, SMALL, 3, seed=5)]
    assert rows == again
    assert read(shares[0], 2) != rows[0]
    assert sorted(read(shares[0], 2)) == sorted(rows[0])
    other = read(read_frames(dataset, wanted.train, SMALL, 3, seed=6)[0], 1)
    assert set(other) != set(rows[0])


@pytest.mark.ray
def test_validation_shares_hold_every_frame_once_with_its_label(ray_local: None, dataset: Store):
    labels = load_labels(dataset, Task.EXPR)
    wanted = choose_frames(labels, 4)
    shares = read_frames(dataset, wanted.validation, SMALL, 2, seed=None)
    rows = [row for share in shares for row in read(share)]
    expected = [
        int(v.values[i, 0])
        for v in labels.values()
        if v.split is Split.VALIDATION
        for i in range(FRAMES)
        if v.valid[i] and i != 6
    ]
    assert abs(shares[0].rows - shares[1].rows) <= 1
    assert sorted(label for label, _ in rows) == sorted(expected)
    # The crops' colours are those of their labels: image and label did not part.
    for label, pixels in rows:
        colour = np.frombuffer(pixels, np.uint8).reshape(-1, 3).mean(0) > 120
        assert label == 4 * colour[0] + 2 * colour[1] + colour[2]


@pytest.mark.ray
def test_workers_of_one_machine_decode_what_tasks_decode(ray_local: None, dataset: Store):
    wanted = choose_frames(load_labels(dataset, Task.EXPR), 1)

    def epoch(seed: int | None, here: bool, part: int = 0) -> list[tuple[int, bytes]]:
        share = read_frames(dataset, wanted.train, SMALL, 2, 5, here)[part]
        assert (share.preprocessing == SMALL) is here
        found = [
            (int(label), image.numpy().tobytes())
            for images, labels in batches_of(share, 16, seed)
            for image, label in zip(images, labels, strict=True)
        ]
        assert len(found) == share.rows
        return found

    assert epoch(None, here=True) == epoch(None, here=False)
    assert epoch(1, here=True) == epoch(1, here=True) != epoch(2, here=True)
    assert sorted(epoch(1, here=True, part=1)) == sorted(epoch(None, here=False, part=1))


@pytest.mark.ray
def test_more_workers_than_crops_are_refused(ray_local: None, dataset: Store):
    wanted = {"v00": np.array([3, 2] + [UNUSED] * 5, np.int8)}
    with pytest.raises(DataError, match="3 workers"):
        read_frames(dataset, wanted, SMALL, 3, seed=0)
