"""Manifests: written last, so that a folder's content exists only when it is complete."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import Field

from raffect import __version__
from raffect.code import code_digest
from raffect.errors import NotThereError, StoreError
from raffect.settings import Config, hash_json
from raffect.store.layout import MANIFEST
from raffect.store.store import Store

SCHEMA_VERSION = 1
Kind = Literal["dataset", "encoder", "features", "model", "ensemble", "sweep"]

_MAKERS = {
    "dataset": ("raffect prepare --images DIR --annotations DIR",),
    "encoders": ("raffect finetune",),
    "features": ("raffect extract", "raffect features import DIR --name NAME"),
    "models": ("raffect train TASK",),
    "sweeps": ("raffect tune TASK",),
}


class FileEntry(Config):
    """A file of a folder: its name below the folder, its size in bytes and its SHA-256."""

    name: str
    size: int
    sha256: str

    @classmethod
    def of(cls, name: str, data: bytes) -> FileEntry:
        """The entry of a file with this content."""
        return cls(name=name, size=len(data), sha256=hashlib.sha256(data).hexdigest())


class Manifest(Config):
    """What a folder holds, and from which settings and sources it was made."""

    schema_version: int = SCHEMA_VERSION
    raffect: str = __version__
    kind: Kind
    config: dict[str, Any]
    config_hash: str
    sources: dict[str, str] = Field(description="folder it was made from -> its digest")
    files: tuple[FileEntry, ...]
    counts: dict[str, Any] = {}
    notes: dict[str, Any] = Field({}, description="findings along the way, e.g. unreadable files")
    created: str = ""
    code: str = Field("", description="digest of the code that made it; none before 0.3")

    def digest(self) -> str:
        """SHA-256 of everything but time and code: the same work gives the same digest."""
        return hash_json(self.model_dump(mode="json", exclude={"created", "code"}))


def make_manifest(
    kind: Kind,
    config: Mapping[str, object],
    sources: dict[str, str],
    files: list[FileEntry],
    counts: Mapping[str, object] | None = None,
    notes: Mapping[str, object] | None = None,
) -> Manifest:
    """A manifest with the present time and code."""
    return Manifest(
        kind=kind,
        config=dict(config),
        config_hash=hash_json(config),
        sources=dict(sorted(sources.items())),
        files=tuple(sorted(files, key=lambda entry: entry.name)),
        counts=dict(counts or {}),
        notes=dict(notes or {}),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        code=code_digest(kind),
    )


def write_manifest(store: Store, folder: str, manifest: Manifest) -> None:
    """Declare the folder complete."""
    store.write_json(f"{folder}/{MANIFEST}", manifest.model_dump(mode="json"))


def has_manifest(store: Store, folder: str) -> bool:
    """Whether the folder is complete."""
    return store.exists(f"{folder}/{MANIFEST}")


def read_manifest(store: Store, folder: str) -> Manifest:
    """The manifest of a folder.

    Raises:
        NotThereError: The folder has none; the message names the command that makes one.
        StoreError: It was written by a newer raffect, or is damaged.
    """
    found = find_manifest(store, folder)
    if found is None:
        raise _not_there(store, folder)
    return found


def find_manifest(store: Store, folder: str) -> Manifest | None:
    """As `read_manifest`, in one request; None if the folder has none."""
    try:
        return Manifest.model_validate(store.read_json(f"{folder}/{MANIFEST}"))
    except FileNotFoundError:
        return None
    except ValueError:  # not JSON, or pydantic's ValidationError
        raise StoreError(
            f"{store.where(folder)}/{MANIFEST} is not a manifest of this raffect.",
            f"a manifest of schema version {SCHEMA_VERSION}",
            "Make it again with --overwrite, or use the raffect that wrote it.",
        ) from None


def _not_there(store: Store, folder: str) -> NotThereError:
    group, _, name = folder.partition("/")
    siblings = [
        other for other in store.names(group) if name and has_manifest(store, f"{group}/{other}")
    ]
    commands = [f"{maker} --store {store.uri}" for maker in _MAKERS.get(group, ())]
    return NotThereError(
        f"The store {store.uri} holds no finished {folder!r}.",
        f"{group} in this store: {', '.join(siblings)}" if siblings else "",
        f"Make it first: {' or '.join(commands) or 'see raffect --help'}",
    )
