"""Checkpoints in the store: the newest whole one is found, a half-written one never."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from safetensors.torch import load_file, save_file
from torch import Tensor

from raffect.store import Store
from raffect.store.layout import STATE_FACTS, STATE_TENSORS, WHOLE


class Saveable(Protocol):
    """A trainer whose state can be kept."""

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
        with tempfile.TemporaryDirectory(prefix="raffect-") as local:
            trainer.save(Path(local))
            self.write(trainer.epoch, Path(local))

    def write(self, epoch: int, local: Path) -> None:
        """Keep a local folder's files as the checkpoint of an epoch, instead of earlier ones."""
        name = f"epoch-{epoch:05d}"
        target = f"{self.folder}/{name}"
        self.store.delete(f"{target}/{WHOLE}")
        hashes = {}
        for path in sorted(local.iterdir()):
            data = path.read_bytes()
            hashes[path.name] = hashlib.sha256(data).hexdigest()
            self.store.write_bytes(f"{target}/{path.name}", data)
        self.store.write_json(f"{target}/{WHOLE}", hashes)
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
            hashes: dict[str, str] = self.store.read_json(f"{source}/{WHOLE}")
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


_BETWEEN = "//"


def write_state(
    folder: Path, groups: Mapping[str, Mapping[str, Tensor]], facts: Mapping[str, object]
) -> None:
    """Write groups of tensors and facts into a local folder."""
    folder.mkdir(parents=True, exist_ok=True)
    flat = {
        f"{group}{_BETWEEN}{name}": value
        for group, tensors in groups.items()
        for name, value in tensors.items()
    }
    write_tensors(folder / STATE_TENSORS, flat)
    write_json(folder / STATE_FACTS, {"groups": list(groups), **facts})


def read_state(folder: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """The groups of tensors (in the machine's memory) and the facts that `write_state` wrote."""
    facts: dict[str, Any] = json.loads((folder / STATE_FACTS).read_text(encoding="utf-8"))
    weights: dict[str, dict[str, Tensor]] = {group: {} for group in facts.pop("groups")}
    for key, value in load_file(folder / STATE_TENSORS).items():
        group, _, name = key.partition(_BETWEEN)
        weights[group][name] = value
    return weights, facts


def write_json(path: Path, value: object) -> None:
    """Write JSON for people and machines; NaN is a bug here and raises."""
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    path.write_text(f"{text}\n", encoding="utf-8")


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors as safetensors wants them: contiguous, each with memory of its own."""
    own = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    save_file(own, path)
