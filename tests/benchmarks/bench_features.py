"""GB/s of features: out of Parquet, and from S3 to where all processes of a node see them.

    python -m tests.benchmarks.bench_features [--rows 1_500_000] [--sets 2]

First one thread's decoding: raffect's layout and the list column of Arrow. Then the features of a
task from a server in another process, which shares the cores, to Ray's object store, each way in a
process of its own: as raffect 0.9 did (file after file into an array, which is then put), as it
does on one machine, and by the Ray Data pipeline of a cluster (its workers' start included).
`heap` is the most that the driver held for itself, in MB. Of several `--sets` each has these rows.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raffect import engine
from raffect.store import DATASET, Files, Stage, Store, features_folder
from raffect.store.features import to_array, to_parquet
from raffect.temporal import rows, shared
from raffect.testing.s3 import environment, start_s3_server

ROWS, DIM = 100_000, 768
FILE_ROWS = 25_000


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


def names_of(sets: int) -> list[str]:
    return [f"set{number}" for number in range(sets)]


def fill(store: Store, name: str, files: int) -> None:
    """Features of ten videos a file, as long as Aff-Wild2's."""
    stage = Stage(store, features_folder(name), "features", {}, {DATASET: "d"})
    values = np.random.default_rng(0).normal(size=(FILE_ROWS, DIM)).astype(np.float16)
    frames = np.tile(np.arange(1, FILE_ROWS // 10 + 1, dtype=np.int32), 10)
    parts = []
    for number in range(files):
        names = [video for video in videos_of(number) for _ in range(FILE_ROWS // 10)]
        data = to_parquet(names, frames, values)
        parts.append(stage.write_part(f"{number:05d}.parquet", data))
    stage.finish(parts, {"rows": files * FILE_ROWS, "dim": DIM})


def videos_of(file: int) -> list[str]:
    return [f"v{file:03d}-{i}" for i in range(10)]


def one_by_one(files: Files) -> object:
    for name in rows.table_names(files):
        yield pq.read_table(pa.BufferReader(files.read(name)))


def heap_mb() -> float:
    line = Path("/proc/self/status").read_text().partition("RssAnon:")[2]
    return int(line.split()[0]) / 1e3


def measure(way: str, uri: str, files: int, sets: int) -> None:
    """Print what one way of reading takes, as JSON; `files` as many as each set has."""
    import ray

    engine.connect(None)
    store, videos = Store(uri), [video for n in range(files) for video in videos_of(n)]
    patches = {
        "file after file": mock.patch.object(rows, "read_tables", one_by_one),
        "threads": mock.patch.object(shared, "PIPELINE_BYTES", 1 << 60),
        "Ray Data": mock.patch.object(engine, "is_local", return_value=False),
    }
    before, most, ended = heap_mb(), [0.0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.02):
            most[0] = max(most[0], heap_mb())

    watcher = threading.Thread(target=watch)
    watcher.start()
    began, cpu = time.perf_counter(), time.process_time()
    with patches[way]:
        if way == "file after file":
            kept = ray.put(rows.read_features(store, names_of(sets), videos).values)
        else:
            kept = shared.shared_reader("auto")(store, names_of(sets), videos)
    found = {"wall": time.perf_counter() - began, "cpu": time.process_time() - cpu}
    ended.set()
    watcher.join()
    del kept
    print(json.dumps({**found, "heap": max(0.0, most[0] - before)}))


def from_s3(files: int, sets: int) -> None:
    server = start_s3_server()
    try:
        with environment(server.environment()):
            uri = f"s3://{server.new_bucket()}/store"
            for name in names_of(sets):
                fill(Store(uri), name, files)
            size = sets * files * FILE_ROWS * DIM * 2 / 1e9
            print(f"{files * FILE_ROWS:,} rows, {sets} x {files} files, {size:.2f} GB, from S3")
            print("way                wall s    GB/s  driver's CPU s    heap   ratio (wall)")
            first = None
            for way in ("file after file", "threads", "Ray Data"):
                options = ["--way", way, uri, str(files), str(sets)]
                command = [sys.executable, "-m", __spec__.name, *options]
                quick = {**os.environ, "RAY_worker_niceness": "0"}
                done = subprocess.run(command, env=quick, capture_output=True, text=True)
                assert not done.returncode, done.stderr
                found = json.loads(done.stdout.splitlines()[-1])
                first = first or found["wall"]
                print(
                    f"{way:17} {found['wall']:7.2f} {size / found['wall']:7.2f} "
                    f"{found['cpu']:15.2f} {found['heap']:7.0f} {first / found['wall']:10.2f}",
                    flush=True,
                )
    finally:
        server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=375_000, help="features in the bucket")
    parser.add_argument("--sets", type=int, default=1, help="of features, side by side")
    parser.add_argument("--way", nargs=4, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.way:
        way, uri, files, sets = chosen.way
        measure(way, uri, int(files), int(sets))
    elif chosen.sets * chosen.rows * DIM * 2 < shared.PIPELINE_BYTES:
        parser.error("the pipeline reads larger sets only: --rows 375_000 or more")
    else:
        decode()
        from_s3(chosen.rows // FILE_ROWS, chosen.sets)


def decode() -> None:
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
