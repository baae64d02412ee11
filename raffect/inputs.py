"""Files that people hand in, read whole: only regular ones are opened, and none beyond a size.

A pipe without a writer waits for ever, a device may never end, and a sparse file of terabytes is
made in no time.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def read_input(path: Path, most: int) -> bytes:
    """The content of a text file of at most `most` bytes.

    Raises:
        OSError: It can't be read, is no regular file, is larger, or holds NUL bytes, as UTF-16 and
            binary files do; `reason_of` says which.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        if path.is_symlink():
            raise OSError(f"it is a link to {path.readlink()}, which is not there") from None
        raise
    if not stat.S_ISREG(found.st_mode):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe, a socket or a device"
        raise OSError(f"it is {kind}, not a file")
    if found.st_size > most:
        raise OSError(f"it has {found.st_size:,} bytes, and {most:,} are the most that make sense")
    with path.open("rb") as file:
        data = file.read(found.st_size + 1)
    if len(data) > found.st_size:
        raise OSError("it is longer than the file system says: something writes to it")
    refuse_binary(data)
    return data


def refuse_binary(data: bytes) -> None:
    """Raise OSError for bytes that hold NUL, as UTF-16 and binary files do."""
    if b"\0" in data:
        # Text of the Latin alphabet has a zero in every second byte.
        is_utf16 = data.startswith(_UTF16) or data[:64].count(0) * 2 == len(data[:64])
        what = (
            "it is UTF-16; save it as UTF-8" if is_utf16 else "it holds NUL bytes: it is no text"
        )
        raise OSError(what)


def reason_of(error: OSError) -> str:
    """Why a file can't be read, without the path."""
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    return error.strerror or os.strerror(error.errno) if error.errno else str(error)
