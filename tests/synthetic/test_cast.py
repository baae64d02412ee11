from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest

from raffect.affwild2.tasks import SPECS, Split, Task, source_of
from raffect.synthetic.cast import IMAGE_ROOTS, cast


@pytest.mark.parametrize(
    ("videos", "frames"), [(6, 16), (7, 100), (40, 200), (48, 240), (161, 50)]
)
def test_every_cast_has_what_a_pipeline_needs(videos: int, frames: int) -> None:
    clips = cast(videos, frames, seed=1)
    assert len({clip.video for clip in clips}) == len(clips) == videos
    assert {clip.image_root for clip in clips} == set(IMAGE_ROOTS)
    sides = Counter((task, split) for clip in clips for task, split in clip.splits.items())
    assert all(sides[task, split] for task in Task for split in Split)
    assert all(clip.present.any() for clip in clips)
    assert all(clip.lines - clip.frames in (0, 1) for clip in clips)


def test_lengths_spread_like_the_real_ones() -> None:
    clips = cast(48, 240, seed=0)
    lengths = np.array([clip.frames for clip in clips])
    assert lengths.min() == 30
    assert lengths.max() == 720
    assert np.median(lengths) == pytest.approx(240, rel=0.1)
    assert lengths.sum() == pytest.approx(48 * 240 * 1.1, rel=0.08)


def test_two_or_three_percent_of_the_crops_are_missing() -> None:
    clips = cast(200, 240, seed=0)
    alone = [clip for clip in clips if not clip.away]
    missing = 1 - np.concatenate([clip.present for clip in alone]).mean()
    assert 0.02 < missing < 0.035


def test_names_have_the_real_forms_and_subjects() -> None:
    names = {clip.video for clip in cast(48, 240, seed=0)}
    for form in (r"\d+-30-1280x720", r"\d+-30-1280x720-1", r"video\d+", r"video\d+_1", r"4\d+"):
        assert any(re.fullmatch(form, name) for name in names), form
    doubled = Counter(source_of(name) for name in names)
    assert sorted(doubled.values())[-2:] == [2, 2]


def test_subjects_of_one_source_share_length_root_and_side() -> None:
    clips = cast(48, 240, seed=0)
    for clip in clips:
        for other in clips:
            if source_of(clip.video) == source_of(other.video):
                assert clip.frames == other.frames
                assert clip.image_root == other.image_root
                shared = clip.splits.keys() & other.splits.keys()
                assert all(clip.splits[task] == other.splits[task] for task in shared)


def test_three_in_ten_videos_are_for_validation() -> None:
    clips = cast(200, 240, seed=0)
    for task in Task:
        sides = Counter(clip.splits[task] for clip in clips if task in clip.splits)
        assert 0.2 < sides[Split.VALIDATION] / sides.total() < 0.42


@pytest.mark.parametrize("task", list(Task))
def test_a_few_labels_become_invalid_and_the_rest_stay(task: Task) -> None:
    before, after = [], []
    for clip in cast(40, 200, seed=0):
        labels = np.ones((clip.lines, SPECS[task].label_width))
        corrupted = clip.corrupt(task, labels, np.random.default_rng(clip.index))
        assert (corrupted[: clip.away] == SPECS[task].invalid).all()
        before.append(labels)
        after.append(corrupted)
    assert all((labels == 1).all() for labels in before)
    rows = np.concatenate(after)
    assert set(np.unique(rows)) == {float(SPECS[task].invalid), 1.0}
    assert 0.01 < (~SPECS[task].valid(rows)).mean() < 0.08
