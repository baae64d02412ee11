"""Manifests: written last, so that a folder's content exists only when it is complete."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import Field

from raffect import __version__
from raffect.code import code_digest
from raffect.errors import NotThereError, StoreError
from raffect.settings import Config, hash_json
from raffect.store.layout import DATASET, MANIFEST, SWEEPS
from raffect.store.store import Store
from raffect.store.verified import (
    MAKERS,
    FileEntry,
    Files,
    is_there,
    read_sealed,
    reading,
    write_sealed,
)
from raffect.text import did_you_mean

SCHEMA_VERSION = 1
Kind = Literal["dataset", "encoder", "features", "model", "ensemble", "sweep"]


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
    facts: dict[str, dict[str, Any]] = Field({}, description="of files, by name; see StagePart")

    def digest(self) -> str:
        """SHA-256 of everything but time, code and facts: the same work has the same digest."""
        return hash_json(self.model_dump(mode="json", exclude={"created", "code", "facts"}))

    def files_in(self, store: Store, owner: str, folder: str | None = None) -> Files:
        """The files of the folder `owner` that this is of, or of a `folder` in it."""
        below = "" if folder in (None, owner) else f"{folder}/".removeprefix(f"{owner}/")
        own = [entry for entry in self.files if entry.name.startswith(below)]
        return Files(store, folder or owner, {e.name.removeprefix(below): e for e in own})


def make_manifest(
    kind: Kind,
    config: Mapping[str, object],
    sources: dict[str, str],
    files: list[FileEntry],
    counts: Mapping[str, object] | None = None,
    notes: Mapping[str, object] | None = None,
    facts: Mapping[str, dict[str, Any]] | None = None,
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
        facts=dict(sorted((facts or {}).items())),
    )


def write_manifest(store: Store, folder: str, manifest: Manifest) -> None:
    """Declare the folder complete."""
    empty = None if manifest.facts else {"facts"}
    write_sealed(store, f"{folder}/{MANIFEST}", manifest.model_dump(mode="json", exclude=empty))


def has_manifest(store: Store, folder: str) -> bool:
    """Whether the folder is complete; a DamagedError if its manifest is a folder."""
    return is_there(store, f"{folder}/{MANIFEST}")


def read_manifest(store: Store, folder: str) -> Manifest:
    """The manifest of a folder.

    Raises:
        NotThereError: The folder has none; the message names the command that makes one.
        DamagedError: It is not as it was written.
        StoreError: A newer raffect wrote it.
    """
    found = find_manifest(store, folder)
    if found is None:
        raise _not_there(store, folder)
    return found


def find_manifest(store: Store, folder: str) -> Manifest | None:
    """As `read_manifest`, in one request; None if the folder has none."""
    key = f"{folder}/{MANIFEST}"
    try:
        tree = read_sealed(store, key)
    except FileNotFoundError:
        return None
    if tree.get("schema_version", SCHEMA_VERSION) != SCHEMA_VERSION:
        raise StoreError(
            f"{store.where(key)} is of schema version {tree['schema_version']}.",
            f"schema version {SCHEMA_VERSION}",
            "Use the raffect that wrote it, or make it again with --overwrite.",
        )
    with reading(store, key):
        return Manifest.model_validate(tree)


def list_manifests(store: Store, group: str) -> Iterator[tuple[str, Manifest | None]]:
    """What a group of folders holds, by name; None for the manifest of an unfinished one."""
    for name in store.names(group):
        manifest = find_manifest(store, f"{group}/{name}")
        # An empty folder may be left where a file system has folders.
        if manifest is not None or store.names(f"{group}/{name}"):
            yield name, manifest


def files_of(store: Store, folder: str | Files) -> Files:
    """The files of a finished folder, or of a folder in one, by its manifest.

    Trials of a sweep that has no manifest yet are in its study: see records.model_files.

    Raises:
        NotThereError: As `read_manifest`.
    """
    if isinstance(folder, Files):
        return folder
    group, *rest = folder.split("/")
    owner = group if group == DATASET else "/".join([group, *rest[:1]])
    manifest = find_manifest(store, owner) if group == SWEEPS else read_manifest(store, owner)
    return manifest.files_in(store, owner, folder) if manifest else Files(store, folder, {})


def _not_there(store: Store, folder: str) -> NotThereError:
    group, _, name = folder.partition("/")
    siblings = [
        other
        for other in store.names(group)
        if name and store.exists(f"{group}/{other}/{MANIFEST}")
    ]
    near = did_you_mean(name, siblings)
    commands = [f"{maker} --store {store.uri}" for maker in MAKERS.get(group, ())]
    return NotThereError(
        f"The store {store.uri} holds no finished {folder!r}.",
        f"{group} in this store: {', '.join(siblings)}" if siblings else "",
        f"{near}{'Else make' if near else 'Make'} it first: "
        + (" or ".join(commands) or "see raffect --help"),
    )
