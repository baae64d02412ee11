"""The commands of the line on a small store, and what each leaves, to be compared."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raffect.errors import NotThereError
from raffect.settings import hash_json
from raffect.store import Store
from raffect.store.layout import (
    DATASET,
    ENCODERS,
    FEATURES,
    LEASE,
    MANIFEST,
    MODELS,
    REPORT,
    STUDY,
    SWEEPS,
    TENSORBOARD,
)
from raffect.store.manifest import find_manifest
from raffect.store.verified import FileEntry, read_sealed
from raffect.sweep.leaderboard import load_sweep
from tests.durability.filled import ARRAYS, SPACE_FILE, TREE
from tests.durability.place import Place

_TIMES = ("seconds", "created", "begun", "ended", "time")
"""What JSON files hold that no two runs share."""
TEMPORAL = (
    "--set segments.window=32 --set segments.stride=24 --set model.tcn.channels=[8]"
    " --set model.tcn.depth=1 --set model.width=8 --set model.transformer.layers=0"
    " --set model.head_hidden=8 --set optimiser.lr=1e-3 --set optimiser.batch_size=8"
    " --set optimiser.epochs=4 --set run.device=cpu"
)
_ON = (DATASET, f"{FEATURES}/clip")


@dataclass(frozen=True)
class Step:
    """A command of the line.

    Attributes:
        words: Its arguments; {raw}, {arrays}, {space} and {out} are places of the run.
        needs: Folders of the store that it is made from.
        makes: Folders of the store that it makes; none: it writes to {out} alone.
        on_ray: Whether processes of Ray's work for it.
    """

    words: str
    needs: tuple[str, ...]
    makes: tuple[str, ...] = ()
    on_ray: bool = True


STEPS: dict[str, Step] = {
    "prepare": Step(
        "prepare --images {raw}/cropped_aligned --annotations {raw}/annotations", (), (DATASET,)
    ),
    "finetune": Step(
        "finetune --model raffect-tiny --pretrained none --name new --set epochs=3"
        " --set batch_size=32 --set lr=1e-3",
        (DATASET,), (f"{ENCODERS}/new",),
    ),
    "extract": Step("extract --name new", (DATASET, f"{ENCODERS}/clip"), (f"{FEATURES}/new",)),
    "features import": Step(
        "features import {arrays} --name new", (DATASET,), (f"{FEATURES}/new",), on_ray=False
    ),
    "train": Step(f"train va --name new {TEMPORAL}", _ON, (f"{MODELS}/new",), on_ray=False),
    "train, 2 workers": Step(
        f"train va --name new --workers 2 {TEMPORAL}", _ON, (f"{MODELS}/new",)
    ),
    "tune": Step(
        f"tune va --name new --space {{space}} --trials 3 --concurrent 1 {TEMPORAL}",
        _ON, (f"{SWEEPS}/new",),
    ),
    "ablate": Step(
        "ablate va --name new --features own --without model.tcn --seeds 1 --concurrent 1"
        f" {TEMPORAL}",
        (DATASET, f"{FEATURES}/own"), (f"{SWEEPS}/new",),
    ),
    "retrain": Step("retrain va:1 --seeds 2", (*_ON, f"{SWEEPS}/va"), (MODELS, f"{SWEEPS}/va")),
    "ensemble": Step(
        "ensemble va --top 2 --method mean --name new",
        (*_ON, f"{SWEEPS}/va"), (f"{MODELS}/new",), on_ray=False,
    ),
    "predict": Step(
        "predict models/va --split validation --out {out}/p.csv", (*_ON, f"{MODELS}/va"),
        on_ray=False,
    ),
    "report": Step("report va --csv {out}", (*_ON, f"{SWEEPS}/va"), (SWEEPS,), on_ray=False),
    "demo": Step("demo --keep {out}/demo --videos 6 --trials 1", ()),
}  # fmt: skip
ON_DISK = ("demo",)
"""Those that take no --store."""
Facts = Mapping[str, str]


def words_of(name: str, base: Path, out: Path, uri: str) -> list[str]:
    """A step's command."""
    places = {"raw": base / TREE, "arrays": base / ARRAYS, "space": base / SPACE_FILE, "out": out}
    # Before the places are filled in: they may hold spaces.
    words = [word.format(**places) for word in STEPS[name].words.split()]
    return words if name in ON_DISK else [*words, "--store", uri]


def bring(base: Store, name: str, store: Store) -> None:
    """Copy what a step is made from into another store."""
    for folder in STEPS[name].needs:
        for key in base.files(folder):
            store.write_bytes(key, base.read_bytes(key))


