"""A tiny prepared store with features, a tiny base configuration, and a driver to be killed."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from raffect import interrupts
from raffect.affwild2.labels import VideoLabels, labels_file, to_parquet
from raffect.affwild2.tasks import SPECS, Split, Task
from raffect.config import TemporalConfig, recipe
from raffect.settings import override
from raffect.store import DATASET, Store, features_folder
from raffect.store import features as feature_files
from raffect.store.manifest import FileEntry, make_manifest, write_manifest

DIM = 8
SIZES = {
    "segments.window": 32,
    "segments.stride": 24,
    "model.tcn.depth": 1,
    "model.tcn.channels": (8,),
    "model.tcn.kernel": 3,
    "model.width": 8,
    "model.transformer.layers": 0,
    "model.transformer.heads": 2,
    "model.transformer.feedforward": 16,
    "model.head_hidden": 8,
    "optimiser.lr": 1e-3,
    "optimiser.batch_size": 8,
    "optimiser.epochs": 4,
    "run.device": "cpu",
}


def base(task: Task = Task.VA, **changes: Any) -> TemporalConfig:
    """A base configuration that trains in hundredths of a second; `a__b` stands for a.b."""
    dotted = {key.replace("__", "."): value for key, value in changes.items()}
    return override(recipe(task), {**SIZES, **dotted})


def fill(store: Store, tasks: tuple[Task, ...] = tuple(Task)) -> Store:
    """Labels of the tasks, and features that show them through noise."""
    rng = np.random.default_rng(0)
    latents = {f"v{i}": np.tanh(np.cumsum(rng.normal(0, 0.2, (60, 2)), axis=0)) for i in range(6)}
    splits = {name: Split.VALIDATION if name in ("v4", "v5") else Split.TRAIN for name in latents}
    entries = []
    for task in Task:
        labels = {}
        for name, latent in latents.items() if task in tasks else ():
            values = _labels(task, latent).astype(np.float32)
            values[3] = SPECS[task].invalid
            labels[name] = VideoLabels(name, splits[name], values, SPECS[task].valid(values))
        data = to_parquet(task, labels)
        store.write_bytes(f"{DATASET}/{labels_file(task)}", data)
        entries.append(FileEntry.of(labels_file(task), data))
    dataset = make_manifest("dataset", {}, {}, entries)
    write_manifest(store, DATASET, dataset)
    mix = rng.normal(0, 1, (2, DIM))
    rows = np.concatenate([latent @ mix for latent in latents.values()])
    rows = rows + rng.normal(0, 0.3, rows.shape)
    names = [name for name in latents for _ in range(60)]
    frames = np.tile(np.arange(1, 61, dtype=np.int32), len(latents))
    data = feature_files.to_parquet(names, frames, rows)
    store.write_bytes(f"{features_folder('clip')}/00000.parquet", data)
    counts = {"rows": len(rows), "dim": DIM}
    manifest = make_manifest(
        "features",
        {"encoder": "clip"},
        {DATASET: dataset.digest()},
        [FileEntry.of("00000.parquet", data)],
        counts,
    )
    write_manifest(store, features_folder("clip"), manifest)
    return store


def _labels(task: Task, latent: np.ndarray) -> np.ndarray:
    if task is Task.VA:
        return latent.copy()
    if task is Task.EXPR:
        return np.digitize(latent[:, :1], np.linspace(-0.9, 0.9, 7))
    return (latent[:, :1] > np.linspace(-0.5, 0.5, 12)).astype(float)


def drive(uri: str, space: str, trials: int) -> None:
    """Sweep in this process and say each event on a line."""
    from raffect.sweep.settings import SweepSettings
    from raffect.sweep.tune import tune

    settings = SweepSettings(
        trials=trials, space=space, concurrent=2, min_epochs=1, checkpoint_seconds=0
    )
    tune(
        Store(uri),
        Task.VA,
        "clip",
        "s",
        settings,
        base(),
        on_update=lambda p: print(p.event, p.trial, p.epoch, p.state, flush=True),
    )


if __name__ == "__main__":
    interrupts.install()
    try:
        drive(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    except KeyboardInterrupt:
        sys.exit(interrupts.exit_code())
