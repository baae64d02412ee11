"""Kill drivers, trial actors, nodes and the S3 server at random moments; print what came of it.

    python -m tests.durability.run --runs 28 --seed 1
    python -m tests.durability.run --runs 4 --seed 7 --kind s3

Ends with 1 if anything was lost, doubled or wrong.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence

from tests.durability.case import Outcome, run_case
from tests.durability.faults import KINDS

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


def main() -> int:
    """Run them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=28)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=KINDS)
    parser.add_argument("--keep", action="store_true", help="leave the runs' folders")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # What a run has started is ended also when this is.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    print(_HEADER, flush=True)
    outcomes = []
    for number in range(options.runs):
        kind = options.kind or KINDS[number % len(KINDS)]
        outcomes.append(run_case(kind, options.seed + number, options.keep))
        show(number + 1, outcomes[-1])
    print(_LEGEND)
    print(summary(outcomes))
    return int(any(outcome.problems for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
