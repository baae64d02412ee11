"""The standard streams of a command, whatever the terminal or the pipe behind them can take."""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
from contextlib import suppress
from typing import TextIO

from raffect.errors import RaffectError
from raffect.text import printable

_HANDLER = "raffect"
# One character for one: tables stay aligned.
_PLAIN = str.maketrans("✓…–→·×≥≤“”‘’┃│━─", "*.->.x><\"\"''||--")
_GONE = frozenset({errno.EPIPE, errno.EIO, errno.EBADF, errno.ECONNRESET})


class OutputError(RaffectError):
    """What a command prints can't be written."""


class _Output(io.FileIO):
    """A stream to a reader that may go away: the command then goes on and prints to nobody."""

    def write(self, data: object) -> int:
        try:
            return super().write(data)  # type: ignore[arg-type]
        except OSError as error:
            # Else Python would try again as it ends, and exit with a code of its own.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            if error.errno not in _GONE:
                raise OutputError(
                    f"The output can't be written: {error.strerror}.",
                    "a terminal, a pipe, or a file with space left",
                    "Run the command again: it continues.",
                ) from None
            return memoryview(data).nbytes  # type: ignore[arg-type]


def prepare_streams() -> None:
    """Let sys.stdin, stdout and stderr be there, and take every character.

    Characters that the terminal's encoding lacks become plain ones or escapes. A stream that was
    closed when the process began leads nowhere, before a file of ours is opened in its place.
    """
    codecs.register_error(_HANDLER, _in_plain)
    for descriptor in (0, 1, 2):
        with suppress(OSError):
            os.fstat(descriptor)
            continue
        os.open(os.devnull, os.O_RDWR)
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: PTH123, SIM115
    sys.stdout = _opened(1, sys.stdout)
    sys.stderr = _opened(2, sys.stderr)


def _opened(descriptor: int, before: TextIO | None) -> TextIO:
    raw = _Output(descriptor, "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=before.encoding if before is not None else "utf-8",
        errors=_HANDLER,
        line_buffering=descriptor == 2 or raw.isatty(),
    )


def _in_plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    shown = ""
    for character in error.object[error.start : error.end]:
        plain = character.translate(_PLAIN)
        if plain == character:
            plain = printable(character)
        shown += plain if plain.isascii() else ascii(character)[1:-1]
    return shown, error.end
