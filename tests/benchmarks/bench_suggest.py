"""What one more decision costs in a sweep of 100, 1,000 and 10,000 finished trials.

    python -m tests.benchmarks.bench_suggest [--quick]

Simulated results of VA's space in the real study, in a folder and on a local S3 server:
milliseconds of `next` (a suggestion), of `report` (an epoch that decides nothing, or one at a
rung, where the pruner compares all trials) and of `complete`; seconds until a driver has opened
the study, a reader has loaded the sweep (`trials`), a watched page has taken up one more trial and
is drawn (`again`, with its requests and KB read), and all entries are merged into one object; and
what the driver then holds in memory. Each line is measured in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from raffect.store import Store
from raffect.sweep.leaderboard import SweepReader, SweepView
from raffect.testing.s3 import environment, start_s3_server
from raffect.web.app import _render
from raffect.web.live import LiveSweep
from raffect.web.view import SweepPage
from tests.benchmarks import simulated
from tests.benchmarks.measuring import resident_mb, timed

ASKED = 8
"""Trials that are asked for; 8 epochs of each are reported, of which the fifth is a rung."""
DECISIONS = ("next", "report", "rung", "complete")


def measure(uri: str, trials: int) -> dict[str, Any]:
    """Figures of one filled store, in this process."""
    store = Store(uri)
    before = resident_mb()
    opened, study = timed(simulated.open_sweep, store, trials + ASKED)
    held = resident_mb() - before
    times: dict[str, list[float]] = {name: [] for name in DECISIONS}
    running = []
    for _ in range(ASKED):
        seconds, given = timed(study.next)
        times["next"].append(seconds)
        running.append(given)
    for better, assignment in enumerate(running, 1):
        epochs = simulated.history([better + 0.001 * n for n in range(8)])
        facts = simulated.facts(assignment.number)
        for epoch in range(1, 8):
            seconds, stop = timed(study.report, assignment.number, epochs[:epoch], facts)
            assert not stop
            times["rung" if epoch == simulated.RUNGS[0] else "report"].append(seconds)
        seconds, _ = timed(study.complete, assignment.number, epochs)
        times["complete"].append(seconds)
    read = Reading(store)
    reader = SweepReader(store, simulated.SWEEP)
    loaded, view = timed(reader.read)
    assert len(view.rows) == trials + ASKED
    whole = read.take()
    draw(view)
    study.enqueue([{}])
    assignment = study.next()
    assert assignment is not None
    study.complete(assignment.number, simulated.history([0.1] * 8))
    read.take()
    again, view = timed(lambda: draw(reader.read()))
    assert len(view.rows) == trials + ASKED + 1
    requests, kb = read.take()
    merged, _ = timed(study.close)
    found = {"open": opened, "load": loaded, "again": again, "merge": merged}
    counts = {"requests": requests, "kb": kb, "whole_kb": whole[1]}
    return {**found, **counts, "held": held, "times": times}


class Reading:
    """Counts what a store is asked for, and the KB of the answers."""

    def __init__(self, store: Store) -> None:
        self._requests, self._bytes = 0, 0
        reach = store.reach

        def counted(action: Callable[[], Any], *args: Any, **options: Any) -> Any:
            found = reach(action, *args, **options)
            self._requests += 1
            self._bytes += len(found) if isinstance(found, bytes) else 0
            return found

        store.reach = counted  # type: ignore[method-assign]

    def take(self) -> tuple[int, float]:
        """Requests and KB since it was asked."""
        found = self._requests, self._bytes / 1e3
        self._requests, self._bytes = 0, 0
        return found


def draw(view: SweepView) -> SweepView:
    """The page's live part as HTML."""
    page = SweepPage(LiveSweep(view.name, view, "running"), view, "store")
    _render("sweep.html", whole=False, title="va", live=page.live, sweep=page, store="store")
    return view


def show(where: str, trials: int, found: dict[str, Any]) -> None:
    cells = [
        f"{1e3 * median(times):7.1f}/{1e3 * max(times):6.1f}" for times in found["times"].values()
    ]
    rest = " ".join(f"{found[name]:6.2f}" for name in ("open", "load", "again", "merge"))
    read = f"{found['requests']:8d} {found['kb']:6.0f}/{found['whole_kb']:6.0f}"
    print(f"{where:6s} {trials:7,d} {' '.join(cells)} {rest} {read} {found['held']:5.0f}")


def run(where: str, uri: str, trials: int) -> None:
    """Measure in a new process."""
    module = [sys.executable, "-m", "tests.benchmarks.bench_suggest"]
    options = ["--measure", uri, "--trials", str(trials)]
    done = subprocess.run([*module, *options], stdout=subprocess.PIPE, text=True, check=True)
    show(where, trials, json.loads(done.stdout))


def copy(folder: Path, uri: str) -> str:
    store = Store(uri)
    for path in folder.rglob("*.*"):
        store.write_bytes(str(path.relative_to(folder)), path.read_bytes())
    return uri


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="50 and 200 trials")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--trials", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.measure:
        print(json.dumps(measure(chosen.measure, chosen.trials)))
        return
    names = " ".join(f"{name:>14s}" for name in DECISIONS)
    print("decisions in ms, median/longest; then seconds; KB of `again`/`load`; MB of the driver")
    print(f"store   trials {names}   open   load  again  merge requests       KB read    MB")
    server = start_s3_server()
    try:
        with environment(server.environment()), tempfile.TemporaryDirectory() as folder:
            for trials in [50, 200] if chosen.quick else [100, 1_000, 10_000]:
                place = Path(folder) / str(trials)
                simulated.fill(Store(str(place)), trials)
                bucket = copy(place, f"s3://{server.new_bucket()}/bench")
                run("folder", str(place), trials)
                run("S3", bucket, trials)
    finally:
        server.stop()


if __name__ == "__main__":
    main()
