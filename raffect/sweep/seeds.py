"""Scores of a trial's configuration under several seeds, as `raffect retrain` finds them."""

from __future__ import annotations

from raffect.store import Store, sweep_folder

SEEDS = "seeds"


def seed_key(sweep: str, number: int, seed: int) -> str:
    """The store's key of one score."""
    return f"{sweep_folder(sweep)}/{SEEDS}/{number:05d}/{seed}.json"


def write_seed(store: Store, sweep: str, number: int, seed: int, score: float) -> None:
    """Keep a score."""
    store.write_json(seed_key(sweep, number, seed), {"score": score})


def read_seeds(store: Store, sweep: str) -> dict[int, dict[int, float]]:
    """Scores by trial and seed."""
    found: dict[int, dict[int, float]] = {}
    for key in store.files(f"{sweep_folder(sweep)}/{SEEDS}"):
        number, seed = key.removesuffix(".json").split("/")[-2:]
        found.setdefault(int(number), {})[int(seed)] = float(store.read_json(key)["score"])
    return found
