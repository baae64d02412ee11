"""What a sweep was made from, read from manifest to manifest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from raffect.errors import NotThereError
from raffect.report.data import Ancestor
from raffect.store import DATASET, Manifest, Store, read_manifest, sweep_folder
from raffect.store.layout import PLAN
from raffect.sweep.leaderboard import SweepView
from raffect.sweep.space import load_space

_ORDER = ("dataset", "encoders", "features", "models", "sweeps")


def sources_of(store: Store, sweep: str, manifest: Manifest | None) -> dict[str, str]:
    """Folders that a sweep was made from, with their digests; also of one still running."""
    if manifest is not None:
        return dict(manifest.sources)
    return dict(_plan(store, sweep).get("sources") or {})


def has_own_space(store: Store, view: SweepView) -> bool:
    """Whether a sweep's space is another than its task's default, as that is now."""
    described = _plan(store, view.name).get("config", {}).get("space", {})
    usual = load_space(f"tune_spaces.{view.task.value}")
    return described.get("code") not in (None, usual.code)


def features_of(ancestors: Sequence[Ancestor]) -> str:
    """Name of the features that a sweep was made from; those of the default if unknown."""
    names = [of.folder.partition("/") for of in ancestors]
    return next((name for group, _, name in names if group == "features"), "clip")


def _plan(store: Store, sweep: str) -> dict[str, Any]:
    try:
        plan: dict[str, Any] = store.read_json(f"{sweep_folder(sweep)}/{PLAN}")
    except (FileNotFoundError, ValueError):
        return {}
    return plan


def lineage(store: Store, sources: dict[str, str]) -> tuple[Ancestor, ...]:
    """All ancestors, the dataset first; each says whether the store still holds the same."""
    found: dict[str, Ancestor] = {}
    waiting = list(sources.items())
    while waiting:
        folder, digest = waiting.pop(0)
        if folder in found:
            continue
        manifest = _manifest(store, folder)
        state: Literal["same", "changed", "gone"] = "gone"
        if manifest is not None:
            state = "same" if manifest.digest() == digest else "changed"
            waiting += manifest.sources.items()
        created = manifest.created if manifest is not None and state == "same" else ""
        found[folder] = Ancestor(folder, digest, created, state)
    return tuple(sorted(found.values(), key=lambda ancestor: _rank(ancestor.folder)))


def is_synthetic(store: Store) -> bool:
    """Whether the store's dataset says that it is synthetic."""
    manifest = _manifest(store, DATASET)
    if manifest is None:
        return False
    return any(bool(place.get("synthetic")) for place in (manifest.notes, manifest.counts))


def _manifest(store: Store, folder: str) -> Manifest | None:
    try:
        return read_manifest(store, folder)
    except NotThereError:
        return None


def _rank(folder: str) -> tuple[int, str]:
    group = folder.split("/")[0]
    return (_ORDER.index(group) if group in _ORDER else len(_ORDER), folder)
