"""Strict CSV files of the dataset and the challenge: tolerant of form, never of content.

A byte order mark, CRLF, spaces and quotes around values, the case of the header and blank lines
at the end are ignored. Anything else unexpected is reported with its line; nothing is skipped,
guessed or filled in.
"""

from __future__ import annotations

import io
import itertools
import os
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.csv as pacsv

from raffect.errors import DataError
from raffect.inputs import read_input, reason_of
from raffect.store.raw import RawFile
from raffect.text import listed

FIRST_DATA_LINE = 2
MOST_BYTES = 2**30
"""The predictions of all 2.9 million frames of Aff-Wild2 take half of it (12 probabilities)."""
MOST_PROBLEMS = 10
"""How many problems of one file are listed; their total is always given."""

_BOM = b"\xef\xbb\xbf"
_BLANK = b" \t\n"
_QUOTED = re.compile(rb'(?<![^,\s])"([^",\n]*)"(?![^,\s])')
# Arrow also accepts hexadecimal integers and "nan"; any other character takes the slow path.
_NUMBERS = b"0123456789+-.eE, \t\n"


@dataclass(frozen=True)
class CsvFile:
    """A parsed file: `header_line` verbatim, and `body` with `\\n` between its lines."""

    path: Path | RawFile
    header_line: str
    body: bytes

    def lines(self) -> Iterator[tuple[int, str]]:
        """Number in the file (the header is line 1) and text of each data line."""
        for number, line in enumerate(io.BytesIO(self.body), start=FIRST_DATA_LINE):
            yield number, line.removesuffix(b"\n").decode("utf-8", "replace")

    def has_only_numbers(self) -> bool:
        """Whether the data lines contain only characters of decimal numbers."""
        return not self.body.translate(None, _NUMBERS)

    def parse(self, types: Mapping[str, pa.DataType]) -> pa.Table | None:
        """The data lines as columns of these types; None if any line does not parse.

        The fast path for whole files; the slow path of each caller says what is wrong with a line.
        """
        if not self.body:
            return pa.table({name: pa.array([], kind) for name, kind in types.items()})
        try:
            return pacsv.read_csv(
                pa.BufferReader(self.body),
                read_options=pacsv.ReadOptions(column_names=list(types), use_threads=False),
                parse_options=pacsv.ParseOptions(quote_char=False, ignore_empty_lines=False),
                convert_options=pacsv.ConvertOptions(
                    column_types=dict(types), null_values=[], strings_can_be_null=False
                ),
            )
        except pa.ArrowInvalid:
            return None

    def check(
        self,
        header: str,
        rows: str,
        allowed: str,
        next_step: str,
        header_allowed: str = "",
        others: Mapping[str, tuple[str, str]] = {},
    ) -> None:
        """Raise DataError for another header, and for a file without data lines.

        The messages call the data lines `rows`, and say what they may be (`allowed`) and what the
        header may be (`header_allowed`, or `header` itself). `others`: by header what a file is
        that belongs elsewhere, and what to do with it.
        """
        own = plain_header(self.header_line)
        if own != plain_header(header):
            known = {plain_header(other): of for other, of in others.items()}
            what, step = known.get(own, ("", next_step))
            got = f"{self.path}, line 1: the header is {quote(self.header_line)}"
            lacks = [n for n in header.split(",") if n.casefold() not in own.split(",")]
            if what:
                got += f": this is {what}"
            elif 0 < len(lacks) < len(header.split(",")):
                got += f", without {listed(lacks)}"
            got += "."
            raise DataError(got, header_allowed or header, step)
        if not self.body:
            raise DataError(f"{self.path} has a header and no {rows}.", allowed, next_step)


def plain_header(line: str) -> str:
    """A header without what its form may differ in."""
    return ",".join(name.strip() for name in line.split(",")).casefold()


def read_csv(path: Path | RawFile, what: str, command: str, most: int = MOST_BYTES) -> CsvFile:
    """Read a file of at most `most` bytes and split off its header.

    Raises:
        DataError: It can't be read; says `what` it should be and which `command` helps.
    """
    try:
        data = read_input(path, most) if isinstance(path, Path) else path.read_input(most)
    except OSError as error:
        raise DataError(f"{path} can't be read: {reason_of(error)}.", what, command) from None
    text = data.removeprefix(_BOM)
    if b"\r" in text:
        # CR CR LF is what text with CRLF becomes where Windows writes it once more.
        for end in (b"\r\r\n", b"\r\n", b"\r"):
            text = text.replace(end, b"\n")
    if b'"' in text:
        text = _QUOTED.sub(rb"\1", text)
    header, _, body = text.partition(b"\n")
    return CsvFile(path, header.decode("utf-8", "replace"), body.rstrip(_BLANK))


def refuse_lines(
    path: Path | RawFile, problems: Iterable[str], allowed: str, next_step: str
) -> None:
    """Raise one DataError for all wrong lines of a file, if any, that lists the first ten."""
    rest = iter(problems)
    shown = [f"  {problem}" for problem in itertools.islice(rest, MOST_PROBLEMS)]
    if not shown:
        return
    more = sum(1 for _ in rest)
    total = len(shown) + more
    if more:
        shown.append(f"  ... and {more:,} more")
    count = "1 problem" if total == 1 else f"{total:,} problems"
    raise DataError("\n".join([f"{path} has {count}:", *shown]), allowed, next_step)


def quote(text: str) -> str:
    """An excerpt of a file for a message: printable and short."""
    return repr(text if len(text) <= 40 else f"{text[:37]}...")


def check_output(path: Path) -> None:
    """Raise DataError if no file can be written there: before the work for it."""
    try:
        if path.is_dir():
            raise _unwritable(path, "it is a folder")
        above = next(folder for folder in path.absolute().parents if folder.exists())
    except OSError as error:
        raise _unwritable(path, error.strerror or str(error)) from None
    if not above.is_dir():
        raise _unwritable(path, f"{above} is no folder")
    if not path.exists() and not os.access(above, os.W_OK):
        raise _unwritable(path, f"you may not write to {above}")


@contextmanager
def written_whole(path: Path) -> Iterator[IO[str]]:
    """A text file to write that appears at `path` only if the block ends without an error.

    Raises:
        DataError: It can't be written.
    """
    with (
        whole_file(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="\n") as file,
    ):
        yield file


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path to write to, whose file moves to `path` only if the block ends without an error.

    Raises:
        DataError: It can't be written.
    """
    check_output(path)
    in_place = is_device(path)
    temporary = path if in_place else path.with_name(f".{path.name[:99]}.{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if not in_place:
            temporary.replace(path)
    except OSError as error:
        raise _unwritable(path, error.strerror or str(error)) from None
    finally:
        if not in_place:
            with suppress(OSError):
                temporary.unlink()


def is_device(path: Path) -> bool:
    """Whether a path takes what is written as a device or a pipe does.

    A rename would put a file in its place; also of /dev/stdout, which may lead to a file.
    """
    return path.exists() and (not path.is_file() or Path("/dev") in path.absolute().parents)


def _unwritable(path: Path, why: str) -> DataError:
    return DataError(
        f"{path} can't be written: {why}.",
        "a path in a folder that may be written, with space left",
        "Give another path.",
    )
