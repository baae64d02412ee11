"""Features on disk: rows as fixed-size binary, the fastest layout in plain Parquet.

Measured (tests/benchmarks/bench_features.py): fixed_size_binary decodes at 2.7 GB/s per thread, a
FixedSizeList at 0.1 to 0.35. Other Parquet readers see rows of `2 * dim` bytes, little-endian
IEEE float16, or of `4 * dim`, float32, where the column's metadata has `dtype: float32`:

    table = pyarrow.parquet.read_table(path)
    features = raffect.store.features.to_array(table)      # (rows, dim), a view
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from raffect.errors import DataError, SettingsError

FeatureNames = str | Sequence[str]
"""One set of features, or several that are used side by side, in this order."""
FLOAT16 = "float16"
_DTYPES: dict[str, np.dtype[Any]] = {FLOAT16: np.dtype("<f2"), "float32": np.dtype("<f4")}
_KEY = b"dtype"
_MOST_LOST = 2e-3
"""Of a feature's length; rounding to float16 takes a tenth of it where its range suffices."""


def feature_names(features: FeatureNames) -> list[str]:
    """The names of one set of features or of several.

    Raises:
        SettingsError: There is none, or one is named twice.
    """
    names = [features] if isinstance(features, str) else list(features)
    if not names or len(set(names)) < len(names):
        raise SettingsError(
            f"The features are {', '.join(names) or 'none'}.",
            "one set of features or several, each once",
            "Name each set once: --features clip --features audio.",
        )
    return names


def plain_names(features: FeatureNames) -> str | list[str]:
    """Names as plans and lineages hold them: of one set alone a string, as always."""
    names = feature_names(features)
    return names[0] if len(names) == 1 else names


def round_features(
    values: NDArray[np.floating], dtype: str, location: Callable[[int], str]
) -> NDArray[np.floating]:
    """Features `(rows, dim)` as they are stored: `float16` or `float32`.

    Raises:
        DataError: Some are not finite, or beyond the range of float16; counts them and names the
            `location` of the first.
    """
    finite = np.isfinite(values).all(axis=1)
    if not finite.all():
        raise DataError(
            f"{_some(~finite, location)} not finite (inf or NaN).",
            "an encoder whose features are numbers",
            "Look at its weights: other --pretrained ones, or a fine-tuning with a smaller lr.",
        )
    with np.errstate(over="ignore"):
        rounded = values.astype(_DTYPES[dtype])
    exact = values.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        lost = np.linalg.norm(rounded - exact, axis=1)
    # Written so that NaN counts as lost.
    bad = ~(lost <= _MOST_LOST * np.linalg.norm(exact, axis=1))
    if bad.any():
        largest = np.abs(exact[bad]).max()
        raise DataError(
            f"{_some(bad, location)} beyond float16, which holds 6e-8 to 65,504; the largest value"
            f" is {largest:.3g}.",
            "features within float16, or float32, which takes twice the room",
            "Give `raffect extract --set dtype=float32 --overwrite`, and train on those features.",
        )
    return rounded


def _some(bad: NDArray[np.bool_], location: Callable[[int], str]) -> str:
    count, first = int(bad.sum()), location(int(bad.argmax()))
    return f"The features of {count:,} of {len(bad):,} crops, {first} the first, are"


def to_parquet(
    videos: list[str],
    frames: NDArray[np.int32],
    values: NDArray[np.floating],
    dtype: str = FLOAT16,
) -> bytes:
    """A features file of rows: video, 1-based frame, and values `(rows, dim)`, all finite."""
    rows = np.ascontiguousarray(values, dtype=_DTYPES[dtype])
    assert np.isfinite(rows).all()
    width = rows.shape[1] * rows.dtype.itemsize
    buffer = pa.py_buffer(rows.tobytes())
    column = pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), len(rows), [None, buffer])
    # Files of float16 are to the byte those of versions that knew nothing else.
    facts = None if dtype == FLOAT16 else {_KEY: dtype.encode()}
    names = pa.array(videos, pa.string()).dictionary_encode()
    schema = pa.schema(
        [
            pa.field("video", names.type),
            pa.field("frame", pa.int32()),
            pa.field("feature", column.type, metadata=facts),
        ]
    )
    table = pa.table([names, pa.array(frames, pa.int32()), column], schema=schema)
    sink = io.BytesIO()
    # Features hardly compress, and dictionary encoding makes them 27 times slower to decode.
    pq.write_table(table, sink, compression="none", use_dictionary=["video"])
    return sink.getvalue()


def dtype_of(config: Mapping[str, object]) -> np.dtype[Any]:
    """The type of the features that were made with these settings of `extract`."""
    return _DTYPES[str(config.get("dtype", FLOAT16))]


def to_array(table: pa.Table) -> NDArray[np.floating]:
    """The features `(rows, dim)` of a table read from a features file; a view where possible."""
    facts = table.schema.field("feature").metadata or {}
    dtype = _DTYPES[facts.get(_KEY, FLOAT16.encode()).decode()]
    column = table.column("feature")
    if column.num_chunks > 1:
        # It copies a single chunk, too.
        column = column.combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = column.chunk(0) if column.num_chunks else pa.array([], column.type)
    width = column.type.byte_width
    flat = np.frombuffer(column.buffers()[1], dtype=np.uint8) if len(column) else np.empty(0)
    start = column.offset * width
    rows = flat[start : start + len(column) * width].astype(np.uint8, copy=False)
    return rows.view(dtype).reshape(len(column), width // dtype.itemsize)
