"""Verify all that a store holds, and take away what is damaged, so that it is made again."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from raffect.affwild2.check import check as check_dataset
from raffect.context import Progress, ignore
from raffect.errors import DamagedError, NotThereError
from raffect.store import DATASET, Files, Manifest, Store
from raffect.store.layout import GROUPS, MANIFEST, PLAN, SEEDS, STUDY, SWEEPS
from raffect.store.manifest import find_manifest
from raffect.store.raw import ahead
from raffect.store.stage import Plan, read_plan, reopen
from raffect.store.verified import makers_of, read_sealed, reading, write_sealed
from raffect.sweep.leaderboard import load_sweep
from raffect.sweep.records import model_files
from raffect.sweep.study import journal_of

_READERS = 4
_MENDED = (MANIFEST, PLAN, SEEDS, STUDY)
"""In a sweep; its trials are not trained again."""
_MOST_TOLD = 20
_MOST_ADVICE = 3
_LEFTOVER = re.compile(r"\..+\.[0-9a-f]{32}")
_LEFTOVER_S = 3600.0
"""Age of a file that a killed writer left; a younger one may be written just now."""


@dataclass(frozen=True)
class Fault:
    """A file that is not as it was written: its key in the store, and the whole message."""

    key: str
    error: DamagedError

    @property
    def folder(self) -> str:
        """The folder of the stage that made it."""
        group, name, *_ = [*self.key.split("/"), ""]
        return group if group == DATASET else f"{group}/{name}"


def find_faults(store: Store, progress: Progress = ignore) -> list[Fault]:
    """Everything in the finished folders of a store that is not as it was written.

    The dataset's rows are counted on the way: a StoreError if they are others.
    What an unfinished stage has made is verified by its command, when it is given again;
    `progress` counts folders.
    """
    folders = _folders(store)
    found = list(_in_dataset(store))
    for done, folder in enumerate(folders):
        progress(done, len(folders))
        find = _in_sweep if folder.startswith(SWEEPS) else _in_folder
        found += find(store, folder)
    progress(len(folders), len(folders))
    return found


def unfinished(store: Store) -> list[str]:
    """The folders that a command has begun, and that have no manifest."""
    return [f for f in _folders(store) if store.names(f) and not store.exists(f"{f}/{MANIFEST}")]


def finished(store: Store) -> list[str]:
    """The folders with a manifest, the dataset's apart."""
    return [f for f in _folders(store) if store.exists(f"{f}/{MANIFEST}")]


def _folders(store: Store) -> list[str]:
    return [f"{g}/{name}" for g in GROUPS if g != DATASET for name in store.names(g)]


def repair(store: Store, faults: list[Fault]) -> list[Fault]:
    """Take away what is damaged; the faults for which that does not help.

    The manifest goes first. The command that made the folder, given again, keeps the parts that
    verify, and makes what is missing. Of a sweep's study the entries before the damage are kept:
    it goes on from there. A plan is written again from the manifest.
    """
    left = []
    for fault in faults:
        _, _, below = fault.key.removeprefix(fault.folder).partition("/")
        if fault.folder.startswith(SWEEPS) and below.split("/")[0] not in _MENDED:
            left.append(fault)
            continue
        manifest = _manifest(store, fault.folder)
        if below == PLAN and fault.folder.startswith(SWEEPS) and manifest is None:
            left.append(fault)
        elif below == PLAN and manifest is not None:
            plan = Plan(**manifest.model_dump(include={"kind", "config", "sources"}))
            store.delete(fault.key)
            write_sealed(store, fault.key, plan.canonical())
        elif below == PLAN:
            # Nobody knows with which settings its parts were made.
            store.delete(fault.folder)
        elif below.startswith(f"{SEEDS}/"):
            store.delete(fault.key)
        else:
            if manifest is not None:
                reopen(store, fault.folder, manifest)
            if below.startswith(STUDY) and fault.folder.startswith(SWEEPS):
                journal_of(store, fault.folder.partition("/")[2]).keep_whole()
            else:
                store.delete(fault.key)
    return left


