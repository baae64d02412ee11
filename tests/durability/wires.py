"""Every command of the line on a wire to S3 that harms requests, and what came of it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from raffect.store import Store
from raffect.store.retry import PATIENCE_S, REQUEST_S
from raffect.testing.s3 import environment, start_s3_server
from tests.durability.case import COMMAND_S
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
from tests.durability.proxy import Fault, Wire, wire_to

SHARES = (0.01, 0.05, 0.2)
"""Of all requests."""
FAULTS: tuple[Fault, ...] = ("500", "503", "reset", "cut", "etag", "stall", "403")
STEPS_ON_S3 = [name for name in STEPS if name not in ON_DISK]
_STALL_S = 21.0
"""A stalled connection costs the client's time-out of 20 s."""
_PAUSE_S = 6.5
"""The longest pause before another attempt."""
_AWAY_S = REQUEST_S + PATIENCE_S
_SLOWER = 3.0
"""Beside other work on the machine a command takes so many times what it took before."""


@dataclass
class Wired:
    """A run of one command.

    Attributes:
        requests: That passed the wire.
        injected: Faults that they met.
        code: The command's exit.
        again: That of the same command without faults, where it had refused; None where not.
        seconds: Of the command.
        promised_s: The most that it may take: each fault costs an attempt and a pause, and a
            store that stays away is given up after a time that messages name.
        files: How many files and trials were compared.
    """

    step: str
    share: float
    requests: int = 0
    injected: int = 0
    code: int | None = None
    again: int | None = None
    seconds: float = 0.0
    promised_s: float = 0.0
    files: int = 0
    judged: Judged | None = None
    complaint: str = ""
    problems: list[str] = field(default_factory=list)


def run_wired(step: str, share: float, seed: int, references: References) -> Wired:
    """Make a run; what goes wrong in it is in what is returned."""
    wired = Wired(step, share)
    try:
        reference = references.of(step)
        server = start_s3_server()
        try:
            with environment(server.environment()), run_place() as (folder, out):
                store = Store(f"s3://{server.new_bucket()}/store")
                bring(Store(str(references.base / "store")), step, store)
                words = words_of(step, references.base, out, store.uri)
                with wire_to(server.endpoint) as wire:
                    place = Place(folder, server, store, None, words, wire.endpoint)
                    try:
                        _run(wired, place, wire, seed, reference)
                        _compare(wired, store, out, reference)
                    finally:
                        place.end()
        finally:
            server.stop()
    except Exception as error:
        wired.problems.append(f"{type(error).__name__}: {error}")
    return wired


def _run(wired: Wired, place: Place, wire: Wire, seed: int, reference: Reference) -> None:
    wire.stall_s = _STALL_S
    wire.inject_at_random(wired.share, seed, FAULTS)
    command = place.give_command()
    began = time.monotonic()
    try:
        wired.code = command.wait(COMMAND_S)
    finally:
        wired.seconds = time.monotonic() - began
        wire.inject_at_random(0)
        stalls = wire.injected["stall"]
        wired.requests, wired.injected = len(wire.requests), wire.injected.total()
        wired.complaint = command.complaint
    wired.promised_s = (
        _SLOWER * reference.seconds + stalls * _STALL_S + wired.injected * _PAUSE_S
        + _AWAY_S
    )  # fmt: skip
    if wired.code not in (0, 2) or "Traceback" in wired.complaint:
        wired.problems.append(f"exit {wired.code}: {wired.complaint[-400:]}")
    if wired.seconds > wired.promised_s:
        wired.problems.append(f"took {wired.seconds:.0f} s, {wired.promised_s:.0f} at most")
    if wired.code != 0:
        again = place.give_command()
        wired.again = again.wait(COMMAND_S)
        if wired.again:
            wired.problems.append(f"given again: exit {wired.again}: {again.complaint[-400:]}")


def _compare(wired: Wired, store: Store, out: Path, reference: Reference) -> None:
    facts = facts_of(wired.step, store, out)
    wired.files = len(facts)
    wired.judged = judge(facts, reference.facts)
    wired.problems += wired.judged.problems


HEADER = (
    f"{'run':>3} {'command':<17}{'share':>6}{'requests':>9}{'faults':>7} {'exits':<6}"
    f"{'lost':>5}{'other':>6}{'of':>4}{'s':>5}{'promised':>9}"
)
LEGEND = f"""\
share: of the requests that meet a fault ({", ".join(FAULTS)});
exits: of the command, and where it refused (2) of the same without faults;
lost, other: files and trials that are not there, or not those of an undisturbed
run (also: left over), of so many; promised: {_SLOWER:g} times the undisturbed run,
{_STALL_S:g} s for each stall, {_PAUSE_S:g} s for each fault, {_AWAY_S:g} s, after which
a store that stays away is given up."""


def line(number: int, wired: Wired) -> str:
    """A run as a row of the table."""
    exits = " ".join(str(code) for code in (wired.code, wired.again) if code is not None)
    begin = (
        f"{number:>3} {wired.step:<17}{wired.share:>6.0%}{wired.requests:>9}{wired.injected:>7}"
        f" {exits:<6}"
    )
    if wired.judged is None:
        return f"{begin} not finished"
    other = len(wired.judged.other) + len(wired.judged.doubled)
    return (
        f"{begin}{len(wired.judged.lost):>5}{other:>6}{wired.files:>4}{wired.seconds:>5.0f}"
        f"{wired.promised_s:>9.0f}"
    )


def run_wires(number: int, seed: int, base: Path, wanted: str | None) -> bool:
    """Print the table; whether nothing was wrong. `wanted`: only this command."""
    assert set(FAULTS) <= set(get_args(Fault))
    references = References(base)
    steps = [step for step in STEPS_ON_S3 if wanted in (None, step)]
    print(HEADER, flush=True)
    found = []
    for index in range(number):
        share = SHARES[index // len(steps) % len(SHARES)]
        wired = run_wired(steps[index % len(steps)], share, seed + index, references)
        found.append(wired)
        print(line(index + 1, wired), flush=True)
        for problem in wired.problems[:12]:
            print(f"      ! {problem}")
        if wired.code:
            print("\n".join(f"      {text[:74]}" for text in wired.complaint.splitlines()[-8:]))
    print(LEGEND)
    wrong = [wired for wired in found if wired.problems]
    codes = [wired.code for wired in found]
    print(
        f"{len(found)} runs, {sum(wired.injected for wired in found)} faults of"
        f" {sum(wired.requests for wired in found):,} requests: {codes.count(0)} done at once,"
        f" {codes.count(2)} refused with a message, {len(wrong)} wrong",
        flush=True,
    )
    return not wrong
