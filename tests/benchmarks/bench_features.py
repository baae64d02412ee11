"""GB/s of features out of Parquet, one thread: raffect's layout and the list column of Arrow.

.venv/bin/python tests/benchmarks/bench_features.py
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raffect.store.features import to_array, to_parquet

ROWS, DIM = 100_000, 768


def best(read: Callable[[], np.ndarray]) -> float:
    """GB/s of the best of five."""
    times = []
    for _ in range(5):
        began = time.perf_counter()
        size = read().nbytes
        times.append(time.perf_counter() - began)
    return size / min(times) / 1e9


def list_column(values: np.ndarray) -> bytes:
    flat = pa.array(values.reshape(-1))
    table = pa.table({"feature": pa.FixedSizeListArray.from_arrays(flat, DIM)})
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def read_list_column(data: bytes) -> np.ndarray:
    column = pq.read_table(io.BytesIO(data), use_threads=False)["feature"].combine_chunks()
    return column.flatten().to_numpy(zero_copy_only=False).reshape(-1, DIM)


def main() -> None:
    values = np.random.default_rng(0).normal(size=(ROWS, DIM)).astype(np.float16)
    ours = to_parquet(["video"] * ROWS, np.arange(ROWS, dtype=np.int32), values)
    theirs = list_column(values)
    print(f"{ROWS:,} features of {DIM} float16; GB/s, one thread, best of five")
    own = best(lambda: to_array(pq.read_table(io.BytesIO(ours), use_threads=False)))
    other = best(lambda: read_list_column(theirs))
    print(f"raffect (fixed-size binary)        {own:6.2f}")
    print(f"FixedSizeList, Arrow's defaults    {other:6.2f}   ratio {own / other:.1f}")


if __name__ == "__main__":
    main()
