"""Files of a store that is a folder: written whole, created once, deleted in an order."""

from __future__ import annotations

import errno
import os
import time
import uuid
from contextlib import suppress
from pathlib import Path

from raffect.store.layout import deletion_order

_CLAIM_S = 10.0
"""Far longer than a claim is held by a process that lives."""
_NO_LINKS = frozenset(
    {errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
)


def allocate(size: int) -> memoryview:
    """Memory for a large file, which Arrow keeps for the next one.

    That of `bytes` goes back to the system each time, and new pages take 0.8 s per GB.
    """
    import pyarrow as pa

    # No view of nothing can be cast.
    return memoryview(pa.allocate_buffer(size)).cast("B") if size else memoryview(bytearray())


def read_file(path: Path) -> memoryview:
    """The content of a file."""
    with path.open("rb", buffering=0) as file:
        data, at = allocate(os.fstat(file.fileno()).st_size), 0
        while count := file.readinto(data[at:]):
            at += count
    return data[:at]


def write_file(path: Path, data: bytes) -> None:
    """Write a file atomically: readers see the old content or the new."""
    temporary = _write_beside(path, data)
    try:
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def create_file(path: Path, data: bytes) -> None:
    """Write a file only if it does not exist, atomically; FileExistsError if it does."""
    temporary = _write_beside(path, data)
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _rename_once(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def delete_all(path: Path) -> None:
    """Delete a file, or all below a folder, in the layout's order; what links lead to is kept.

    FileNotFoundError if there is none.
    """
    if not path.is_dir():
        path.unlink()
        return
    files, folders = [], []
    for folder, below, names in os.walk(path, onerror=_refuse):
        folders.append(folder)
        links = [name for name in below if Path(folder, name).is_symlink()]
        files += [str(Path(folder, name)) for name in [*names, *links]]
    for group in deletion_order(files):
        for file in group:
            Path(file).unlink(missing_ok=True)
    # A folder that is itself a link stays, empty.
    for folder in reversed(folders[path.is_symlink() :]):
        with suppress(FileNotFoundError):
            Path(folder).rmdir()


def _refuse(error: OSError) -> None:
    raise error


def _write_beside(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        # A full disk: what was written would keep it full.
        with suppress(OSError):
            temporary.unlink()
        raise
    return temporary


def _rename_once(temporary: Path, path: Path) -> None:
    """Rename unless the target exists, where there are no hard links: exFAT, SMB, gcsfuse.

    A rename replaces, so that whoever makes the claim beside the target may look and rename. A
    claim that stays is a killed process's.
    """
    claim = path.with_name(f".{path.name}.claim")
    until = time.monotonic() + _CLAIM_S
    while not path.exists():
        try:
            claim.touch(exist_ok=False)
        except FileExistsError:
            if time.monotonic() > until:
                claim.unlink(missing_ok=True)
            time.sleep(0.01)
            continue
        try:
            if not path.exists():
                temporary.replace(path)
                return
        finally:
            claim.unlink(missing_ok=True)
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
