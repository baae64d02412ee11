"""How numbers and names are written."""

from __future__ import annotations

import os

import pytest

from raffect.text import (
    count_text,
    did_you_mean,
    duration,
    first_line,
    listed,
    numbers_text,
    printable,
    score_text,
    short_names,
    short_value,
    shortened,
    size_text,
)


def test_names_keep_what_tells_them_apart():
    names = ["model.tcn.depth", "losses.a.va", "extra.a.va", "lr", "optimiser.lr"]
    assert short_names(names) == {
        "model.tcn.depth": "tcn.depth",
        "losses.a.va": "losses.a.va",
        "extra.a.va": "extra.a.va",
        "lr": "lr",
        "optimiser.lr": "optimiser.lr",
    }


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3e-05, "3e-5"),
        (0.000123456, "0.000123"),
        (1e10, "1e10"),
        (0.25, "0.25"),
        (7, "7"),
        (True, "true"),
        (None, "none"),
        ([768, 0.5], "768, 0.5"),
        ("text", "text"),
    ],
)
def test_values(value, text):
    assert short_value(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (9.96, "10.0 s"), (38.4, "38 s"), (61, "1 min 01 s"), (8640, "2 h 24 min")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(None, "–"), (999, "999"), (45_600, "45.6 k"), (12_340_000, "12.3 M")]
)
def test_counts(count, text):
    assert count_text(count) == text


def test_scores():
    assert score_text(0.58049) == "0.5805"
    assert score_text(None) == "–"
    assert score_text(float("nan")) == "–"


def test_many_numbers_are_cut():
    assert numbers_text(range(3)) == "0, 1, 2"
    assert numbers_text(range(5), most=2) == "0, 1 and 3 more"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("one\ntwo"), "one"),
        (ValueError("\n\n  one\ntwo"), "one"),
        (KeyError(), "KeyError"),
        (ValueError("x" * 300), "x" * 200),
        ("  said\nmore", "said"),
    ],
)
def test_the_first_line_of_an_error(error, text):
    assert first_line(error) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (3_400_000, "3 MiB"), (2**32, "4.0 GiB"), (2**42, "4.0 TiB")],
)
def test_sizes(count, text):
    assert size_text(count) == text


def test_a_long_list_is_cut():
    assert listed(["a", "b"]) == "a, b"
    assert listed(["a", "b", "c"], most=1) == "a, and 2 more"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("José 1.jpg", "José 1.jpg"),
        ("caf\udce9", "caf\\xe9"),
        ("a\nb\t", "a\\nb\\t"),
        ("\x1b[31m", "\\x1b[31m"),
        ("\u2028\ud800", "\\u2028\\ud800"),
        (os.fsdecode(b"\xff\xfe"), "\\xff\\xfe"),
    ],
)
def test_names_that_no_terminal_can_show_are_escaped(name: str, text: str):
    assert printable(name) == text
    assert printable(name).encode()


@pytest.mark.parametrize(
    ("most", "text"), [(9, "abcdefghi"), (10, "abcdefghi"), (8, "abcd…ghi"), (5, "ab…hi")]
)
def test_a_long_name_loses_its_middle(most: int, text: str):
    assert shortened("abcdefghi", most) == text
    assert len(text) <= most


@pytest.mark.parametrize(
    ("name", "known", "said"),
    [
        ("vb", ["au", "va", "expr"], "Did you mean va? "),
        ("va-wid", ["va", "va-wide"], "Did you mean va-wide? "),
        ("zzz", ["au", "va"], ""),
        ("va", [], ""),
    ],
)
def test_the_name_that_was_meant(name: str, known: list[str], said: str) -> None:
    assert did_you_mean(name, known) == said
