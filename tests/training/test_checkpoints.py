import hashlib
import json

import pytest
import torch
from safetensors.torch import save

from raffect.training.checkpoints import CheckpointFolder, pack_state, unpack_state

FOLDER = "models/va/checkpoint"


class Counter:
    """Something with a state to keep."""

    def __init__(self, epoch=0):
        self.epoch = epoch

    def save(self):
        return pack_state({"model": {"w": torch.ones(3)}}, {"epoch": self.epoch})

    def restore(self, state):
        groups, facts = unpack_state(state)
        assert groups["model"]["w"].tolist() == [1, 1, 1]
        self.epoch = facts["epoch"]


@pytest.fixture
def checkpoints(store):
    return CheckpointFolder(store, FOLDER)


def restored(checkpoints):
    counter = Counter()
    assert checkpoints.restore_latest(counter) == (counter.epoch > 0)
    return counter.epoch


def test_nothing_to_restore(checkpoints):
    counter = Counter(7)
    assert not checkpoints.restore_latest(counter)
    assert counter.epoch == 7


def test_the_newest_is_restored_and_older_ones_are_gone(checkpoints, store):
    for epoch in (1, 2, 10):
        checkpoints.save(Counter(epoch))
    assert restored(checkpoints) == 10
    (name,) = store.names(FOLDER)
    assert name.startswith("epoch-00010-")
    assert restored(CheckpointFolder(store, FOLDER)) == 10
    again = CheckpointFolder(store, FOLDER)
    again.save(Counter(11))
    assert len(store.names(FOLDER)) == 1


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data[:-1] + b"x"])
def test_a_changed_one_is_never_taken(checkpoints, store, damage):
    checkpoints.save(Counter(1))
    (first,) = store.files(FOLDER)
    kept = store.read_bytes(first)
    checkpoints.save(Counter(2))
    (second,) = store.files(FOLDER)
    store.write_bytes(first, kept)
    store.write_bytes(second, damage(store.read_bytes(second)))
    assert restored(CheckpointFolder(store, FOLDER)) == 1


def leave_old(store, epoch):
    """A checkpoint as raffect before 0.5 wrote them."""
    files = {
        "state.safetensors": save({"model//w": torch.ones(3)}),
        "state.json": json.dumps({"groups": ["model"], "epoch": epoch}).encode(),
    }
    for name, data in files.items():
        store.write_bytes(f"{FOLDER}/epoch-{epoch:05d}/{name}", data)
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    store.write_json(f"{FOLDER}/epoch-{epoch:05d}/whole.json", hashes)


def test_one_of_an_older_raffect_is_gone_on_from_and_replaced(checkpoints, store):
    leave_old(store, 3)
    assert restored(checkpoints) == 3
    checkpoints.save(Counter(4))
    assert len(store.files(FOLDER)) == 1
    assert restored(checkpoints) == 4


@pytest.mark.parametrize("lost", ["whole.json", "state.json", "state.safetensors"])
def test_a_half_written_one_of_an_older_raffect_is_never_taken(checkpoints, store, lost):
    for epoch in (1, 2):
        leave_old(store, epoch)
    store.delete(f"{FOLDER}/epoch-00002/{lost}")
    assert restored(checkpoints) == 1


def test_a_new_folder_is_not_looked_into(store, monkeypatch):
    monkeypatch.setattr(store, "names", lambda folder: pytest.fail("was listed"))
    checkpoints = CheckpointFolder(store, FOLDER, is_new=True)
    assert restored(checkpoints) == 0
    checkpoints.clear()
    for epoch in (1, 2):
        checkpoints.save(Counter(epoch))
    assert restored(checkpoints) == 2
    checkpoints.clear()
    monkeypatch.undo()
    assert store.names(FOLDER) == []


def test_clear_leaves_nothing(checkpoints, store):
    checkpoints.save(Counter(1))
    checkpoints.clear()
    assert store.files(FOLDER) == []
    checkpoints.clear()
