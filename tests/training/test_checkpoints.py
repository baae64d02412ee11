import pytest

from raffect.training.checkpoints import CheckpointFolder

FOLDER = "models/va/checkpoint"


class Counter:
    """Something with a state to keep."""

    def __init__(self, epoch=0):
        self.epoch = epoch

    def save(self):
        return {"a.txt": str(self.epoch).encode(), "b.txt": b"beside"}

    def restore(self, files):
        assert files["b.txt"] == b"beside"
        self.epoch = int(files["a.txt"])


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
    assert store.names(FOLDER) == ["epoch-00010"]


@pytest.mark.parametrize("lost", ["whole.json", "a.txt", "b.txt"])
def test_a_half_written_one_is_never_taken(checkpoints, store, lost):
    checkpoints.save(Counter(1))
    kept = {key: store.read_bytes(key) for key in store.files(FOLDER)}
    checkpoints.save(Counter(2))
    store.delete(f"{FOLDER}/epoch-00002/{lost}")
    for key, data in kept.items():
        store.write_bytes(key, data)
    assert restored(checkpoints) == 1


def test_a_changed_file_is_never_taken(checkpoints, store):
    checkpoints.save(Counter(1))
    store.write_bytes(f"{FOLDER}/epoch-00001/a.txt", b"5")
    assert restored(checkpoints) == 0


def test_clear_leaves_nothing(checkpoints, store):
    checkpoints.save(Counter(1))
    checkpoints.clear()
    assert store.files(FOLDER) == []
    checkpoints.clear()
