"""The features format: exact, sliceable, readable by any reader of Parquet."""

from __future__ import annotations

import io

import numpy as np
import pyarrow.parquet as pq

from raffect.store.features import to_array, to_parquet


def test_rows_come_back_exactly_also_from_slices():
    values = np.random.default_rng(0).normal(size=(1000, 48)).astype(np.float16)
    data = to_parquet(["a"] * 600 + ["b"] * 400, np.arange(1000, dtype=np.int32), values)
    table = pq.read_table(io.BytesIO(data))
    assert np.array_equal(to_array(table), values)
    assert np.array_equal(to_array(table.slice(100, 50)), values[100:150])
    assert to_array(table.slice(0, 0)).shape == (0, 48)
    assert table.column("video").to_pylist()[599:601] == ["a", "b"]


def test_plain_pyarrow_sees_little_endian_halves():
    data = to_parquet(["v"], np.array([7], np.int32), np.array([[1.0, -2.0]]))
    row = pq.read_table(io.BytesIO(data)).to_pylist()[0]
    assert row["frame"] == 7
    assert row["feature"] == bytes.fromhex("003c00c0")
