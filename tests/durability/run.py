"""The tables of durability: what is killed, refused, cut and mutated, and what came of it.

    python -m tests.durability.run sweeps --runs 28 --seed 1     a sweep, in depth
    python -m tests.durability.run kills --runs 60 --seed 1      every command of the line
    python -m tests.durability.run wires --runs 60 --seed 1      the same by a wire with faults
    python -m tests.durability.run texts --runs 10000 --seed 1   mutated texts that people hand in
    python -m tests.durability.run stored --runs 1000 --seed 1   damaged files of a store

Ends with 1 if anything was lost, doubled or wrong.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import ray

from tests.durability import filled, kills, mutation, wires
from tests.durability.case import Outcome, run_case
from tests.durability.faults import KINDS, Kind
from tests.durability.stored import run_stored
from tests.durability.texts import run_texts

RUNS = {"sweeps": 28, "kills": 60, "wires": 60, "texts": 10_000, "stored": 1_000}
_HEADER = (
    f"{'run':>3} {'killed':<7}{'':<18}{'events':>6} {'done':>4} {'live':>4} {'exits':<9}"
    f"{'lost':>4} {'dbl':>3} {'RUN':>3} {'bud':>3} {'rung':>4} {'file':>4} {'FAIL':>4}"
    f" {'resumed':>7} {'s':>4}"
)
_LEGEND = """\
events: things that had happened in the sweep; done, live: trials ended and running at that moment;
exits: of the commands one after the other (K: killed); lost: trials that had ended and are not as
they were; dbl: parameters that occur twice; RUN: rows left RUNNING; bud: trials with other epochs
than they should have, or one recorded twice; rung: comparisons other than ASHA's; file: models
that are missing, don't verify or don't give the leaderboard's score; FAIL: trials that failed;
resumed: trials that went on from their checkpoint, of those that had one."""


def line(number: int, outcome: Outcome) -> str:
    """A run as a row of the table."""
    exits = " ".join("K" if code is None else str(code) for code in outcome.exits)
    begin = (
        f"{number:>3} {outcome.kind:<7}{outcome.damage:<18}{outcome.events:>6} "
        f"{outcome.finished:>4} {outcome.running:>4} {exits:<9}"
    )
    verdict = outcome.verdict
    if verdict is None:
        return f"{begin}not finished"
    return (
        f"{begin}{verdict.lost:>4} {verdict.doubled:>3} {verdict.running:>3} {verdict.budgets:>3} "
        f"{verdict.rungs:>4} {verdict.files:>4} {verdict.failed:>4} "
        f"{f'{verdict.resumed}/{verdict.checkpointed}':>7} {outcome.seconds:>4.0f}"
    )


def summary(outcomes: Sequence[Outcome]) -> str:
    """All runs in one line."""
    verdicts = [outcome.verdict for outcome in outcomes if outcome.verdict is not None]
    return (
        f"{len(outcomes)} runs, {len(verdicts)} finished: {sum(v.lost for v in verdicts)} trials "
        f"lost, {sum(v.doubled for v in verdicts)} doubled, {sum(v.running for v in verdicts)} "
        f"RUNNING, {sum(v.budgets for v in verdicts)} wrong budgets, "
        f"{sum(v.rungs for v in verdicts)} wrong rungs, {sum(v.files for v in verdicts)} wrong "
        f"files, {sum(v.failed for v in verdicts)} FAIL, {sum(v.resumed for v in verdicts)} of "
        f"{sum(v.checkpointed for v in verdicts)} resumed from their checkpoint"
    )


def show(number: int, outcome: Outcome) -> None:
    """A run's row, its problems, and what a command said that did not end well."""
    print(line(number, outcome), flush=True)
    for problem in outcome.problems:
        print(f"      ! {problem}")
    for index, complaint in enumerate(outcome.complaints):
        if outcome.exits[index : index + 1] not in ([0], [None]):
            for text in complaint.splitlines()[:12]:
                print(f"      command {index + 1}: {text[:180]}", flush=True)


def run_sweeps(number: int, seed: int, kind: Kind | None, keep: bool) -> bool:
    """Print the table of one sweep that is hit; whether nothing was wrong."""
    print(_HEADER, flush=True)
    outcomes = []
    for index in range(number):
        outcomes.append(run_case(kind or KINDS[index % len(KINDS)], seed + index, keep))
        show(index + 1, outcomes[-1])
    print(_LEGEND)
    print(summary(outcomes))
    return not any(outcome.problems for outcome in outcomes)


def main() -> int:
    """Run one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", choices=RUNS)
    parser.add_argument("--runs", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help=f"{', '.join(KINDS)}; or, of kills, a command")
    parser.add_argument("--keep", action="store_true", help="leave the runs' folders")
    parser.add_argument("--base", type=Path, help="folder of the filled store, to be used again")
    options = parser.parse_args()
    number = options.runs or RUNS[options.table]
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # What a run has started is ended also when this is.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if options.table == "sweeps":
        return int(not run_sweeps(number, options.seed, options.only, options.keep))
    if options.table == "texts":
        return int(not mutation.show(run_texts(number, options.seed)))
    with tempfile.TemporaryDirectory(prefix="rb-") as own:
        base = options.base or Path(own)
        filled.fill(base)
        ray.shutdown()
        if options.table == "stored":
            return int(not mutation.show(run_stored(number, options.seed, base)))
        if options.table == "wires":
            return int(not wires.run_wires(number, options.seed, base, options.only))
        return int(not kills.run_kills(number, options.seed, base, options.only, options.keep))


if __name__ == "__main__":
    sys.exit(main())
