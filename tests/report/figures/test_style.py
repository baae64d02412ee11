"""The report's colours: all in one place, and text in them legible."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from raffect.report import page as page_module
from raffect.report.figures.style import DARK, LIGHT, colour_scale


def test_style_and_script_use_only_colours_of_the_palette():
    folder = Path(page_module.__file__).parent
    css = (folder / "report.css").read_text()
    assert set(re.findall(r"var\(--([a-z0-9-]+)\)", css)) <= set(LIGHT) == set(DARK)
    assert not re.findall(r"#[0-9a-fA-F]{3,6}\b", css)


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize(
    ("text", "ground"),
    [
        ("ink", "page"),
        ("ink", "card"),
        ("ink", "best-wash"),
        ("ink", "heat-0"),
        ("ink", "heat-3"),
        ("muted", "page"),
        ("muted", "card"),
        ("muted", "wash"),
        ("blue", "card"),
        ("blue", "blue-wash"),
        ("best", "card"),
        ("fail", "fail-wash"),
        ("running", "running-wash"),
    ],
)
def test_text_is_legible(palette: dict[str, str], text: str, ground: str):
    # WCAG 2.1, level AA.
    assert contrast(palette[text], palette[ground]) >= 4.5


def test_a_scale_goes_from_end_to_end():
    assert colour_scale("band") == [
        [0.0, "var(--band-0)"],
        [0.5, "var(--band-1)"],
        [1.0, "var(--band-2)"],
    ]
