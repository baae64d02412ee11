"""Tables: as CSV, as columns for the page, and as what a trace names."""

from __future__ import annotations

import csv
import io
import math

import pytest

from raffect.report.tables import from_table, ranges, rounded, table

SMALL = table("small", ("name", "value"), [("a,b", 0.1), ('say "x"', None), ("c\nd", True)])


def test_csv_reads_back():
    assert SMALL.file == "small.csv"
    rows = list(csv.reader(io.StringIO(SMALL.csv())))
    assert rows == [["name", "value"], ["a,b", "0.1"], ['say "x"', ""], ["c\nd", "true"]]


def test_numbers_keep_all_of_their_digits():
    value = 0.1 + 0.2
    text = table("t", ("x",), [(value,)]).csv()
    assert float(text.split()[1]) == value


def test_what_is_no_number_is_an_empty_field():
    made = table("t", ("x",), [(math.nan,), (math.inf,), (1.5,)])
    assert made.column("x") == [None, None, 1.5]
    assert [rounded(value, 2) for value in (None, math.nan, 1.237)] == [None, None, 1.24]


def test_columns_for_the_page():
    assert SMALL.by_column() == {
        "name": ["a,b", 'say "x"', "c\nd"],
        "value": [0.1, None, True],
    }


@pytest.mark.parametrize(
    ("indices", "expected"),
    [([], []), ([3], [[3, 4]]), ([0, 1, 2, 5, 6, 9], [[0, 3], [5, 7], [9, 10]])],
)
def test_neighbouring_rows_are_one_stretch(indices, expected):
    assert ranges(indices) == expected


def test_a_trace_names_columns_that_are_there():
    assert from_table(SMALL, {"x": "value"}, [[0, 2]], gaps=True) == {
        "table": "small",
        "columns": {"x": "value"},
        "rows": [[0, 2]],
        "gaps": True,
    }
    with pytest.raises(AssertionError):
        from_table(SMALL, {"customdata": ["value", "other"]}, [])
