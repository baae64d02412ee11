"""Damaged files of a store: each command that reads one gives the right result, or refuses.

Which files a command reads is seen while it runs undisturbed, not written down here.
"""

from __future__ import annotations

import hashlib
import io
import random
import shutil
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raffect.cli.app import run
from raffect.store import Store
from tests.durability.filled import STORE, TREE
from tests.durability.line import STEPS, TEMPORAL, facts_of
from tests.durability.mutation import ExitError, Tally, WrongValueError, damage, mutate

MADE = STEPS["train"].makes[0]
"""What commands make in the store; the ensemble's, too."""
_TEXTS = (".json", ".jsonl")
COMMANDS = {
    "check": "check --json",
    "features": "features --json",
    "trials": "trials --json",
    "leaderboard": "trials va --json",
    "report": "report va -q --out {out}/report.html --csv {out}/numbers",
    "predict a model": "predict models/va -q --split validation --out {out}/p.csv",
    "predict a trial": "predict va:1 -q --split validation --out {out}/p.csv",
    "predict an ensemble": "predict mean -q --split validation --out {out}/p.csv",
    "predict crops": "predict models/va -q --frames {crops} --out {out}/p.csv",
    "train": f"train va -q --name new --features clip {TEMPORAL}",
    "ensemble": "ensemble va -q --top 2 --method mean --name new",
}
"""Commands that read a store and need no engine."""


class Opened:
    """Files below a folder that this process opens, by Python's own audit."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        self._found: set[str] | None = None
        sys.addaudithook(self._hear)

    def _hear(self, event: str, details: tuple[Any, ...]) -> None:
        if self._found is None or event != "open" or details[1] not in ("r", "rb"):
            return
        if str(details[0]).startswith(self._folder):
            self._found.add(str(details[0]))

    @contextmanager
    def heard(self) -> Iterator[set[str]]:
        """What is opened to be read within a block."""
        self._found = found = set()
        try:
            yield found
        finally:
            self._found = None


@dataclass(frozen=True)
class Told:
    """What came of a command."""

    code: int
    output: str
    complaint: str


def give(command: str, store: Store, folder: Path) -> Told:
    """Run a command in this process; its output is what it prints and writes."""
    out, made = folder / "out", folder / STORE / MADE
    shutil.rmtree(out, ignore_errors=True)
    shutil.rmtree(made, ignore_errors=True)
    out.mkdir()
    crops = min((folder / TREE / "cropped_aligned").iterdir())
    words = [word.format(out=out, crops=crops) for word in command.split()]
    printed, complaint = io.StringIO(), io.StringIO()
    with redirect_stdout(printed), redirect_stderr(complaint):
        code = run([*words, "--store", store.uri])
    files = {str(path): hashlib.sha256(path.read_bytes()).hexdigest()
             for path in sorted(out.rglob("*.csv"))}  # fmt: skip
    files |= facts_of("train", store, out) if made.exists() and not code else {}
    return Told(code, f"{printed.getvalue()}{files}", complaint.getvalue())


@dataclass(frozen=True)
class Reading:
    """A command undisturbed: what comes of it, and the files that it reads."""

    told: Told
    files: Sequence[str]


def read_all(store: Store, folder: Path) -> dict[str, Reading]:
    """All commands as they should be.

    Raises:
        RuntimeError: One fails, or says something else when it is given again.
    """
    opened = Opened(Path(store.uri))
    found = {}
    for name, command in COMMANDS.items():
        with opened.heard() as files:
            told = give(command, store, folder)
        again = give(command, store, folder)
        if told.code or told.output != again.output:
            raise RuntimeError(f"{name}: {told}\n{again}")
        found[name] = Reading(told, sorted(file for file in files if f"/{MADE}/" not in file))
    return found


def run_stored(number: int, seed: int, base: Path) -> dict[str, Tally]:
    """Damage so many files of a filled store, one at a time; by command that reads them."""
    tallies: dict[str, Tally] = defaultdict(Tally)
    store = Store(str(base / STORE))
    readings = read_all(store, base)
    for index in range(number):
        name = list(COMMANDS)[index % len(COMMANDS)]
        rng = random.Random(f"{name}-{seed}-{index}")
        path = Path(rng.choice(readings[name].files))
        whole = path.read_bytes()
        is_text = path.suffix in _TEXTS and rng.random() < 0.5
        harmed = (mutate if is_text else damage)(whole, rng)
        given = f"{path.relative_to(store.uri)} {_difference(whole, harmed)}"
        path.write_bytes(harmed)
        try:
            tallies[name].count(given, use(COMMANDS[name], store, base, readings[name]))
        finally:
            path.write_bytes(whole)
    return dict(tallies)


def use(command: str, store: Store, place: Path, reading: Reading) -> Callable[[], bool]:
    """Whether a command gives the right result: False where it refuses, or says that what is
    missing is unfinished; an error otherwise.
    """

    def attempt() -> bool:
        told = give(command, store, place)
        if told.code == 2 and told.complaint and "Traceback" not in told.complaint:
            return False
        if told.code:
            raise ExitError(told.complaint)
        if '"finished": false' in told.output:
            return False
        if told.output != reading.told.output:
            raise WrongValueError(f"{command}: other output")
        return True

    return attempt


def _difference(whole: bytes, harmed: bytes) -> str:
    """Where two contents begin to differ, for a message."""
    pairs = enumerate(zip(whole, harmed, strict=False))
    at = next((i for i, (a, b) in pairs if a != b), min(len(whole), len(harmed)))
    begin = max(0, at - 20)
    return (
        f"byte {at} of {len(whole)}: {whole[begin : at + 20]!r} -> {harmed[begin : at + 20]!r}"
        f" ({len(harmed)} bytes)"
    )
