"""Names of what lies in a store; nobody else writes them."""

from __future__ import annotations

import re

from raffect.errors import SettingsError

DATASET = "dataset"
ENCODERS = "encoders"
FEATURES = "features"
MODELS = "models"
SWEEPS = "sweeps"

MANIFEST = "manifest.json"
PLAN = "plan.json"
PARTS = "parts"
"""Folder of notes on finished shards, kept until the manifest is written."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


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
    return f"{sweep_folder(sweep)}/trials/{number:05d}"


def check_name(name: str) -> str:
    """The name itself.

    Raises:
        SettingsError: It would not be one plain folder name on every file system.
    """
    if not _NAME.fullmatch(name):
        raise SettingsError(
            f"{name!r} can't be a name in the store.",
            "letters, digits, '.', '_' and '-', at most 100, starting with a letter or digit",
            "Choose another name.",
        )
    return name
