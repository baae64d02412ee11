"""A store with one of everything, small, made by the stages themselves from a synthetic tree."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from raffect.affwild2.prepare import prepare
from raffect.affwild2.tasks import Task
from raffect.clip.encoder import build_encoder
from raffect.clip.extract import extract
from raffect.config import EncoderConfig, ExtractConfig
from raffect.predict.models import resolve_members
from raffect.store import Stage, Store, encoder_folder
from raffect.store.layout import CONFIG, ENCODER_WEIGHTS
from raffect.store.raw import RawFolder
from raffect.sweep.settings import SweepSettings
from raffect.sweep.tune import tune
from raffect.synthetic.tree import write_synthetic
from raffect.temporal.ensembling import make_ensemble
from raffect.temporal.import_features import import_features
from raffect.temporal.train import train
from raffect.training.checkpoints import tensor_bytes
from tests.sweep import tiny
from tests.sweep.sweeps import SPACE

TREE = "raw"
STORE = "store"
ARRAYS = "arrays"
SPACE_FILE = "space.py"
TASK = Task.VA


def draw(folder: Path) -> Path:
    """The tree alone, and the search space."""
    write_synthetic(folder / TREE, videos=8, frames=24)
    (folder / SPACE_FILE).write_text(SPACE, encoding="utf-8")
    return folder / TREE


def fill(folder: Path) -> Store:
    """Fill `folder/store` from `folder/raw`, unless it is there; Ray is connected."""
    store = Store(str(folder / STORE))
    if folder.joinpath(STORE).exists():
        return store
    raw = draw(folder)
    prepare(store, [raw / "cropped_aligned"], raw / "annotations")
    encoder = build_encoder(EncoderConfig(model="raffect-tiny", pretrained=None)).eval()
    stage = Stage(store, encoder_folder("clip"), "encoder", {}, {})
    files = {
        ENCODER_WEIGHTS: tensor_bytes(encoder.state_dict()),
        CONFIG: json.dumps(encoder.describe()).encode(),
    }
    stage.finish([stage.write_part(name, data) for name, data in files.items()])
    extract(store, "clip", "clip", ExtractConfig())
    (folder / ARRAYS).mkdir()
    rng = np.random.default_rng(0)
    for video in sorted((raw / "cropped_aligned").iterdir()):
        frames = np.array(sorted(int(crop.stem) for crop in video.glob("*.jpg")))
        np.save(folder / ARRAYS / f"{video.name}.frames.npy", frames)
        np.save(folder / ARRAYS / f"{video.name}.npy", rng.normal(size=(len(frames), 8)))
    import_features(store, RawFolder.of(folder / ARRAYS, "DIR"), "own")
    base = tiny.base(TASK, optimiser__epochs=3)
    train(store, base, "clip", "va")
    space = folder / SPACE_FILE
    settings = SweepSettings(trials=3, space=str(space), concurrent=1, min_epochs=1)
    tune(store, TASK, "clip", "va", settings, base)
    make_ensemble(store, "mean", resolve_members(store, ["va:0", "va:1"]), method="mean")
    return store
