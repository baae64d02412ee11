"""Features on disk: float16 rows as fixed-size binary, the fastest layout in plain Parquet.

Measured (tests/benchmarks/bench_features.py): fixed_size_binary decodes at 2.7 GB/s per thread, a
FixedSizeList at 0.1 to 0.35. Other Parquet readers see rows of `2 * dim` bytes, little-endian
IEEE float16:

    table = pyarrow.parquet.read_table(path)
    features = raffect.store.features.to_array(table)      # (rows, dim) float16, a view
"""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

DTYPE = np.dtype("<f2")


def to_parquet(
    videos: list[str], frames: NDArray[np.int32], values: NDArray[np.floating]
) -> bytes:
    """A features file of rows: video, 1-based frame, and values `(rows, dim)` as float16."""
    rows = np.ascontiguousarray(values, dtype=DTYPE)
    width = rows.shape[1] * DTYPE.itemsize
    buffer = pa.py_buffer(rows.tobytes())
    column = pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), len(rows), [None, buffer])
    table = pa.table(
        {
            "video": pa.array(videos, pa.string()).dictionary_encode(),
            "frame": pa.array(frames, pa.int32()),
            "feature": column,
        }
    )
    sink = io.BytesIO()
    # Features hardly compress, and dictionary encoding makes them 27 times slower to decode.
    pq.write_table(table, sink, compression="none", use_dictionary=["video"])
    return sink.getvalue()


def to_array(table: pa.Table) -> NDArray[np.float16]:
    """The features `(rows, dim)` of a table read from a features file; a view where possible."""
    column = table.column("feature").combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = column.chunk(0) if column.num_chunks else pa.array([], column.type)
    width = column.type.byte_width
    flat = np.frombuffer(column.buffers()[1], dtype=np.uint8) if len(column) else np.empty(0)
    start = column.offset * width
    rows = flat[start : start + len(column) * width].astype(np.uint8, copy=False)
    return rows.view(DTYPE).reshape(len(column), width // DTYPE.itemsize)
