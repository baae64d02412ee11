"""Scores of a trial's configuration under other seeds: a small file each (`raffect retrain`)."""

from __future__ import annotations

from raffect.store import Store, sweep_folder
from raffect.store.layout import SEEDS
from raffect.store.verified import read_sealed, reading, write_sealed


def write_seed(store: Store, sweep: str, number: int, seed: int, score: float) -> None:
    """Keep the score of a trial's configuration under another seed."""
    key = f"{sweep_folder(sweep)}/{SEEDS}/{number:05d}/{seed}.json"
    write_sealed(store, key, {"score": score})


def read_seeds(store: Store, sweep: str) -> dict[int, dict[int, float]]:
    """These scores by trial and seed."""
    found: dict[int, dict[int, float]] = {}
    for key in store.files(f"{sweep_folder(sweep)}/{SEEDS}"):
        number, seed = key.removesuffix(".json").split("/")[-2:]
        tree = read_sealed(store, key)
        with reading(store, key):
            found.setdefault(int(number), {})[int(seed)] = float(tree["score"])
    return found
