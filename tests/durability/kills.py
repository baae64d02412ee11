"""Every command of the line, hit at a random moment, given again until done, and compared."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

from raffect.store import Store
from raffect.testing.s3 import environment, start_durable_s3_server
from tests.durability import faults
from tests.durability.case import finish
from tests.durability.faults import Fault, Kind, Nodes
from tests.durability.line import (
    ON_DISK,
    STEPS,
    Judged,
    Reference,
    References,
    bring,
    facts_of,
    judge,
    run_place,
    words_of,
)
from tests.durability.place import Place

MOMENT = (0.1, 0.9)
"""When a command is hit, as a share of what it takes undisturbed."""
MISSED = "ended before"
"""Beside other work the machine was slower when it ran undisturbed."""
FAULTS: dict[Kind, Fault] = {
    "driver": faults.kill_driver, "actor": faults.kill_actor, "s3": faults.kill_s3,
}  # fmt: skip


def _kinds(name: str) -> list[Kind]:
    """What can be hit of a step; nodes where its work is done by several."""
    found: list[Kind] = ["driver"]
    found += ["actor"] if STEPS[name].on_ray else []
    found += [] if name in ON_DISK else ["s3"]
    return found + (["node"] if name in ("prepare", "finetune", "extract", "tune") else [])


CASES: list[tuple[str, Kind]] = [
    (name, kind)
    for kinds in zip_longest(*([(n, k) for k in _kinds(n)] for n in STEPS))
    for name, kind in filter(None, kinds)
]
"""Each step by each fault, all steps once before one comes again."""


@dataclass
class Hit:
    """A run.

    Attributes:
        damage: What exactly was killed.
        at_s: When, in seconds of the command.
        exits: Exit codes of the commands; None for the one that was killed.
        files: How many files and trials were compared.
        judged: How it came out; None when it was never finished.
        problems: What went wrong, one line each.
    """

    step: str
    kind: Kind
    damage: str = ""
    at_s: float = 0.0
    exits: list[int | None] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    files: int = 0
    judged: Judged | None = None
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)


def run_hit(step: str, kind: Kind, seed: int, references: References, keep: bool = False) -> Hit:
    """Make a run; what goes wrong in it is in what is returned."""
    hit = Hit(step, kind)
    rng = random.Random(f"{step}-{kind}-{seed}")
    try:
        reference = references.of(step)
        began = time.monotonic()
        with run_place(keep) as (folder, out):
            _run(hit, folder, out, rng, references.base, reference)
            if keep:
                hit.problems.append(f"kept in {folder}")
        hit.seconds = time.monotonic() - began
    except Exception as error:
        hit.problems.append(f"{type(error).__name__}: {error}")
    return hit


def _run(
    hit: Hit, folder: Path, out: Path, rng: random.Random, base: Path, reference: Reference
) -> None:
    (folder / "s3").mkdir()
    server = start_durable_s3_server(folder / "s3")
    store = Store(f"s3://{server.new_bucket()}/store")
    place = Place(folder, server, store, command=words_of(hit.step, base, out, store.uri))
    try:
        with environment(server.environment()):
            bring(Store(str(base / "store")), hit.step, store)
            surroundings: AbstractContextManager[Nodes | None] = (
                faults.cluster(place, 2) if hit.kind == "node" else nullcontext()
            )
            with surroundings as nodes:
                command = place.give_command()
                began = time.monotonic()
                _wait(command.process.poll, rng.uniform(*MOMENT) * reference.seconds)
                hit.at_s = time.monotonic() - began
                if command.process.poll() is None:
                    fault = nodes.kill if nodes else FAULTS[hit.kind]
                    hit.damage = fault(place, rng)
                else:
                    hit.damage = MISSED
                finish(place, command, hit.exits)
            facts = facts_of(hit.step, store, out)
            hit.files = len(facts)
            hit.judged = judge(facts, reference.facts)
            hit.problems += hit.judged.problems
    finally:
        hit.complaints = [command.complaint for command in place.commands]
        place.end()


def _wait(ended: Callable[[], int | None], seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until and ended() is None:
        time.sleep(0.02)


HEADER = (
    f"{'run':>3} {'command':<17}{'killed':<19}{'at s':>5} {'exits':<8}{'lost':>5}{'doubled':>8}"
    f"{'other':>6}{'of':>4}{'s':>5}"
)
LEGEND = """\
at s: when it was hit; exits: of the commands one after the other (K: killed);
lost: files and trials of an undisturbed run that are not there; doubled: those
that are there beside them; other: not the same bytes (times in JSON apart);
of: files and trials compared."""


def line(number: int, hit: Hit) -> str:
    """A run as a row of the table."""
    exits = " ".join("K" if code is None else str(code) for code in hit.exits)
    begin = f"{number:>3} {hit.step:<17}{hit.damage:<19}{hit.at_s:>5.1f} {exits:<8}"
    if hit.judged is None:
        return f"{begin} not finished"
    return (
        f"{begin}{len(hit.judged.lost):>5}{len(hit.judged.doubled):>8}{len(hit.judged.other):>6}"
        f"{hit.files:>4}{hit.seconds:>5.0f}"
    )


def show(number: int, hit: Hit) -> None:
    """A run's row, its problems, and what a command said that did not end well."""
    print(line(number, hit), flush=True)
    for problem in hit.problems[:12]:
        print(f"      ! {problem}")
    for index, complaint in enumerate(hit.complaints):
        if hit.exits[index : index + 1] not in ([0], [None]):
            for text in complaint.splitlines()[-12:]:
                print(f"      command {index + 1}: {text[:180]}", flush=True)


def summary(hits: list[Hit]) -> str:
    """All runs in one line."""
    judged = [hit.judged for hit in hits if hit.judged is not None]
    missed = sum(hit.damage == MISSED for hit in hits)
    return (
        f"{len(hits)} runs, {missed} not hit in time, {len(judged)} finished:"
        f" {sum(len(j.lost) for j in judged)} lost,"
        f" {sum(len(j.doubled) for j in judged)} doubled, {sum(len(j.other) for j in judged)}"
        f" with other bytes, of {sum(hit.files for hit in hits):,} compared"
    )


def run_kills(number: int, seed: int, base: Path, wanted: str | None, keep: bool) -> bool:
    """Print the table; whether nothing was wrong. `wanted`: only steps or kinds of this name."""
    references = References(base)
    cases = [case for case in CASES if wanted in (None, *case)]
    print(HEADER, flush=True)
    hits = []
    for index in range(number):
        hits.append(run_hit(*cases[index % len(cases)], seed + index, references, keep))
        show(index + 1, hits[-1])
    print(LEGEND)
    print(summary(hits), flush=True)
    return not any(hit.problems for hit in hits)
