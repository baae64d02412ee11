"""Which weights stay, without an engine; test_hands_run.py has it in a sweep."""

from __future__ import annotations

import pytest

from raffect.store import FileEntry, Store
from raffect.store.layout import REMOVED
from raffect.sweep.keeping import Keeper, removable, without_removed
from raffect.sweep.records import TrialFacts, TrialRow
from tests.sweep import tiny
from tests.sweep.drivers import epochs, open_driver, rows

SCORES = (0.3, 0.5, 0.1, None, 0.5, 0.4)
"""One failed."""


def finished(store: Store) -> list[TrialRow]:
    study = open_driver(store, len(SCORES), tiny.base(), pruning="none")
    for number, score in enumerate(SCORES):
        study.next()
        entries = []
        for name in ("model.safetensors", "metrics.json"):
            store.write_bytes(f"sweeps/s/trials/{number:05d}/{name}", b"x")
            entries.append(FileEntry.of(f"trials/{number:05d}/{name}", b"x"))
        facts = TrialFacts(files=tuple(entries))
        if score is None:
            study.fail(number, "nan", epochs(0.9), facts)
        else:
            study.complete(number, epochs(score), facts)
    return rows(store)


def weights(store: Store) -> list[int]:
    keys = store.files("sweeps/s/trials")
    return [int(key.split("/")[3]) for key in keys if key.endswith("model.safetensors")]


@pytest.mark.parametrize(
    ("most", "kept"),
    [(1, [1]), (2, [1, 4]), (3, [1, 4, 5]), (9, [0, 1, 2, 4, 5]), (None, [0, 1, 2, 3, 4, 5])],
)
def test_the_best_keep_their_weights(store: Store, most: int | None, kept: list[int]) -> None:
    found = finished(store)
    keeper = Keeper(store, "s", most)
    for row in found:
        keeper.take(row)
        assert removable(store, "s", found[: row.number + 1], most) == []
    assert weights(store) == kept
    files = store.files("sweeps/s/trials")
    assert sum(key.endswith("metrics.json") for key in files) == len(SCORES)
    assert sum(key.endswith(REMOVED) for key in files) == len(SCORES) - len(kept)
    for row in found:
        names = [str(entry["name"]) for entry in without_removed(row, files)]
        assert all(store.exists(f"sweeps/s/{name}") for name in names)
        assert len(names) == 1 + (row.number in kept)


def test_a_later_command_may_keep_fewer(store: Store) -> None:
    found = finished(store)
    assert {row.number for row in removable(store, "s", found, 2)} == {0, 2, 3, 5}
    for row in removable(store, "s", found, 2):
        Keeper(store, "s", 2).remove(row)
    assert weights(store) == [1, 4]
    assert removable(store, "s", found, 4) == []
