"""Reading what raffect wrote: as it was written, or a DamagedError that says which file is not.

The files of finished folders have their sizes and SHA-256 in a manifest (a running sweep's in its
study); JSON files that describe a folder have a checksum of their own. Files of versions that
recorded neither are read as they are: only what can't be parsed is noticed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError

from raffect.errors import DamagedError, SettingsError
from raffect.settings import Config, hash_json
from raffect.store.layout import DATASET, ENCODERS, FEATURES, MODELS, REMOVED, SWEEPS, TRIALS
from raffect.store.store import Store

T = TypeVar("T")
B = TypeVar("B", bytes, memoryview)
MAKERS = {
    DATASET: ("raffect prepare --images DIR --annotations DIR",),
    ENCODERS: ("raffect finetune",),
    FEATURES: ("raffect extract", "raffect features import DIR --name NAME"),
    MODELS: ("raffect train TASK",),
    SWEEPS: ("raffect tune TASK",),
}
"""The commands that make what lies in a folder of the store."""
_ARGUMENTS = re.compile(r" (--\w+|[A-Z]+)")
_CHECKSUM = "checksum"
# Arrow's errors are ValueErrors, KeyErrors and OSErrors; load_state_dict raises RuntimeErrors.
_UNREADABLE = (
    ValueError, KeyError, TypeError, AttributeError, IndexError, OSError, RuntimeError,
    SafetensorError, SettingsError,
)  # fmt: skip


class FileEntry(Config):
    """A file of a folder: its name below the folder, its size in bytes and its SHA-256."""

    name: str
    size: int
    sha256: str

    @classmethod
    def of(cls, name: str, data: bytes) -> FileEntry:
        """The entry of a file with this content."""
        return cls(name=name, size=len(data), sha256=hashlib.sha256(data).hexdigest())

    def fault(self, data: bytes | memoryview) -> str:
        """What is wrong with the content of the file; empty: nothing."""
        if len(data) != self.size:
            return f"it has {len(data):,} bytes, where {self.size:,} were written"
        if hashlib.sha256(data).hexdigest() != self.sha256:
            return "its SHA-256 is not that of what was written"
        return ""


@dataclass(frozen=True)
class Files:
    """The files of one folder, each verified when it is read; `entries` by name below it.

    Its methods raise FileNotFoundError for a file that is neither listed nor there, or was removed
    to save room.
    """

    store: Store
    folder: str
    entries: Mapping[str, FileEntry]

    def read(self, name: str) -> bytes:
        """The content of a file; a DamagedError if it is not what was written."""
        return self._read(name, self.store.read_bytes)

    def _read(self, name: str, how: Callable[[str], B]) -> B:
        key, entry = f"{self.folder}/{name}", self.entries.get(name)
        try:
            data = how(key)
        except FileNotFoundError:
            if entry is None or self.store.exists(f"{self.folder}/{REMOVED}"):
                raise
            raise damaged(self.store, key, "it is missing") from None
        if entry is not None and (fault := entry.fault(data)):
            raise damaged(self.store, key, fault)
        return data

    def verify(self, name: str) -> None:
        """Read a file, and raise a DamagedError if it is not what was written."""
        self._read(name, self.store.read_buffer)

    def parse(self, name: str, parser: Callable[[bytes], T]) -> T:
        """What the parser makes of a file; a DamagedError if it can't."""
        data = self.read(name)
        with reading(self.store, f"{self.folder}/{name}"):
            return parser(data)

    def parse_table(self, name: str, parser: Callable[[memoryview], T]) -> T:
        """The same of a Parquet file, which may be large: its bytes may go as soon as parsed."""
        data = self._read(name, self.store.read_buffer)
        with reading(self.store, f"{self.folder}/{name}"):
            return parser(data)

    def read_json(self, name: str) -> Any:
        """A file as JSON."""
        return self.parse(name, json.loads)


@contextmanager
def reading(store: Store, key: str) -> Iterator[None]:
    """Raise a DamagedError in place of what a parser raises for the content of a key."""
    try:
        yield
    except _UNREADABLE as error:
        first = str(error).strip().partition("\n")[0]
        raise damaged(store, key, f"it can't be read ({type(error).__name__}: {first})") from error


def is_there(store: Store, key: str) -> bool:
    """Whether a file that describes a folder is there; a DamagedError if a folder is instead."""
    if store.exists(key):
        return True
    if store.is_local and Path(store.path(key)).is_dir():
        raise damaged(store, key, "it is a folder")
    return False


def damaged(store: Store, key: str, what: str) -> DamagedError:
    """What to tell of a file that is not as raffect wrote it, and how to get it again."""
    group, name, *below = [*key.split("/"), "", ""]
    folder = group if group == DATASET else f"{group}/{name}"
    if group == SWEEPS:
        again = f"Make the sweep again: raffect tune ... --name {name} --overwrite"
        if below[0] == TRIALS and below[1]:
            again = (
                f"`raffect retrain {name}:{int(below[1])}` trains the trial's settings again, as a"
                f" model of its own. {again}"
            )
    else:
        again = (
            f"`raffect check --repair --store {store.uri}` takes it away; then the command that"
            f" made {folder} ({makers_of(folder)}) makes just that again."
        )
    got = f"{store.where(key)} is damaged: {what}."
    return DamagedError(got, "the file as raffect wrote it", again)


def makers_of(folder: str) -> str:
    """The commands that make what lies in a folder, without their options."""
    makers = MAKERS.get(folder.partition("/")[0], ())
    return " or ".join(_ARGUMENTS.sub("", maker) for maker in makers)


def write_sealed(store: Store, key: str, tree: Mapping[str, object]) -> None:
    """Write a JSON object with a checksum of its own."""
    plain = json.loads(json.dumps(tree))
    store.write_json(key, {**plain, _CHECKSUM: hash_json(plain)})


def read_sealed(store: Store, key: str) -> dict[str, Any]:
    """A JSON object that `write_sealed` wrote, or an earlier version without a checksum."""
    data = store.read_bytes(key)
    with reading(store, key):
        tree: dict[str, Any] = {**json.loads(data)}
        if tree.pop(_CHECKSUM, None) not in (None, hash_json(tree)):
            raise damaged(store, key, "its checksum is not that of what was written")
    return tree
