"""A stage's work in one folder of the store: whole or absent, resumable, never of mixed settings.

folder empty                          plan.json is written, everything is to be made
plan.json, no manifest, same plan     interrupted: finished parts are kept
manifest, same plan                   finished: nothing to do
plan or manifest of another plan      ConflictError, or deleted with `overwrite`
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from raffect.errors import ConflictError
from raffect.settings import Config
from raffect.store.layout import PARTS, PLAN
from raffect.store.manifest import (
    FileEntry,
    Kind,
    Manifest,
    find_manifest,
    make_manifest,
    write_manifest,
)
from raffect.store.store import Store


class Plan(Config):
    """What decides the content of a stage's folder; `config` holds JSON types."""

    kind: Kind
    config: dict[str, Any]
    sources: dict[str, str]


def has_plan(store: Store, folder: str) -> bool:
    """Whether the folder was begun."""
    return store.exists(f"{folder}/{PLAN}")


def read_plan(store: Store, folder: str) -> Any:
    """The JSON of the plan with which a folder was begun, unchecked; None if it was not begun."""
    try:
        return store.read_json(f"{folder}/{PLAN}")
    except FileNotFoundError:
        return None


class StagePart(Config):
    """A finished file of a stage, and the facts about it that go into the manifest's counts."""

    entry: FileEntry
    facts: dict[str, Any] = {}


class Stage:
    """The work of one command in one folder, which `is_new` if it was empty.

    Either `finished` is the folder's manifest and there is nothing to do, or the stage makes the
    parts that `parts()` does not return and calls `finish`.

    Args:
        config: Settings that decide the content, as JSON types.
        sources: Folders that it is made from, with their manifests' digests.
        overwrite: Delete what the folder holds, if it was made with another plan.

    Raises:
        ConflictError: The folder was begun or finished with other settings or sources; lists the
            differences.
    """

    def __init__(
        self,
        store: Store,
        folder: str,
        kind: Kind,
        config: Mapping[str, object],
        sources: Mapping[str, str],
        overwrite: bool = False,
    ) -> None:
        self.store = store
        self.folder = folder
        self.plan = Plan(kind=kind, config=dict(config), sources=dict(sources))
        self.finished = find_manifest(store, folder)
        before = self._begun()
        if before is not None and before.digest() != self.plan.digest():
            if not overwrite:
                raise self._conflict(before)
            store.delete(folder)
            before = self.finished = None
        self.is_new = before is None
        self._has_notes = not self.is_new
        if self.is_new:
            store.write_json(f"{folder}/{PLAN}", self.plan.canonical())

    def _begun(self) -> Plan | None:
        """The plan with which the folder was begun."""
        if self.finished is not None:
            return Plan(**self.finished.model_dump(include={"kind", "config", "sources"}))
        stored = read_plan(self.store, self.folder)
        return None if stored is None else Plan(**stored)

    def _conflict(self, before: Plan) -> ConflictError:
        branch = "--branch NEW to begin another sweep from it, "
        state = "begun" if self.finished is None else "finished"
        return ConflictError(
            f"{self.store.where(self.folder)} was {state} with other settings:\n"
            + "\n".join(diff(before.canonical(), self.plan.canonical())),
            "the same settings (the command then continues), or another name",
            f"Give {branch if self.plan.kind == 'sweep' else ''}another --name, or --overwrite to"
            " make it anew.",
        )

    def write_part(
        self, name: str, data: bytes, facts: Mapping[str, object] | None = None
    ) -> StagePart:
        """Write a file, then the note that it is finished; `name` may contain folders."""
        self._has_notes = True
        self.store.write_bytes(f"{self.folder}/{name}", data)
        part = StagePart(entry=FileEntry.of(name, data), facts=dict(facts or {}))
        note = f"{self.folder}/{PARTS}/{name.replace('/', '__')}.json"
        self.store.write_bytes(note, json.dumps(part.canonical()).encode())
        return part

    def parts(self) -> dict[str, StagePart]:
        """Finished parts by file name; one whose file no longer verifies is left out."""
        found = {}
        for key in self.store.files(f"{self.folder}/{PARTS}"):
            try:
                part = StagePart.model_validate_json(self.store.read_bytes(key))
                data = self.store.read_bytes(f"{self.folder}/{part.entry.name}")
            except (ValidationError, FileNotFoundError):
                continue
            if FileEntry.of(part.entry.name, data) == part.entry:
                found[part.entry.name] = part
        return found

    def finish(
        self,
        parts: list[StagePart],
        counts: Mapping[str, object] | None = None,
        notes: Mapping[str, object] | None = None,
    ) -> Manifest:
        """Write the manifest, last, so that the folder's content exists."""
        files = [part.entry for part in parts]
        self.finished = make_manifest(**dict(self.plan), files=files, counts=counts, notes=notes)
        write_manifest(self.store, self.folder, self.finished)
        if self._has_notes:
            self.store.delete(f"{self.folder}/{PARTS}")
        return self.finished


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
    texts = [json.dumps(value, ensure_ascii=False) for value in (before, after)]
    old, new = (text if len(text) <= 60 else f"{text[:57]}..." for text in texts)
    return [f"  {key}: {old} -> {new}"]
