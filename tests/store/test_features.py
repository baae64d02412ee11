"""The features format: exact, sliceable, readable by any reader of Parquet."""

from __future__ import annotations

import io

import numpy as np
import pyarrow.parquet as pq
import pytest

from raffect.errors import DataError
from raffect.store.features import round_features, to_array, to_parquet


def test_rows_come_back_exactly_also_from_slices():
    values = np.random.default_rng(0).normal(size=(1000, 48)).astype(np.float16)
    data = to_parquet(["a"] * 600 + ["b"] * 400, np.arange(1000, dtype=np.int32), values)
    table = pq.read_table(io.BytesIO(data))
    assert np.array_equal(to_array(table), values)
    assert np.array_equal(to_array(table.slice(100, 50)), values[100:150])
    assert to_array(table.slice(0, 0)).shape == (0, 48)
    assert table.column("video").to_pylist()[599:601] == ["a", "b"]


def test_float32_is_kept_where_it_is_asked_for_and_float16_is_as_ever():
    values = np.random.default_rng(0).normal(size=(10, 4)).astype(np.float32) * 1e6
    frames = np.arange(10, dtype=np.int32)
    data = to_parquet(["a"] * 10, frames, values, "float32")
    found = to_array(pq.read_table(io.BytesIO(data), columns=["feature"]).slice(2, 5))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, values[2:7])
    plain = pq.read_schema(io.BytesIO(to_parquet(["a"] * 10, frames, values / 1e6)))
    assert plain.field("feature").metadata is None
    with pytest.raises(AssertionError), np.errstate(over="ignore"):
        to_parquet(["a"] * 10, frames, values)


def test_rounding_counts_what_is_lost_and_names_the_first():
    values = np.ones((5, 3), np.float32)
    values[0] = 0
    values[2, 1], values[4] = 65_520, 3e-9
    with pytest.raises(DataError, match=r"2 of 5 crops, crop 2 the first") as caught:
        round_features(values, "float16", "crop {}".format)
    assert "6.55e+04" in str(caught.value)
    np.testing.assert_array_equal(round_features(values, "float32", str), values)
    values[2, 1], values[4] = 65_504, 3e-5
    np.testing.assert_allclose(round_features(values, "float16", str), values, rtol=2e-3)


def test_plain_pyarrow_sees_little_endian_halves():
    data = to_parquet(["v"], np.array([7], np.int32), np.array([[1.0, -2.0]]))
    row = pq.read_table(io.BytesIO(data)).to_pylist()[0]
    assert row["frame"] == 7
    assert row["feature"] == bytes.fromhex("003c00c0")
