"""How numbers and names are written for people."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any


def short_names(names: Sequence[str]) -> dict[str, str]:
    """For each dotted name the shortest ending that tells it from the others.

    At least two segments stay where there are two, as `depth` alone would say too little.
    """
    parts = {name: name.split(".") for name in names}
    short = {}
    for name, own in parts.items():
        keep = min(2, len(own))
        while keep < len(own) and any(
            other != name and parts[other][-keep:] == own[-keep:] for other in parts
        ):
            keep += 1
        short[name] = ".".join(own[-keep:])
    return short


def short_value(value: Any) -> str:
    """A parameter's value in few characters."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, float):
        return re.sub(r"e([+-])0*(\d)", r"e\1\2", f"{value:.3g}").replace("e+", "e")
    if isinstance(value, list | tuple):
        return ", ".join(short_value(item) for item in value)
    return str(value)


def score_text(value: float | None) -> str:
    """A score with the four decimals of the field's papers."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.4f}"


def duration(seconds: float) -> str:
    """A time in its two largest units."""
    whole = round(seconds)
    if seconds < 10:
        return f"{seconds:.1f} s"
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def short_duration(seconds: float) -> str:
    """A tick's time in its largest unit: 0, 30 s, 5 min, 1.5 h, 2 d."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s" if seconds else "0"


def count_text(value: int | None) -> str:
    """A count of weights: 12.3 M, 45.6 k."""
    if value is None:
        return "–"
    for size, unit in ((1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")):
        if value >= size:
            return f"{value / size:.1f} {unit}"
    return str(value)


def numbers_text(numbers: Sequence[int], most: int = 12) -> str:
    """Trial numbers, cut where they are many."""
    shown = ", ".join(str(number) for number in numbers[:most])
    return f"{shown} and {len(numbers) - most} more" if len(numbers) > most else shown


def first_line(error: BaseException | str, most: int = 200) -> str:
    """The first line of an error's message, or the error's class where it has none."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:most]


def size_text(count: float) -> str:
    """A number of bytes: `3.9 GiB`."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB" if count < 1024 else f"{count / 1024:.1f} TiB"


def listed(items: Sequence[str], most: int = 5) -> str:
    """The first items, and how many more there are."""
    more = [f"and {len(items) - most} more"] if len(items) > most else []
    return ", ".join([*items[:most], *more])


def did_you_mean(name: str, known: Iterable[str], most: int = 1) -> str:
    """`Did you mean a or b? ` for names nearly like this one; empty where there is none."""
    close = difflib.get_close_matches(name, list(known), most, 0.5)
    return f"Did you mean {' or '.join(close)}? " if close else ""


def printable(text: str) -> str:
    """A name from a file system as every terminal and every UTF-8 file can hold it.

    Line ends and other control characters are escaped, and so are the bytes of a name that is not
    UTF-8 (Python reads them as lone surrogates, PEP 383).
    """
    if text.isprintable():
        return text
    return "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character if character.isprintable() else ascii(character)[1:-1]


def shortened(text: str, most: int) -> str:
    """A text of at most `most` characters: a longer one loses its middle."""
    if len(text) <= most:
        return text
    tail = (most - 1) // 2
    return f"{text[: most - 1 - tail]}…{text[len(text) - tail :]}"