def facts_of(name: str, store: Store, out: Path) -> Facts:
    """What there is of a step's work: by file its content without times, by trial its result."""
    demo = Store(str(out / "demo" / "store"))
    places = [(demo, "")] if name in ON_DISK else [(store, of) for of in STEPS[name].makes]
    found = {}
    for place, folder in places:
        # Elsewhere what a step is made from is copied with its times.
        names_of = _digests(place) if name in ON_DISK else {}
        for key in place.files(folder):
            if not {LEASE, STUDY, TENSORBOARD} & set(key.split("/")):
                found[key] = _content(place, key, names_of)
        if folder in ("", SWEEPS) or folder.startswith(SWEEPS):
            names = place.names(SWEEPS) if folder in ("", SWEEPS) else [folder.split("/")[1]]
            for sweep in names:
                found |= _trials(place, sweep)
    for path in sorted(out.glob("*.csv")):
        found[path.name] = _digest(path.read_bytes())
    return found


def _trials(store: Store, sweep: str) -> dict[str, str]:
    try:
        rows = load_sweep(store, sweep).rows
    except NotThereError:
        return {}
    return {
        f"{sweep}:{row.number}": repr(
            (row.state, row.score, row.params, [epoch.score for epoch in row.curve])
        )
        for row in rows
    }


def _digests(store: Store) -> dict[str, str]:
    """The folders of a store by their digests, which are also of files with times in them."""
    found = {}
    groups = (ENCODERS, FEATURES, MODELS, SWEEPS)
    folders = [f"{group}/{name}" for group in groups for name in store.names(group)]
    for folder in [DATASET, *folders]:
        if manifest := find_manifest(store, folder):
            found[manifest.digest()] = folder
            found[hash_json(manifest.sources)] = f"sources of {folder}"
    return found


def _content(store: Store, key: str, names_of: Mapping[str, str]) -> str:
    if key.endswith(REPORT):
        # It says when it was written; its numbers are in the CSV files.
        return "a page" if store.read_bytes(key).rstrip().endswith(b"</html>") else "no page"
    if not key.endswith(".json"):
        return _digest(store.read_bytes(key))
    # Without its checksum, which is also of the times in it.
    value = read_sealed(store, key)
    if key.endswith(MANIFEST):
        folder = key.removesuffix(MANIFEST)
        for entry in value["files"]:
            of = FileEntry.of(entry["name"], store.read_bytes(folder + entry["name"]))
            if of.model_dump() != entry:
                return f"{entry['name']} is not what the manifest says"
            # Those of files with times in them differ.
            del entry["sha256"], entry["size"]
            if entry["name"].startswith(f"{STUDY}/"):
                # How many entries the journal has: an interrupted sweep's has more.
                entry["name"] = STUDY
    return _digest(json.dumps(_without_times(value, names_of)).encode())


def _without_times(value: Any, names_of: Mapping[str, str]) -> Any:
    """JSON without times, and with folders' names in place of their digests."""
    if isinstance(value, dict):
        kept = {key: of for key, of in value.items() if key not in _TIMES}
        return {key: _without_times(of, names_of) for key, of in kept.items()}
    if isinstance(value, list):
        return [_without_times(one, names_of) for one in value]
    return names_of.get(value, value) if isinstance(value, str) else value


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True)
class Reference:
    """A step that nothing disturbed: what it leaves, and how long it takes."""

    facts: Facts
    seconds: float


@dataclass(frozen=True)
class Judged:
    """A step's work beside the undisturbed one's, one line each."""

    lost: list[str]
    doubled: list[str]
    other: list[str]

    @property
    def problems(self) -> list[str]:
        return [
            *(f"lost: {name}" for name in self.lost),
            *(f"doubled or left over: {name}" for name in self.doubled),
            *(f"other bytes: {name}" for name in self.other),
        ]


def judge(got: Facts, wanted: Facts) -> Judged:
    """What is not there, what is there beside, and what is not the same."""
    return Judged(
        sorted(wanted.keys() - got.keys()),
        sorted(got.keys() - wanted.keys()),
        sorted(name for name in got.keys() & wanted.keys() if got[name] != wanted[name]),
    )


class References:
    """Undisturbed runs, each made when it is first asked for, in a folder of the disk.

    Args:
        base: Folder that filled.fill has filled.
    """

    def __init__(self, base: Path) -> None:
        self.base = base
        self._found: dict[str, Reference] = {}

    def of(self, name: str) -> Reference:
        """That of a step.

        Raises:
            RuntimeError: It fails although nothing disturbs it.
        """
        if name not in self._found:
            with run_place() as (folder, out):
                store = Store(str(folder / "store"))
                bring(Store(str(self.base / "store")), name, store)
                place = Place(
                    folder, None, store, command=words_of(name, self.base, out, store.uri)
                )
                began = time.monotonic()
                try:
                    command = place.give_command()
                    if command.wait(600):
                        raise RuntimeError(f"{name}, undisturbed: {command.complaint[-500:]}")
                    seconds = time.monotonic() - began
                finally:
                    place.end()
                self._found[name] = Reference(facts_of(name, store, out), seconds)
        return self._found[name]


@contextmanager
def run_place(keep: bool = False) -> Iterator[tuple[Path, Path]]:
    """A folder for a run and the folder in it that commands write to."""
    folder = Path(tempfile.mkdtemp(prefix="rd-"))
    (folder / "out").mkdir()
    try:
        yield folder, folder / "out"
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
