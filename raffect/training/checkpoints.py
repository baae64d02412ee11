"""Checkpoints in the store: the newest whole one is found, a half-written one never."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from raffect.errors import DamagedError
from raffect.store import Store
from raffect.store.layout import STATE_FACTS, STATE_TENSORS, WHOLE

if TYPE_CHECKING:
    from torch import Tensor

_ENDING = ".safetensors"


class Saveable(Protocol):
    """A trainer whose state can be kept."""

    epoch: int

    def save(self) -> bytes:
        """All that is needed to go on exactly, see `pack_state`."""

    def restore(self, state: bytes) -> None:
        """Go on from what `save` returned."""


class CheckpointFolder:
    """Checkpoints in one folder of the store, each one object; the newest is kept.

    Its name has the epoch and the start of its SHA-256. The older checkpoint is deleted after it
    is written: at every moment one whole checkpoint is there. Nothing else may lie in the folder.
    Before 0.5 a checkpoint was a folder of files; it is read as well.

    Args:
        is_new: The folder is known to be empty.
    """

    def __init__(self, store: Store, folder: str, is_new: bool = False) -> None:
        self.store = store
        self.folder = folder
        self._known: list[str] | None = [] if is_new else None

    def save(self, trainer: Saveable) -> None:
        """Keep the trainer's state, instead of earlier ones."""
        self.write(trainer.epoch, trainer.save())

    def write(self, epoch: int, state: bytes) -> None:
        """Keep the state after an epoch, instead of earlier ones."""
        name = f"epoch-{epoch:05d}-{_digest(state)}{_ENDING}"
        # Also after an attempt that failed halfway.
        before, self._known = self._names(), None
        self.store.write_bytes(f"{self.folder}/{name}", state)
        others = [other for other in before if other != name]
        self.store.delete_keys([f"{self.folder}/{one}" for one in others if _ENDING in one])
        for other in others:
            if _ENDING not in other:
                self.store.delete(f"{self.folder}/{other}")
        self._known = [name]

    def restore_latest(self, trainer: Saveable) -> bool:
        """Let the trainer go on from the newest whole checkpoint; False if there is none."""
        for name in reversed(self._names()):
            state = self._read(name)
            if state is not None:
                trainer.restore(state)
                return True
        return False

    def _names(self) -> list[str]:
        if self._known is None:
            self._known = self.store.names(self.folder)
        return self._known

    def _read(self, name: str) -> bytes | None:
        """A checkpoint; None if it is not whole."""
        source = f"{self.folder}/{name}"
        try:
            if name.endswith(_ENDING):
                state = self.store.read_bytes(source)
                return state if _digest(state) in name else None
            hashes: dict[str, str] = self.store.read_json(f"{source}/{WHOLE}")
            files = {file: self.store.read_bytes(f"{source}/{file}") for file in hashes}
        except (FileNotFoundError, ValueError, DamagedError):
            return None
        if any(hashlib.sha256(files[file]).hexdigest() != hashes[file] for file in files):
            return None
        return pack_state(*read_state(files[STATE_TENSORS], files[STATE_FACTS]))

    def clear(self) -> None:
        """Delete all checkpoints."""
        if self._known != []:
            self.store.delete(self.folder)
            self._known = None


_BETWEEN = "//"
_FACTS = "facts"


def _digest(state: bytes) -> str:
    return hashlib.sha256(state).hexdigest()[:16]


def pack_state(groups: Mapping[str, Mapping[str, Tensor]], facts: Mapping[str, object]) -> bytes:
    """Groups of tensors and facts (JSON types) as a safetensors file, the facts in its header."""
    flat = {
        f"{group}{_BETWEEN}{name}": value
        for group, tensors in groups.items()
        for name, value in tensors.items()
    }
    told = json.dumps({"groups": list(groups), **facts}, ensure_ascii=False, allow_nan=False)
    return tensor_bytes(flat, {_FACTS: told})


def unpack_state(state: bytes) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """The groups of tensors (in host memory) and the facts that `pack_state` took."""
    length = int.from_bytes(state[:8], "little")
    header = json.loads(state[8 : 8 + length])
    return read_state(state, header["__metadata__"][_FACTS])


def read_state(
    tensors: bytes, facts: str | bytes
) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """Groups of tensors and facts, from a safetensors file and from JSON that names the groups."""
    from safetensors.torch import load as load_tensors

    found: dict[str, Any] = json.loads(facts)
    groups: dict[str, dict[str, Tensor]] = {group: {} for group in found.pop("groups")}
    for key, value in load_tensors(tensors).items():
        group, _, name = key.partition(_BETWEEN)
        groups[group][name] = value
    return groups, found


def json_bytes(value: object) -> bytes:
    """JSON for people and machines; NaN is a bug here and raises."""
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode()


def tensor_bytes(tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> bytes:
    """A safetensors file; it wants tensors contiguous, in host memory."""
    from safetensors.torch import save as save_tensors

    return save_tensors({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, metadata)
