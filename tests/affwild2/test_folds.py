"""Folds: no source on two sides, alike in their labels, the same from the store and the tree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from raffect.affwild2.annotations import load_annotations
from raffect.affwild2.folds import (
    assign_folds,
    choose_fold,
    count_labels,
    load_fold,
    share_out,
    two_groups,
)
from raffect.affwild2.labels import VideoLabels, labels_file, to_parquet
from raffect.affwild2.tasks import SPECS, Fold, Split, Task, parse_fold, source_of
from raffect.errors import SettingsError
from raffect.store import DATASET, Store
from raffect.store.manifest import FileEntry, make_manifest, write_manifest
from tests.builders import RawTree

Labels = dict[Task, dict[str, VideoLabels]]


def random_labels(seed: int, sources: int, frames: int = 60) -> Labels:
    """Tasks, splits, lengths, subjects and labels at random; some frames invalid."""
    rng = np.random.default_rng(seed)
    labels: Labels = {task: {} for task in Task}
    for source in range(sources):
        names = [f"v{source}", f"v{source}_left", f"v{source}_right"]
        for name in rng.permutation(names)[: rng.choice([1, 1, 1, 2, 3])].tolist():
            length = int(rng.integers(1, frames))
            values = {
                Task.VA: rng.uniform(-1, 1, 2) + rng.normal(0, 0.1, (length, 2)),
                Task.EXPR: rng.choice(8, (length, 1), p=rng.dirichlet(np.ones(8) * 0.5)),
                Task.AU: rng.random((length, 12)) < rng.beta(0.3, 1, 12),
            }
            for task in map(Task, rng.permutation(list(Task))[: rng.integers(1, 4)].tolist()):
                own = values[task].clip(-1, 1 if task is Task.VA else 7).astype(np.float64)
                own[rng.random(length) < 0.1] = SPECS[task].invalid
                split = rng.choice(list(Split))
                valid = SPECS[task].valid(own)
                labels[task][name] = VideoLabels(name, Split(split), own, valid)
    return labels


def shuffled(labels: Labels) -> Labels:
    return {t: dict(reversed(list(of.items()))) for t, of in reversed(list(labels.items()))}


@given(st.integers(0, 10**6), st.integers(2, 6))
def test_no_source_is_on_two_sides_and_every_video_in_one_fold(seed: int, k: int):
    labels = random_labels(seed, sources=12)
    folds = assign_folds(labels, k)
    assert assign_folds(shuffled(labels), k) == folds
    assert set(folds.values()) <= set(range(1, k + 1))
    held: dict[str, set[int]] = {}
    for task in Task:
        for number in range(1, k + 1):
            try:
                chosen = choose_fold(labels, task, Fold(number, k))
            except SettingsError:
                continue
            assert set(chosen) == set(labels[task])
            sides: dict[Split, set[str]] = {split: set() for split in Split}
            for name, of in chosen.items():
                sides[of.split].add(source_of(name))
            assert not sides[Split.TRAIN] & sides[Split.VALIDATION]
            for source in sides[Split.VALIDATION]:
                held.setdefault(source, set()).add(number)
    # The same fold, whatever the task.
    assert all(numbers == {folds[source]} for source, numbers in held.items())


@pytest.mark.parametrize("k", [2, 5])
def test_folds_have_about_the_same_share_of_every_label(k: int):
    labels = random_labels(1, sources=300, frames=300)
    folds = assign_folds(labels, k)
    for task in Task:
        sums = np.zeros((k, len(count_labels(task, *_first(labels[task])))))
        for name, of in labels[task].items():
            sums[folds[source_of(name)] - 1] += count_labels(task, of.values, of.valid)
        # Means of valence and arousal, rather than their histograms, to check with other sums.
        if task is Task.VA:
            means = [
                np.concatenate(
                    [
                        of.values[of.valid]
                        for name, of in labels[task].items()
                        if folds[source_of(name)] == number
                    ]
                ).mean(axis=0)
                for number in range(1, k + 1)
            ]
            assert np.ptp(means, axis=0).max() < 0.05
        share = sums / sums.sum(axis=0) * k
        assert abs(share[:, 1] - 1).max() < 0.06, "frames"
        assert abs(share - 1).max() < 0.15, "labels"


def _first(videos: dict[str, VideoLabels]) -> tuple[np.ndarray, np.ndarray]:
    of = next(iter(videos.values()))
    return of.values, of.valid


def test_counts_by_hand():
    va = np.array([[0.1, -1], [1, 0.61], [-5, -5]])
    valid = SPECS[Task.VA].valid(va)
    assert count_labels(Task.VA, va, valid).tolist() == [1, 2, 0, 0, 1, 0, 1, 1, 0, 0, 0, 1]
    expr = np.array([[7], [-1], [0], [7]])
    counts = count_labels(Task.EXPR, expr, SPECS[Task.EXPR].valid(expr))
    assert counts.tolist() == [1, 3, 1, 0, 0, 0, 0, 0, 0, 2]
    au = np.array([[1] * 12, [0] * 11 + [-1], [0] * 11 + [1]])
    counts = count_labels(Task.AU, au, SPECS[Task.AU].valid(au))
    assert counts.tolist() == [1, 2] + [1] * 11 + [2]
    assert count_labels(Task.AU, au[:0], np.empty(0, bool)).tolist() == [0] * 14


def test_a_golden_sharing_out():
    """By hand: the largest first, each where least of what it brings is."""
    counts = {"b": [6, 0], "a": [6, 0], "c": [0, 3], "d": [2, 1], "e": [1, 0]}
    found = share_out({name: np.array(row) for name, row in counts.items()}, 2)
    # c (.75 of column 2) to 0; a to 1, as no part has any of column 1 and 1 is the emptier; b to
    # 0; d, of both columns, to 1, which has none of column 2; e to 0, which has less of column 1.
    assert found == {"c": 0, "a": 1, "b": 0, "d": 1, "e": 0}


def write_tree(folder: Path, labels: Labels) -> Path:
    tree = RawTree(folder)
    for task, videos in labels.items():
        for name, of in videos.items():
            form = "{:.6f}" if task is Task.VA else "{:.0f}"
            rows = [",".join(form.format(value) for value in row) for row in of.values]
            tree.annotate(task, of.split, name, rows)
    return tree.annotations


def write_labels(store: Store, labels: Labels) -> None:
    entries = []
    for task in Task:
        data = to_parquet(task, labels[task])
        store.write_bytes(f"{DATASET}/{labels_file(task)}", data)
        entries.append(FileEntry.of(labels_file(task), data))
    write_manifest(store, DATASET, make_manifest("dataset", {}, {}, entries))


@pytest.mark.parametrize("task", Task)
def test_the_store_and_the_annotation_tree_give_the_same_videos(
    store: Store, tmp_path: Path, task: Task
):
    labels = random_labels(5, sources=12, frames=12)
    # On the edge of a fifth of the range, where rounding to float32 decides.
    labels[Task.VA] = {
        name: VideoLabels(name, of.split, np.where(of.values > 0.2, 0.6, of.values), of.valid)
        for name, of in labels[Task.VA].items()
    }
    write_labels(store, labels)
    root = write_tree(tmp_path / "raw", labels)
    seen: list[str] = []
    for number in (1, 2, 3):
        stored = load_fold(store, task, f"{number}/3")
        names = {name for name, of in stored.items() if of.split is Split.VALIDATION}
        read = load_annotations(root, task, Split.VALIDATION, f"{number}/3")
        assert set(read) == names
        outside = load_annotations(root, task, Split.TRAIN, f"{number}/3")
        assert set(outside) == set(labels[task]) - names
        seen += names
    assert sorted(seen) == sorted(labels[task])
    official = load_fold(store, task, None)
    assert {n: of.split for n, of in official.items()} == {
        n: of.split for n, of in labels[task].items()
    }


@pytest.mark.parametrize("text", ["0/5", "6/5", "1/1", "1", "a/b", "1/5/5", "-1/5", "1.0/5", ""])
def test_a_fold_that_is_none_is_refused(text: str):
    with pytest.raises(SettingsError, match="no fold") as caught:
        parse_fold(text)
    assert "i/k" in caught.value.allowed


def test_a_fold_is_read_as_it_is_typed():
    assert parse_fold(" 2/10 ") == Fold(2, 10)
    assert str(Fold(2, 10)) == "2/10"


def test_more_folds_than_sources_are_refused():
    labels = random_labels(0, sources=4)
    with pytest.raises(SettingsError, match="4 source videos are annotated, too few for 5"):
        assign_folds(labels, 5)
    assert sorted(assign_folds(labels, 4).values()) == [1, 2, 3, 4]


def test_a_fold_without_a_valid_frame_of_the_task_is_refused():
    labels = random_labels(3, sources=6)
    (first, *_) = labels[Task.EXPR].values()
    labels[Task.EXPR] = {first.video: first}
    own = assign_folds(labels, 2)[source_of(first.video)]
    with pytest.raises(SettingsError, match=f"Outside of fold {own}/2 no frame .* EXPR"):
        choose_fold(labels, Task.EXPR, Fold(own, 2))
    with pytest.raises(SettingsError, match=f"In fold {3 - own}/2 no frame") as caught:
        choose_fold(labels, Task.EXPR, Fold(3 - own, 2))
    assert "1 source videos have" in caught.value.allowed


@given(st.integers(0, 10**6))
def test_two_groups_hold_every_source_once(seed: int):
    videos = random_labels(seed, sources=10)[Task.VA]
    names = sorted(videos)
    assume(len({source_of(name) for name in names if videos[name].valid.any()}) > 3)
    groups = two_groups(
        Task.VA, names, [videos[n].values for n in names], [videos[n].valid for n in names]
    )
    by_source: dict[str, set[int]] = {}
    for name, group in zip(names, groups.tolist(), strict=True):
        by_source.setdefault(source_of(name), set()).add(group)
    assert all(len(found) == 1 for found in by_source.values())
    assert {0, 1} == set.union(*by_source.values())


def test_too_few_videos_for_two_groups_are_refused():
    one = np.zeros((3, 2)), np.ones(3, bool)
    with pytest.raises(SettingsError, match="3 validation videos with valid VA labels, of 3"):
        two_groups(Task.VA, ["a", "b", "c"], [one[0]] * 3, [one[1]] * 3)
    names, invalid = ["a", "a_left", "a_right", "b"], np.zeros(3, bool)
    with pytest.raises(SettingsError, match="of 1 source"):
        two_groups(Task.VA, names, [one[0]] * 4, [one[1]] * 3 + [invalid])
