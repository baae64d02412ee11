"""A stage's work in one folder of the store: whole or absent, resumable, never of mixed settings.

folder empty                          plan.json is written, everything is to be made
plan.json, no manifest, same plan     interrupted: finished parts are kept
manifest, same plan                   finished: nothing to do, or made anew with `overwrite`
plan or manifest of another plan      ConflictError, or made anew with `overwrite`
plan that is discarded                was being deleted: the rest is, and all is to be made
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from raffect.errors import ConflictError, DamagedError, StoreAwayError, StoreError
from raffect.settings import Config, added
from raffect.store.layout import (
    CHECKPOINT,
    ENGINE,
    FINETUNE_CHECKPOINTS,
    MANIFEST,
    PARTS,
    PLAN,
)
from raffect.store.manifest import (
    Kind,
    Manifest,
    find_manifest,
    make_manifest,
    write_manifest,
)
from raffect.store.store import Store
from raffect.store.verified import FileEntry, Files, is_there, read_sealed, reading, write_sealed

_DIGEST = re.compile('"[0-9a-f]{64}"')
_TRIED = ".tried"
"""No file of a stage: hidden, and gone at once."""
_UNFINISHED = frozenset({PARTS, CHECKPOINT, ENGINE, FINETUNE_CHECKPOINTS})
"""What a stage goes on with."""


class Plan(Config):
    """What decides the content of a stage's folder; `config` holds JSON types."""

    kind: Kind
    config: dict[str, Any]
    sources: dict[str, str]
    discarded: bool = added(False, description="what the folder holds is being deleted")


def has_plan(store: Store, folder: str) -> bool:
    """Whether the folder was begun; a DamagedError if its plan is a folder."""
    return is_there(store, f"{folder}/{PLAN}")


def read_plan(store: Store, folder: str) -> Any:
    """The JSON of the plan with which a folder was begun; None if it was not begun."""
    try:
        return read_sealed(store, f"{folder}/{PLAN}")
    except FileNotFoundError:
        return None


