"""A stage's work in one folder of the store: whole or absent, continued, never mixed up."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import ValidationError

from raffect.errors import ConflictError
from raffect.settings import Config, hash_json
from raffect.store.layout import MANIFEST, PARTS, PLAN
from raffect.store.manifest import (
    FileEntry,
    Kind,
    Manifest,
    has_manifest,
    make_manifest,
    read_manifest,
    write_manifest,
)
from raffect.store.store import Store

_BRANCH = "--branch NEW to begin another sweep from it, "


class StagePart(Config):
    """A finished shard: its file, and what the stage wants to know of it for the manifest."""

    entry: FileEntry
    facts: dict[str, Any] = {}


class Stage:
    """The work of one command in one folder.

    `Stage(...)` refuses a folder that was begun or finished with other settings or sources. Then
    either `finished` is its manifest and there is nothing to do, or the stage makes the parts
    that `parts()` does not return, and calls `finish`.

    Args:
        store: The store.
        folder: The folder of this work.
        kind: What the folder holds.
        config: Settings that decide the content, as JSON types.
        sources: Folders that it is made from, with their manifests' digests.
        overwrite: Delete what the folder holds, if it was made otherwise.

    Raises:
        ConflictError: The folder holds something made with other settings; says which.
    """

    def __init__(
        self,
        store: Store,
        folder: str,
        kind: Kind,
        config: dict[str, Any],
        sources: dict[str, str],
        overwrite: bool = False,
    ) -> None:
        self.store = store
        self.folder = folder
        self.kind = kind
        self.config = config
        self.sources = sources
        self.finished: Manifest | None = None
        plan = {"kind": kind, "config": config, "sources": sources}
        before = self._before()
        if before is not None and hash_json(before) != hash_json(plan):
            if not overwrite:
                raise _conflict(store, folder, before, plan)
            store.delete(folder)
            before = None
        if before is None:
            store.write_json(f"{folder}/{PLAN}", plan)
        elif has_manifest(store, folder):
            self.finished = read_manifest(store, folder)

    def _before(self) -> dict[str, Any] | None:
        if has_manifest(self.store, self.folder):
            manifest = read_manifest(self.store, self.folder)
            return {
                "kind": manifest.kind,
                "config": manifest.config,
                "sources": manifest.sources,
            }
        try:
            plan: dict[str, Any] = self.store.read_json(f"{self.folder}/{PLAN}")
        except FileNotFoundError:
            return None
        return plan

    def write_part(self, name: str, data: bytes, facts: dict[str, Any] | None = None) -> StagePart:
        """Write a file of the folder, then the note that it is finished.

        May be called in any process. `name` may contain folders.
        """
        self.store.write_bytes(f"{self.folder}/{name}", data)
        part = StagePart(entry=FileEntry.of(name, data), facts=facts or {})
        note = json.dumps(part.model_dump(mode="json")).encode()
        self.store.write_bytes(self._note(name), note)
        return part

    def _note(self, name: str) -> str:
        return f"{self.folder}/{PARTS}/{name.replace('/', '__')}.json"

    def parts(self) -> dict[str, StagePart]:
        """Finished parts by file name, those whose file verifies; the others are to be made."""
        found = {}
        for key in self.store.files(f"{self.folder}/{PARTS}"):
            try:
                part = StagePart.model_validate_json(self.store.read_bytes(key))
            except ValidationError:
                continue
            if self._verifies(part.entry):
                found[part.entry.name] = part
        return found

    def _verifies(self, entry: FileEntry) -> bool:
        try:
            data = self.store.read_bytes(f"{self.folder}/{entry.name}")
        except FileNotFoundError:
            return False
        return len(data) == entry.size and hashlib.sha256(data).hexdigest() == entry.sha256

    def finish(
        self,
        parts: list[StagePart],
        counts: dict[str, Any] | None = None,
        notes: dict[str, Any] | None = None,
    ) -> Manifest:
        """Write the manifest, last, so that the folder's content exists."""
        files = [part.entry for part in parts]
        manifest = make_manifest(
            self.kind, self.config, self.sources, files, counts=counts, notes=notes
        )
        write_manifest(self.store, self.folder, manifest)
        self.store.delete(f"{self.folder}/{PARTS}")
        self.finished = manifest
        return manifest


def _conflict(
    store: Store, folder: str, before: dict[str, Any], plan: dict[str, Any]
) -> ConflictError:
    differences = diff(before, plan)
    state = "finished" if store.exists(f"{folder}/{MANIFEST}") else "begun"
    return ConflictError(
        f"{store.where(folder)} was {state} with other settings:\n" + "\n".join(differences),
        "the same settings (the command then continues), or another name",
        f"Give {_BRANCH if plan['kind'] == 'sweep' else ''}another --name, or --overwrite to make"
        " it anew.",
    )


def diff(before: Any, after: Any, key: str = "") -> list[str]:
    """Lines `key: before -> after` for every leaf that differs between two JSON values."""
    if isinstance(before, dict) and isinstance(after, dict):
        lines = []
        for name in sorted({*before, *after}):
            below = f"{key}.{name}" if key else str(name)
            lines += diff(before.get(name), after.get(name), below)
        return lines
    if before == after:
        return []
    return [f"  {key}: {_short(before)} -> {_short(after)}"]


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
