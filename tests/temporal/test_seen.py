"""Which validation videos an encoder was fine-tuned on, counted on a tree written by hand."""

from __future__ import annotations

import numpy as np
import pytest

from raffect.affwild2.folds import load_fold
from raffect.affwild2.labels import VideoLabels, labels_file
from raffect.affwild2.labels import to_parquet as labels_to_parquet
from raffect.affwild2.tasks import Split, Task, source_of
from raffect.store import DATASET, Store, encoder_folder, features_folder
from raffect.store.manifest import make_manifest, write_manifest
from raffect.temporal.data import load_sources
from raffect.temporal.seen import describe_seen, find_seen

T, V = Split.TRAIN, Split.VALIDATION
# EXPR trains on a, b_left, c and e; VA validates on a, b_right, d_left, e and f.
EXPR = {"a": T, "b_left": T, "c": T, "d": V, "e": T}
VA = {"a": V, "b_right": V, "c": T, "d_left": V, "e": V, "f": V, "g": T, "h": V}
UNLABELLED = {(Task.EXPR, "e"), (Task.VA, "h")}
"""Videos without a valid frame: not trained on, and not scored."""


@pytest.fixture
def dataset(store: Store) -> Store:
    for task in Task:
        labels = {}
        for name, split in {Task.EXPR: EXPR, Task.VA: VA}.get(task, {}).items():
            values = np.zeros((4, 2 if task is Task.VA else 1), np.float32)
            valid = np.full(4, (task, name) not in UNLABELLED)
            labels[name] = VideoLabels(name, split, values, valid)
        data = labels_to_parquet(task, labels)
        store.write_bytes(f"{DATASET}/{labels_file(task)}", data)
    write_manifest(store, DATASET, make_manifest("dataset", {}, {}, []))
    return store


def write(store: Store, encoder: str, tuned: bool, fold: str | None = None) -> dict[str, str]:
    """An encoder and its features of the same name; the sources of a model of them."""
    from raffect.store import read_manifest

    data = {DATASET: read_manifest(store, DATASET).digest()}
    config = {"fold": fold} if fold else {}
    made = make_manifest("encoder", config, data if tuned else {}, [])
    write_manifest(store, encoder_folder(encoder), made)
    sources = {**data, encoder_folder(encoder): made.digest()}
    features = make_manifest("features", {"encoder": encoder}, sources, [])
    write_manifest(store, features_folder(encoder), features)
    return load_sources(store, encoder)


def test_partners_of_a_trained_subject_count(dataset: Store):
    seen = find_seen(dataset, write(dataset, "clip", tuned=True), Task.VA, None)
    # a itself, and b_right by its partner; e has no valid EXPR label, h no valid VA label.
    assert seen == {"clip": (2, 5)}
    (line,) = describe_seen(seen, None)
    assert "2 of 5 validation videos were used to fine-tune the encoder 'clip'" in line
    assert "raffect finetune --name NEW --fold i/k" in line


def test_a_model_of_the_official_split_of_its_own_task_is_clean(dataset: Store):
    assert find_seen(dataset, write(dataset, "clip", tuned=True), Task.EXPR, None) == {}


def test_a_frozen_encoder_has_seen_nothing(dataset: Store):
    assert find_seen(dataset, write(dataset, "clip", tuned=False), Task.VA, None) == {}
    assert describe_seen({}, None) == []


def test_the_same_fold_is_clean_and_another_is_not(dataset: Store):
    sources = write(dataset, "clip", tuned=True, fold="1/2")
    assert find_seen(dataset, sources, Task.VA, "1/2") == {}
    held = {
        split: {source_of(n) for n, of in load_fold(dataset, Task.VA, "2/2").items()
                if of.split is split and of.valid.any()}
        for split in Split
    }  # fmt: skip
    tuned = {source_of(n) for n, of in load_fold(dataset, Task.EXPR, "1/2").items()
             if of.split is T and of.valid.any()}  # fmt: skip
    seen = find_seen(dataset, sources, Task.VA, "2/2")
    assert seen == {"clip": (len(held[V] & tuned), len(held[V]))}
    assert seen["clip"][0] > 0
    assert "--fold 2/2" in describe_seen(seen, "2/2")[0]


def test_what_can_not_be_known_is_not_told(dataset: Store):
    sources = write(dataset, "clip", tuned=True)
    # Another encoder has the name by now.
    write_manifest(dataset, encoder_folder("clip"), make_manifest("encoder", {}, {"x": "y"}, []))
    assert find_seen(dataset, sources, Task.VA, None) == {}
    dataset.delete(encoder_folder("clip"))
    assert find_seen(dataset, sources, Task.VA, None) == {}
