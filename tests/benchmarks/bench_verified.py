"""Seconds to read 1 GB of features, verified and as before: each file read whole, then parsed.

.venv/bin/python -m tests.benchmarks.bench_verified
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raffect.store import DATASET, Stage, Store
from raffect.store.features import to_parquet
from raffect.temporal import rows

FILES, ROWS, DIM = 16, 40_000, 768


def fill(store: Store) -> list[str]:
    stage = Stage(store, "features/clip", "features", {}, {DATASET: "d"})
    values = np.random.default_rng(0).normal(size=(ROWS, DIM)).astype(np.float16)
    frames = np.arange(1, ROWS + 1, dtype=np.int32)
    names = [f"v{number}" for number in range(FILES)]
    parts = [
        stage.write_part(f"{n:05d}.parquet", to_parquet([name] * ROWS, frames, values + n))
        for n, name in enumerate(names)
    ]
    stage.finish(parts, {"rows": FILES * ROWS, "dim": DIM})
    return names


def best(read: Callable[[], object]) -> float:
    times = []
    for _ in range(5):
        began = time.perf_counter()
        read()
        times.append(time.perf_counter() - began)
    return min(times)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        videos = fill(store)

        def read() -> object:
            return rows.read_features(store, "clip", videos)

        verified, tables = best(read), rows.read_tables

        def unverified(files: rows.Files) -> object:
            for name in files.entries:
                content = store.read_bytes(f"{files.folder}/{name}")
                yield pq.read_table(pa.BufferReader(content))

        rows.read_tables = unverified  # type: ignore[assignment]
        before = best(read)
        rows.read_tables = tables
    size = FILES * ROWS * DIM * 2 / 1e9
    print(f"{size:.2f} GB in {FILES} files; seconds, best of five")
    print(f"as before {before:6.2f}\nverified  {verified:6.2f}   ratio {verified / before:.2f}")


if __name__ == "__main__":
    main()