def clear_leftovers(store: Store) -> int:
    """Delete the half-written files that killed writers left in a folder's store; how many."""
    if not store.is_local:
        return 0
    before = time.time() - _LEFTOVER_S
    old = [
        path
        for path in Path(store.path("")).rglob(".*")
        if _LEFTOVER.fullmatch(path.name) and path.is_file() and path.stat().st_mtime < before
    ]
    for path in old:
        path.unlink(missing_ok=True)
    return len(old)


def remedy(folder: str) -> str:
    """What to do after a repair, for people."""
    command = f"give the command that made {folder} again ({makers_of(folder)})"
    return f"{command}: it makes what is missing"


def refuse(store: Store, faults: list[Fault]) -> None:
    """Raise a DamagedError that names all faults, if there are any."""
    if len(faults) == 1:
        raise faults[0].error
    if faults:
        told = [f"  {fault.error.got}" for fault in faults[:_MOST_TOLD]]
        told += [f"  and {len(faults) - _MOST_TOLD} more"] * (len(faults) > _MOST_TOLD)
        advice = dict.fromkeys(fault.error.next_step for fault in faults)
        raise DamagedError(
            f"{len(faults)} files of {store.uri} are not as they were written:\n"
            + "\n".join(told),
            "the files as raffect wrote them",
            " ".join(list(advice)[:_MOST_ADVICE]),
        )


def _in_dataset(store: Store) -> Iterator[Fault]:
    try:
        check_dataset(store)
    except DamagedError:
        # It names the first; all are wanted.
        yield from _in_folder(store, DATASET)
    except NotThereError:
        yield from _in_plan(store, DATASET)


def _in_folder(store: Store, folder: str) -> Iterator[Fault]:
    yield from _in_plan(store, folder)
    try:
        manifest = find_manifest(store, folder)
    except DamagedError as error:
        yield Fault(f"{folder}/{MANIFEST}", error)
        return
    if manifest is not None:
        yield from _in_files(manifest.files_in(store, folder))


def _in_sweep(store: Store, folder: str) -> Iterator[Fault]:
    name = folder.partition("/")[2]
    yield from _in_plan(store, folder)
    try:
        find_manifest(store, folder)
    except DamagedError as error:
        yield Fault(f"{folder}/{MANIFEST}", error)
    for key in store.files(f"{folder}/{SEEDS}"):
        try:
            read_sealed(store, key)
        except DamagedError as error:
            yield Fault(key, error)
    try:
        list(journal_of(store, name).read_logs(0))
        rows = load_sweep(store, name).rows
    except DamagedError as error:
        yield Fault(f"{folder}/{STUDY}", error)
        return
    except NotThereError:
        return
    for row in rows:
        if row.model is not None and row.origin is None and row.files:
            yield from _in_files(model_files(store, row))


def _in_plan(store: Store, folder: str) -> Iterator[Fault]:
    key = f"{folder}/{PLAN}"
    try:
        plan = read_plan(store, folder)
        with reading(store, key):
            if plan is not None:
                Plan(**plan)
    except DamagedError as error:
        yield Fault(key, error)


def _in_files(files: Files) -> Iterator[Fault]:
    def verify(name: str) -> Fault | None:
        try:
            files.verify(name)
        except DamagedError as error:
            return Fault(f"{files.folder}/{name}", error)
        except FileNotFoundError:
            # The weights of a trial, removed to save room.
            return None
        return None

    with ThreadPoolExecutor(_READERS) as pool:
        for fault in ahead(pool, verify, files.entries, _READERS):
            if fault is not None:
                yield fault


def _manifest(store: Store, folder: str) -> Manifest | None:
    try:
        return find_manifest(store, folder)
    except DamagedError:
        return None
