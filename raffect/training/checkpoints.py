"""Checkpoints in the store: the newest whole one is found, a half-written one never."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Protocol

from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from raffect.store import Store
from raffect.store.layout import STATE_FACTS, STATE_TENSORS, WHOLE


class Saveable(Protocol):
    """A trainer whose state can be kept."""

    epoch: int

    def save(self) -> dict[str, bytes]:
        """All that is needed to go on exactly, as files: content by name."""

    def restore(self, files: Mapping[str, bytes]) -> None:
        """Go on from what `save` returned."""


class CheckpointFolder:
    """Checkpoints below one folder of the store, `epoch-00003/` and so on; the newest is kept.

    The marker with the files' hashes is written last, and the older checkpoint is deleted after
    that: at every moment one whole checkpoint is there. Nothing else may lie in the folder.
    """

    def __init__(self, store: Store, folder: str) -> None:
        self.store = store
        self.folder = folder

    def save(self, trainer: Saveable) -> None:
        """Keep the trainer's state, instead of earlier ones."""
        self.write(trainer.epoch, trainer.save())

    def write(self, epoch: int, files: Mapping[str, bytes]) -> None:
        """Keep files as the checkpoint of an epoch, instead of earlier ones."""
        name = f"epoch-{epoch:05d}"
        target = f"{self.folder}/{name}"
        self.store.delete(f"{target}/{WHOLE}")
        for file, data in files.items():
            self.store.write_bytes(f"{target}/{file}", data)
        hashes = {file: hashlib.sha256(data).hexdigest() for file, data in files.items()}
        self.store.write_json(f"{target}/{WHOLE}", hashes)
        for other in self.store.names(self.folder):
            if other != name:
                self.store.delete(f"{self.folder}/{other}")

    def restore_latest(self, trainer: Saveable) -> bool:
        """Let the trainer go on from the newest whole checkpoint; False if there is none."""
        for name in reversed(self.store.names(self.folder)):
            files = self._read(f"{self.folder}/{name}")
            if files is not None:
                trainer.restore(files)
                return True
        return False

    def _read(self, source: str) -> dict[str, bytes] | None:
        """The files of a checkpoint; None if it is not whole."""
        files = {}
        try:
            hashes: dict[str, str] = self.store.read_json(f"{source}/{WHOLE}")
            for file, expected in hashes.items():
                files[file] = self.store.read_bytes(f"{source}/{file}")
                if hashlib.sha256(files[file]).hexdigest() != expected:
                    return None
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        return files

    def clear(self) -> None:
        """Delete all checkpoints."""
        self.store.delete(self.folder)


_BETWEEN = "//"


def pack_state(
    groups: Mapping[str, Mapping[str, Tensor]], facts: Mapping[str, object]
) -> dict[str, bytes]:
    """Groups of tensors and facts (JSON types) as the files of a checkpoint."""
    flat = {
        f"{group}{_BETWEEN}{name}": value
        for group, tensors in groups.items()
        for name, value in tensors.items()
    }
    return {
        STATE_TENSORS: tensor_bytes(flat),
        STATE_FACTS: json_bytes({"groups": list(groups), **facts}),
    }


def unpack_state(
    files: Mapping[str, bytes],
) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """The groups of tensors (in host memory) and the facts that `pack_state` took."""
    facts: dict[str, Any] = json.loads(files[STATE_FACTS])
    groups: dict[str, dict[str, Tensor]] = {group: {} for group in facts.pop("groups")}
    for key, value in load_tensors(files[STATE_TENSORS]).items():
        group, _, name = key.partition(_BETWEEN)
        groups[group][name] = value
    return groups, facts


def json_bytes(value: object) -> bytes:
    """JSON for people and machines; NaN is a bug here and raises."""
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode()


def tensor_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """A safetensors file; it wants tensors contiguous, in host memory."""
    return save_tensors({k: v.detach().cpu().contiguous() for k, v in tensors.items()})
