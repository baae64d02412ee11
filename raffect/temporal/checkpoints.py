"""Checkpoints of a run in the store: the last whole one is found, a half-written one never."""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Protocol

from raffect.store import Store

_MARKER = "whole.json"


class Saveable(Protocol):
    """What can be kept: a Trainer."""

    epoch: int

    def save(self, folder: Path) -> None:
        """Write all that is needed to go on into a local folder."""

    def restore(self, folder: Path) -> None:
        """Go on from what `save` wrote."""


class CheckpointFolder:
    """Checkpoints below one folder of the store, `epoch-00003/` and so on; the newest is kept.

    The marker with the files' hashes is written last, and the older checkpoint is deleted after
    that: at every moment one whole checkpoint is there.

    Args:
        store: The store.
        folder: The folder; nothing else may lie in it.
    """

    def __init__(self, store: Store, folder: str) -> None:
        self.store = store
        self.folder = folder

    def save(self, trainer: Saveable) -> None:
        """Keep the trainer's state, instead of earlier ones."""
        name = f"epoch-{trainer.epoch:05d}"
        target = f"{self.folder}/{name}"
        self.store.delete(f"{target}/{_MARKER}")
        hashes = {}
        with tempfile.TemporaryDirectory(prefix="raffect-") as local:
            trainer.save(Path(local))
            for path in sorted(Path(local).iterdir()):
                data = path.read_bytes()
                hashes[path.name] = hashlib.sha256(data).hexdigest()
                self.store.write_bytes(f"{target}/{path.name}", data)
        self.store.write_json(f"{target}/{_MARKER}", hashes)
        for other in self.store.names(self.folder):
            if other != name:
                self.store.delete(f"{self.folder}/{other}")

    def restore_latest(self, trainer: Saveable) -> bool:
        """Let the trainer go on from the newest whole checkpoint; False if there is none."""
        for name in reversed(self.store.names(self.folder)):
            with tempfile.TemporaryDirectory(prefix="raffect-") as local:
                if self._fetch(f"{self.folder}/{name}", Path(local)):
                    trainer.restore(Path(local))
                    return True
        return False

    def _fetch(self, source: str, local: Path) -> bool:
        try:
            hashes: dict[str, str] = self.store.read_json(f"{source}/{_MARKER}")
            for name, expected in hashes.items():
                data = self.store.read_bytes(f"{source}/{name}")
                if hashlib.sha256(data).hexdigest() != expected:
                    return False
                (local / name).write_bytes(data)
        except (FileNotFoundError, json.JSONDecodeError):
            return False
        return True

    def clear(self) -> None:
        """Delete all checkpoints."""
        self.store.delete(self.folder)