def begun_with(store: Store, folder: str) -> Mapping[str, Any] | None:
    """The settings with which a folder was begun, finished or not; None if it is to be begun."""
    plan = read_plan(store, folder)
    if not isinstance(plan, dict) or plan.get("discarded") or "config" not in plan:
        return None
    found: Mapping[str, Any] = plan["config"]
    return found


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
        overwrite: Delete what the folder holds, if it is finished or was begun with another plan;
            what was begun with this one is continued.

    Raises:
        ConflictError: The folder was begun or finished with other settings or sources; lists the
            differences.
        StoreError: The store can't be used, or the key lacks a right that the work will need.
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
        self.finished: Manifest | None = None
        before: Plan | None = None
        try:
            self.finished = find_manifest(store, folder)
            before = self._begun()
            was_left = before is not None and before.discarded
            if before is not None and not was_left and before.digest() != self.plan.digest():
                raise self._conflict(before)
            discards = was_left or (overwrite and self.finished is not None)
        except (ConflictError, DamagedError):
            if not overwrite:
                raise
            discards = True
        self.is_new = before is None
        if discards:
            self.restart()
        elif self.finished is None:
            # A sweep's lease is about to list, and a new folder's plan is a write.
            there = try_rights(store, folder, lists=kind != "sweep", writes=not self.is_new)
            if self.is_new:
                with _before_work():
                    for name in _UNFINISHED.intersection(there):
                        # Of a command that went on after its folder was deleted.
                        store.delete(f"{folder}/{name}")
                    write_sealed(store, f"{folder}/{PLAN}", self.plan.identity())

    def _begun(self) -> Plan | None:
        """The plan with which the folder was begun."""
        if self.finished is not None:
            return Plan(**self.finished.model_dump(include={"kind", "config", "sources"}))
        stored = read_plan(self.store, self.folder)
        with reading(self.store, f"{self.folder}/{PLAN}"):
            return None if stored is None else Plan(**stored)

    def restart(self) -> None:
        """Delete what the folder holds, and begin it anew.

        Killed in between, a plan is left that says so: the rest is no work to go on with.
        """
        plan = f"{self.folder}/{PLAN}"
        self.store.delete(f"{self.folder}/{MANIFEST}")
        if not self.store.exists(plan):
            # A folder may be in its place.
            self.store.delete(plan)
        tombstone = self.plan.model_copy(update={"discarded": True})
        write_sealed(self.store, plan, tombstone.identity())
        self.store.delete(self.folder)
        self.finished, self.is_new = None, True
        write_sealed(self.store, plan, self.plan.identity())

    def _conflict(self, before: Plan) -> ConflictError:
        branch = "--branch NEW to begin another sweep from it, "
        state = "begun" if self.finished is None else "finished"
        lines = diff(before.canonical(), self.plan.canonical())
        # A store has one dataset, without a name.
        other = "store" if self.plan.kind == "dataset" else "name"
        return ConflictError(
            f"{self.store.where(self.folder)} was {state} with other settings:\n"
            + "\n".join(line.replace("  config.", "  ", 1) for line in lines),
            f"the same settings (the command then continues), or another {other}",
            f"Give {branch if self.plan.kind == 'sweep' else ''}another --{other}, or --overwrite"
            " to make it anew.",
        )

    def write_part(
        self, name: str, data: bytes, facts: Mapping[str, object] | None = None
    ) -> StagePart:
        """Write a file, then the note that it is finished; `name` may contain folders."""
        self.store.write_bytes(f"{self.folder}/{name}", data)
        part = StagePart(entry=FileEntry.of(name, data), facts=dict(facts or {}))
        _write_note(self.store, self.folder, part)
        return part

    def parts(self) -> dict[str, StagePart]:
        """Finished parts by file name; one whose file no longer verifies is left out."""
        found = {}
        for key in self.store.files(f"{self.folder}/{PARTS}"):
            try:
                with reading(self.store, key):
                    part = StagePart.model_validate(read_sealed(self.store, key))
                name = part.entry.name
                Files(self.store, self.folder, {name: part.entry}).read(name)
            except (DamagedError, FileNotFoundError):
                continue
            found[name] = part
        return found

    def finish(
        self,
        parts: list[StagePart],
        counts: Mapping[str, object] | None = None,
        notes: Mapping[str, object] | None = None,
    ) -> Manifest:
        """Write the manifest, last, so that the folder's content exists.

        Raises:
            ConflictError: The folder was deleted meanwhile, or begun anew with other settings.
        """
        # A sweep's lease keeps others away.
        if self.plan.kind != "sweep":
            now = self._begun()
            if now is None or now.discarded or now.digest() != self.plan.digest():
                did = "begun anew with other settings" if now else "deleted"
                raise ConflictError(
                    f"{self.store.where(self.folder)} was {did} while this command made it.",
                    "one command for a folder at a time",
                    "Run this command again, or with another --name.",
                )
        files = [part.entry for part in parts]
        facts = {part.entry.name: part.facts for part in parts if part.facts}
        made = self.plan.model_dump(include={"kind", "config", "sources"})
        self.finished = make_manifest(**made, files=files, counts=counts, notes=notes, facts=facts)
        write_manifest(self.store, self.folder, self.finished)
        # Also where this object wrote none: actors write parts with a copy of it.
        self.store.delete(f"{self.folder}/{PARTS}")
        return self.finished


def try_rights(store: Store, folder: str, lists: bool = True, writes: bool = True) -> list[str]:
    """Delete, list and write below a folder: what is forbidden is told before hours of work.

    Returns the names that it lists.

    Raises:
        StoreError: Something is forbidden; nothing was written.
    """
    key = f"{folder}/{_TRIED}"
    with _before_work():
        # Rights are looked at first, so that a key that is absent does.
        store.delete_keys([key])
        there = store.names(folder) if lists else []
        if writes:
            store.write_bytes(key, b"")
            store.delete_keys([key])
    return there


@contextmanager
def _before_work() -> Iterator[None]:
    try:
        yield
    except StoreAwayError:
        raise
    except StoreError as error:
        told = f"{error.got} Nothing was done."
        raise type(error)(told, error.allowed, error.next_step) from error


def reopen(store: Store, folder: str, manifest: Manifest) -> None:
    """Make a finished folder an unfinished one, all of whose parts are there."""
    for entry in manifest.files:
        if entry.name in manifest.facts:
            part = StagePart(entry=entry, facts=manifest.facts[entry.name])
            _write_note(store, folder, part)
    store.delete(f"{folder}/{MANIFEST}")


def _write_note(store: Store, folder: str, part: StagePart) -> None:
    note = f"{folder}/{PARTS}/{part.entry.name.replace('/', '__')}.json"
    write_sealed(store, note, part.canonical())


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
    # Of digests their beginning tells enough.
    most = 15 if any(map(_DIGEST.fullmatch, texts)) else 60
    old, new = (text if len(text) <= most else f"{text[: most - 3]}..." for text in texts)
    return [f"  {key}: {old} -> {new}"]
