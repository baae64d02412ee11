"""The name of every folder and file that lies in a store."""

from __future__ import annotations

import re
from collections.abc import Iterable

from raffect.errors import SettingsError

# Folders directly below the store, in the order in which they are made from one another.
DATASET = "dataset"
ENCODERS = "encoders"
FEATURES = "features"
MODELS = "models"
SWEEPS = "sweeps"
GROUPS = (DATASET, ENCODERS, FEATURES, MODELS, SWEEPS)

# In the folder of every stage.
MANIFEST = "manifest.json"
PLAN = "plan.json"
PARTS = "parts"
"""Folder of notes on finished files, until the manifest is written."""

# In the dataset.
FRAMES = "frames"
LABELS = "labels"

# In the folder of an encoder, a model or a trial.
ENCODER_WEIGHTS = "encoder.safetensors"
MODEL_WEIGHTS = "model.safetensors"
CONFIG = "config.json"
METRICS = "metrics.json"
MEMBERS = "members"
"""Of an ensemble: the folders of the models that it averages."""
SUMS = "sums.parquet"
"""Per-video sums of the epochs that may be judged (affwild2/sums.py); since 0.4."""
REMOVED = "removed.json"
"""In place of a trial's weights that were removed (sweep/keeping.py)."""

# In those folders while they are being trained.
CHECKPOINT = "checkpoint"
ENGINE = "engine"
"""Ray Train's own folder of a run on several workers."""
FINETUNE_CHECKPOINTS = "train"
"""Where raffect 0.1 let Ray Train keep the checkpoints of fine-tuning."""
WHOLE = "whole.json"
"""Marks a checkpoint as complete; holds the hashes of its files."""
STATE_TENSORS = "state.safetensors"
STATE_FACTS = "state.json"

# In the folder of a sweep.
STUDY = "study"
LEASE = "lease"
TRIALS = "trials"
SEEDS = "seeds"
TENSORBOARD = "tensorboard"
REPORT = "report.html"
JUDGED = "judged.json"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def deletion_order(paths: Iterable[str]) -> list[list[str]]:
    """Files to delete in groups, one after the other.

    Manifests first: killed in between, none is left that declares files which are gone. Plans
    last: parts that are left are not taken for those of other settings.
    """
    groups: list[list[str]] = [[], [], []]
    for path in paths:
        name = path.rpartition("/")[2]
        groups[{MANIFEST: 0, PLAN: 2}.get(name, 1)].append(path)
    return [group for group in groups if group]


def encoder_folder(name: str) -> str:
    """Folder of an encoder in the store."""
    return f"{ENCODERS}/{check_name(name)}"


def features_folder(name: str) -> str:
    """Folder of a set of features in the store."""
    return f"{FEATURES}/{check_name(name)}"


def model_folder(name: str) -> str:
    """Folder of a trained model in the store."""
    return f"{MODELS}/{check_name(name)}"


def sweep_folder(name: str) -> str:
    """Folder of a sweep in the store."""
    return f"{SWEEPS}/{check_name(name)}"


def trial_folder(sweep: str, number: int) -> str:
    """Folder of one trial's model in the store."""
    return f"{sweep_folder(sweep)}/{TRIALS}/{number:05d}"


def check_name(name: str) -> str:
    """The name itself; SettingsError if it is not a plain folder name on every file system."""
    if not _NAME.fullmatch(name):
        raise SettingsError(
            f"{name!r} can't be a name in the store.",
            "letters, digits, '.', '_' and '-', at most 100, starting with a letter or digit",
            "Choose another name.",
        )
    return name
