"""Mutated input: what a slip of the hand, another program or a bad disk makes of a file."""

from __future__ import annotations

import random
import signal
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

from raffect.errors import find_user_error

STALLED_S = 20
"""An input that takes longer is taken for one that never ends; each takes milliseconds."""
_MOST_CHANGES = 3
_WORDS = (
    b"nan", b"NaN", b"-inf", b"Infinity", b"1e999", b"1e-999", b"-0", b"+.5", b"5.", b"0x10",
    b"1_0", b"1,5", b"--1", b"1e", b"99999999999999999999", b"0.1234567890123456789", b"True",
    b"None", b"null", b"", b" ", b"\t", b"\r", b"\r\n", b"\n", b"\n\n", b"\r\r\n", b'"', b"'",
    b",", b",,", b";", b"/", b"//", b"..", b"~", b"%20", b"?a=b", b"#a", b"*", b"[1]", b"@",
    b":", b"\\",
    b"\xef\xbb\xbf", b"\xff\xfe", b"\x00", b"\x0b", b"\x1c", b"\x85", b"\xa0", b"\xe9",
    "\u2028".encode(), "\u00a0".encode(), "\uff11".encode(), "\u0663".encode(), "\u202e".encode(),
    "\U0001f600".encode(), b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80",
)  # fmt: skip


def mutate(data: bytes, rng: random.Random) -> bytes:
    """A text with one to three changes, each at a random place."""
    for _ in range(rng.choice((1, 1, 2, _MOST_CHANGES))):
        data = rng.choice(_CHANGES)(data, rng)
    return data


def damage(data: bytes, rng: random.Random) -> bytes:
    """A binary file with a flipped bit, bytes lost, doubled or zeroed, or cut short."""
    return rng.choice((_flip, _flip, _flip, _cut, _lose, _double, _zero))(data, rng)


def _span(data: bytes, rng: random.Random, most: int) -> tuple[int, int]:
    begin = rng.randint(0, len(data))
    return begin, min(len(data), begin + rng.randint(1, most))


def _flip(data: bytes, rng: random.Random) -> bytes:
    if not data:
        return b"\x01"
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


def _cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randint(0, len(data))]


def _lose(data: bytes, rng: random.Random) -> bytes:
    begin, end = _span(data, rng, 40)
    return data[:begin] + data[end:]


def _double(data: bytes, rng: random.Random) -> bytes:
    begin, end = _span(data, rng, 40)
    return data[:end] + data[begin:end] + data[end:]


def _zero(data: bytes, rng: random.Random) -> bytes:
    begin, end = _span(data, rng, 4096)
    return data[:begin] + bytes(end - begin) + data[end:]


def _insert(data: bytes, rng: random.Random) -> bytes:
    at = rng.randint(0, len(data))
    return data[:at] + rng.choice(_WORDS) + data[at:]


def _replace(data: bytes, rng: random.Random) -> bytes:
    begin, end = _span(data, rng, 6)
    return data[:begin] + rng.choice(_WORDS) + data[end:]


def _field(data: bytes, rng: random.Random) -> bytes:
    """One value between commas becomes another."""
    parts = data.split(b",")
    parts[rng.randrange(len(parts))] = rng.choice(_WORDS)
    return b",".join(parts)


def _lines(data: bytes, rng: random.Random) -> bytes:
    """A line is lost, doubled, moved, or all end otherwise."""
    lines = data.split(b"\n")
    at, to = rng.randrange(len(lines)), rng.randrange(len(lines))
    what = rng.randrange(4)
    if what == 3:
        return rng.choice((b"\r\n", b"\r", b"\n\n", b" \n")).join(lines)
    line = lines[at] if what == 1 else lines.pop(at)
    if what:
        lines.insert(to, line)
    return b"\n".join(lines)


def _encode(data: bytes, rng: random.Random) -> bytes:
    text = data.decode("utf-8", "replace")
    return text.encode(rng.choice(("utf-16", "utf-8-sig", "latin-1", "utf-7")), "replace")


def _case(data: bytes, rng: random.Random) -> bytes:
    begin, end = _span(data, rng, 30)
    return data[:begin] + data[begin:end].swapcase() + data[end:]


_CHANGES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _flip, _cut, _lose, _double, _insert, _insert, _replace, _replace, _field, _field, _lines,
    _lines, _encode, _case,
)  # fmt: skip


class WrongValueError(Exception):
    """An input was taken, for something else than it says."""


class ExitError(Exception):
    """A command ended with a traceback, which is the message."""


@dataclass
class Tally:
    """What became of the mutated inputs of one kind.

    Attributes:
        right: Taken, with the values that stand in them.
        refused: One message, and no traceback.
        tracebacks: Anything else that was raised, stalling included.
        wrong: Taken with other values.
        faults: Of the last two the first from each place in the code, with what was given.
        where: How many came from each place.
    """

    right: int = 0
    refused: int = 0
    tracebacks: int = 0
    wrong: int = 0
    faults: list[str] = field(default_factory=list)
    where: Counter[str] = field(default_factory=Counter)

    @property
    def inputs(self) -> int:
        return self.right + self.refused + self.tracebacks + self.wrong

    def count(self, given: str, use: Callable[[], bool]) -> None:
        """Use an input; `use` tells whether it was taken rather than refused."""
        try:
            with _in_time():
                taken = use()
        except WrongValueError as error:
            self.wrong += 1
            self._note(given, str(error).partition(":")[0], str(error))
        except Exception as error:
            if find_user_error(error) is not None:
                self.refused += 1
                return
            self.tracebacks += 1
            is_told = isinstance(error, ExitError)
            text = str(error) if is_told else "".join(traceback.format_exception(error))
            lines = [line.strip() for line in text.splitlines() if line.strip()]
            places = [line for line in lines if line.startswith("File ")]
            self._note(given, " ".join(places[-1:]), " | ".join([*places[-2:], *lines[-1:]]))
        else:
            self.right += taken
            self.refused += not taken

    def _note(self, given: str, place: str, told: str) -> None:
        """Each place once, so that one fault does not hide the others."""
        self.where[place] += 1
        if self.where[place] == 1:
            self.faults.append(f"{told[:300]}\n        given {given[:300]}")


@contextmanager
def _in_time() -> Iterator[None]:
    def end(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"no end after {STALLED_S} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(STALLED_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


_HEADER = f"{'input':<26}{'inputs':>7}{'right':>8}{'refused':>9}{'tracebacks':>12}{'wrong':>7}"
LEGEND = """\
right: taken, and the values are those that an independent reader finds in it;
refused: with one message and no traceback; wrong: taken with other values."""


def show(tallies: dict[str, Tally]) -> bool:
    """Print the table, whole at 80 columns; whether nothing is wrong in it."""
    print(_HEADER)
    total = Tally()
    for name, tally in tallies.items():
        print(_row(name, tally))
        for number in ("right", "refused", "tracebacks", "wrong"):
            setattr(total, number, getattr(total, number) + getattr(tally, number))
        for fault in tally.faults:
            print(f"      ! {fault}")
    print(_row("all", total))
    print(LEGEND, flush=True)
    return not total.tracebacks and not total.wrong


def _row(name: str, tally: Tally) -> str:
    return (
        f"{name:<26}{tally.inputs:>7,}{tally.right:>8,}{tally.refused:>9,}"
        f"{tally.tracebacks:>12,}{tally.wrong:>7,}"
    )
