"""Deleting what stages have made, with what depends on it in view."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass

from raffect.context import OnNote, ignore
from raffect.errors import ConflictError, NotThereError, SettingsError, StoreError
from raffect.store import Store
from raffect.store.layout import (
    ENCODERS,
    FEATURES,
    LEASE,
    MANIFEST,
    MODELS,
    PLAN,
    STUDY,
    SWEEPS,
    check_name,
)
from raffect.store.lease import held, holder_of
from raffect.store.manifest import find_manifest
from raffect.store.stage import read_plan
from raffect.sweep.attributes import WARM
from raffect.sweep.study import open_study
from raffect.text import did_you_mean

_GROUPS = (ENCODERS, FEATURES, MODELS, SWEEPS)


@dataclass(frozen=True)
class Doomed:
    """A folder that is to be deleted.

    Attributes:
        size: Bytes by its manifest; None where it is unfinished.
        dependents: Folders that were made from it, and stay.
    """

    folder: str
    files: int
    size: int | None
    dependents: tuple[str, ...]

    @property
    def may_be_made(self) -> bool:
        """Whether a command may be at it: only that of a sweep is known, by its lease."""
        return self.size is None and not self.folder.startswith(SWEEPS)


def plan_deletion(store: Store, names: Sequence[str]) -> list[Doomed]:
    """What goes by names as users give them: `va`, or `sweeps/va` where a model is named so too.

    Raises:
        NotThereError: The store holds nothing of a name.
        SettingsError: A name stands for several folders.
        ConflictError: A running command holds one, or a sweep that reads one.
    """
    folders = list(dict.fromkeys(_find(store, name) for name in names))
    made_from = {
        folder: set(_sources(store, folder)) for folder in _all(store) if folder not in folders
    }
    found = []
    for folder in folders:
        dependents = tuple(
            other
            for other, sources in made_from.items()
            if any(source == folder or source.startswith(f"{folder}/") for source in sources)
        )
        for sweep in (folder, *dependents):
            holder = holder_of(store, f"{sweep}/{LEASE}") if sweep.startswith(SWEEPS) else None
            if holder is not None and holder.is_here:
                reads = "" if sweep == folder else f", which reads {folder}"
                raise ConflictError(
                    f"{holder} is at {sweep}{reads}.",
                    "what no running command needs",
                    "Let it finish, or stop it; then run this command again.",
                )
        manifest = find_manifest(store, folder)
        size = None if manifest is None else sum(entry.size for entry in manifest.files)
        found.append(Doomed(folder, len(store.files(folder)), size, dependents))
    return found


def delete(store: Store, folder: str, on_note: OnNote = ignore) -> None:
    """Delete a stage's folder so that a kill on the way leaves nothing that passes for whole.

    The manifest goes first and the plan last; a study loses its latest entries first, so that what
    is left of it is a study. A sweep's lease is held meanwhile.

    Raises:
        ConflictError: A command on another machine is at the sweep.
    """
    is_sweep = folder.startswith(f"{SWEEPS}/")
    with held(store, f"{folder}/{LEASE}", on_note) if is_sweep else nullcontext():
        keys = [key for key in store.files(folder) if not key.startswith(f"{folder}/{LEASE}/")]
        first, last = f"{folder}/{MANIFEST}", f"{folder}/{PLAN}"
        study = [key for key in keys if key.startswith(f"{folder}/{STUDY}/")]
        for key in [first, *sorted(study, reverse=True)]:
            store.delete_keys([key])
        store.delete_keys([key for key in keys if key not in {first, last, *study}])
        store.delete_keys([last])
    store.delete(folder)


def _find(store: Store, name: str) -> str:
    group, _, rest = name.rpartition("/")
    groups = [group] if group else _GROUPS
    found = [
        f"{one}/{rest}"
        for one in groups
        if one in _GROUPS and check_name(rest) in store.names(one)
    ]
    if len(found) > 1:
        which = " or ".join(found)
        raise SettingsError(f"{name!r} stands for {which}.", which, "Give the one that is meant.")
    if not found:
        known = list(_all(store))
        raise NotThereError(
            f"The store {store.uri} holds no {name!r}.",
            f"what it holds: {', '.join(known)}" if known else "",
            f"{did_you_mean(name, known)}Name a sweep, a model, an encoder or features.",
        )
    return found[0]


def _all(store: Store) -> list[str]:
    return [f"{group}/{name}" for group in _GROUPS for name in store.names(group)]


def _sources(store: Store, folder: str) -> Iterator[str]:
    """The folders that one was made from, and sweeps that it began with."""
    plan = None
    with suppress(StoreError):
        plan = find_manifest(store, folder)
    if plan is not None:
        yield from plan.sources
    elif (begun := read_plan(store, folder)) is not None:
        yield from begun.get("sources", {})
    group, _, name = folder.partition("/")
    if group == SWEEPS:
        with suppress(NotThereError, StoreError):
            for overlap in open_study(store, name).user_attrs.get(WARM, ()):
                yield f"{SWEEPS}/{overlap['sweep']}"
