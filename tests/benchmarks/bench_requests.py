"""How many requests a sweep sends to S3: per trial by kind, whatever its size, and to be listed.

    python -m tests.benchmarks.bench_requests

Two sweeps of different sizes run through a proxy that counts; a line through both gives what a
trial costs and what is fixed. The lease is counted apart, as it costs by the time. Then `trials`
lists both.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from raffect.affwild2.tasks import Task
from raffect.context import Context
from raffect.store import Store
from raffect.store.layout import CHECKPOINT, LEASE, SEEDS, STUDY, TENSORBOARD, TRIALS
from raffect.sweep.settings import SweepSettings
from raffect.sweep.tune import tune
from raffect.testing.s3 import environment, start_s3_server
from tests.durability import driver
from tests.durability.proxy import Request, wire_to
from tests.sweep import tiny

EPOCHS = 9


def kind_of(request: Request) -> str:
    """What a request is about, and what it does."""
    url = urlsplit(request.path)
    query = parse_qs(url.query, keep_blank_values=True)
    listed = query.get("prefix", [""])[0] if "list-type" in query else ""
    key = unquote(url.path) + "/" + listed
    kinds = (CHECKPOINT, TENSORBOARD, LEASE, STUDY, SEEDS, TRIALS)
    about = next((kind for kind in kinds if f"/{kind}" in key), "other")
    return f"{about} {'LIST' if 'list-type' in query else request.method}"


def table(title: str, counts: dict[str, float]) -> None:
    """Print counts by kind, and their sum."""
    print(f"{title}: {sum(counts.values()):.1f}")
    for kind, count in sorted(counts.items()):
        if abs(count) >= 0.05:
            print(f"  {kind:<20}{count:6.1f}")


def of_lease(kinds: Iterable[str]) -> list[str]:
    """Those of the lease."""
    return [kind for kind in kinds if kind.startswith(LEASE)]


def main() -> None:
    """Run the sweeps and print what they cost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--all", action="store_true", help="also print the fixed requests")
    parser.add_argument("--sizes", type=int, nargs=2, default=(8, 24), help="trials")
    options = parser.parse_args()
    sizes: Sequence[int] = options.sizes
    server = start_s3_server()
    folder = Path(tempfile.mkdtemp())
    (folder / "space.py").write_text(driver.SPACE, encoding="utf-8")
    try:
        with wire_to(server.endpoint) as wire:
            values = {**server.environment(), "AWS_ENDPOINT_URL": wire.endpoint}
            with environment(values):
                store = tiny.fill(Store(f"s3://{server.new_bucket()}/store"), (Task.VA,))
                found = []
                for size in sizes:
                    settings = SweepSettings(
                        trials=size, space=str(folder / "space.py"), concurrent=2
                    )
                    wire.requests.clear()
                    began = time.monotonic()
                    base = tiny.base(optimiser__epochs=EPOCHS)
                    fresh = Store(store.uri)
                    tune(fresh, Task.VA, "clip", f"s{size}", settings, base, context=Context())
                    took = time.monotonic() - began
                    seen = list(wire.requests)
                    counts = Counter(map(kind_of, seen))
                    lease = sum(counts.pop(kind) for kind in of_lease(list(counts)))
                    print(f"{size} trials: {counts.total()} requests, {took:.0f} s, lease {lease}")
                    found.append(counts)
                    if options.all and size == sizes[0]:
                        for one in seen:
                            print("   ", one)
                small, large = found
                kinds = {*small, *large}
                per = {k: (large[k] - small[k]) / (sizes[1] - sizes[0]) for k in kinds}
                table("per trial", per)
                table("fixed", {k: small[k] - sizes[0] * per[k] for k in kinds})
                wire.requests.clear()
                command = [sys.executable, "-m", "raffect", "trials", "--store", store.uri]
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
                counts = Counter(map(kind_of, wire.requests))
                table(
                    f"`trials` of {len(sizes)} sweeps, a sweep",
                    {k: n / len(sizes) for k, n in counts.items()},
                )
    finally:
        server.stop()


if __name__ == "__main__":
    main()
