from __future__ import annotations

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from raffect.sweep.ranges import Range, narrowest, parse_range


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (FloatDistribution(1e-5, 1e-2, log=True), Range(1e-5, 1e-2, log=True)),
        (FloatDistribution(0.0, 1.0, step=0.1), Range(0.0, 1.0, step=0.1)),
        (IntDistribution(0, 5), Range(0, 5)),
        (IntDistribution(2, 8, step=2), Range(2, 8, step=2)),
        (CategoricalDistribution([3, "a", None, True]), Range(choices=(3, "a", None, True))),
    ],
)
def test_ranges_are_read_as_optuna_writes_them(written: object, expected: Range) -> None:
    assert parse_range(str(written)) == expected


@pytest.mark.parametrize(
    "text", ["", "in some trials", "1", "f(", "f(low=x, high=2)", "__import__('os')", "f(low=1)"]
)
def test_other_words_are_no_range(text: str) -> None:
    assert parse_range(text) is None


@pytest.mark.parametrize(
    ("ranges", "expected"),
    [
        ([Range(0, 5), Range(1, 4)], 1),
        ([Range(1, 4), Range(0, 5), Range(1, 5)], 0),
        ([Range(0, 3), Range(1, 5)], None),
        ([Range(choices=(1, 2)), Range(choices=(1, 2, 3))], 0),
        ([Range(choices=(1, 4)), Range(choices=(1, 2, 3))], None),
        ([Range(1, 2), Range(choices=(1, 2))], None),
        ([Range(1, 2), None], None),
    ],
)
def test_the_narrowest_lies_in_all_others(
    ranges: list[Range | None], expected: int | None
) -> None:
    assert narrowest(ranges) == expected
