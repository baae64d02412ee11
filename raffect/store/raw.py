"""Raw trees: folders that a user names and raffect only reads, on a disk or in a bucket."""

from __future__ import annotations

import errno
import itertools
import os
import re
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple, TypeVar

from raffect.errors import StoreError
from raffect.inputs import read_input, refuse_binary
from raffect.store.filesystem import VERSION, local_path, locate
from raffect.store.store import Store
from raffect.text import size_text

S = TypeVar("S")
T = TypeVar("T")
READERS = 8
"""Threads that list or read at a time: a bucket answers one request after 10 to 100 ms."""
# One slash is what pathlib leaves of two: no folder's name, but a slip to be told of.
_IS_URI = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+://|(s3|file):", re.IGNORECASE)


class EntryKind(StrEnum):
    """What an entry of a folder is, links followed."""

    FILE = "file"
    FOLDER = "folder"
    OTHER = "other"
    """A pipe, a device: nothing that can be read to its end."""
    BROKEN = "broken"
    """A link to nothing or to itself, or a file that was deleted meanwhile."""


class Entry(NamedTuple):
    """An entry of a folder: its name, what it is, and its size in bytes."""

    name: str
    kind: EntryKind = EntryKind.FILE
    size: int = 0


@dataclass(frozen=True)
class RawFolder:
    """A folder of raw files; equal where they lie at the same place, however it was typed.

    It can be pickled as a store can: credentials come from the environment of the reader.

    Attributes:
        uri: Its real path, or `s3://bucket/prefix`.
        typed: How the user named it, for messages.
        option: The option that named it.
    """

    uri: str
    typed: str = field(compare=False)
    option: str = field(compare=False)
    _root: Store = field(compare=False, repr=False)

    @classmethod
    def of(cls, typed: str | Path, option: str) -> RawFolder:
        """The folder that a user typed as a path or a URI; sends no request.

        Raises:
            SettingsError: A URI of another kind, or one that names no bucket.
        """
        shown = str(typed)
        if _IS_URI.match(shown.strip()):
            location = locate(shown, option)
            if location.scheme == "s3":
                return cls(location.uri, shown, option, Store(location.uri))
            shown = location.root
        # pathlib's resolve() raises a RuntimeError for a link that leads to itself.
        real = os.path.realpath(local_path(shown, option))
        return cls(real, shown, option, Store(real))

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of this machine (or mounted there)."""
        return self._root.is_local

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.uri.rpartition("/")[2]

    @property
    def parent(self) -> RawFolder | None:
        """The folder that it lies in; a bucket lies in none."""
        if self.is_local:
            # As it was typed: a link's target lies elsewhere.
            return RawFolder.of(Path(self.typed).expanduser().absolute().parent, self.option)
        above = self.uri.rpartition("/")[0]
        return None if above == "s3:/" else RawFolder.of(above, self.option)

    def __truediv__(self, name: str) -> RawFolder:
        """The folder of that name directly below; it shares this one's connections."""
        typed = f"{self.typed.rstrip('/')}/{name}"
        return RawFolder(f"{self.uri.rstrip('/')}/{name}", typed, self.option, self._root)

    def entries(self) -> list[Entry]:
        """What lies directly below, by name; hidden files are not left out.

        In a bucket an object whose name is that of a prefix, too, is there twice: once as a file.

        Raises:
            FileNotFoundError: There is no such folder; in a bucket also where it is empty.
            OSError: It is a file, or can't be listed.
            StoreError: The bucket can't be listed.
        """
        found = self._list_folder() if self.is_local else self._list_prefix()
        return sorted(found, key=lambda entry: (entry.name, entry.kind))

    def _list_folder(self) -> list[Entry]:
        with os.scandir(self.uri) as entries:
            return [_look_at(entry) for entry in entries]

    def _list_prefix(self) -> list[Entry]:
        path = self.uri.removeprefix("s3://")
        found = self._reach(lambda: self._root.filesystem.ls(path, detail=True))
        entries = []
        for info in found:
            name, is_folder = str(info["name"]), info["type"] == "directory"
            if name == path and not is_folder:
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), self.typed)
            name = name[len(path) + 1 :]
            if is_folder:
                entries.append(Entry(name, EntryKind.FOLDER))
            elif name:  # An object named like the prefix itself is what consoles make of a folder.
                kind = EntryKind.BROKEN if VERSION in name else EntryKind.FILE
                entries.append(Entry(name, kind, int(info["size"])))
        return entries

    def trouble(self) -> str | None:
        """Why it is no folder that can be listed, as the end of a sentence; None if it is one."""
        try:
            if self.is_local:
                if (path := Path(self.uri)).is_dir():
                    return None
                return "is a file" if path.exists() else "does not exist"
            self.entries()
        except FileNotFoundError:
            return "does not exist, or nothing lies below it"
        except NotADirectoryError:
            return "is a single object"
        except OSError as error:  # A name too long, or a folder above that is closed.
            return f"can't be listed: {error.strerror}"
        return None

    def has_file(self, name: str) -> bool:
        """Whether a file of that name lies below; where access is refused, there is none."""
        if self.is_local:
            return Path(self.uri, name).is_file()
        path = f"{self.uri.removeprefix('s3://')}/{name}"
        try:
            return bool(self._reach(lambda: self._root.filesystem.is_object(path)))
        except StoreError:
            return False

    def read(self, name: str, limit: int) -> bytes:
        """The content of a file directly below, in one request.

        Raises:
            FileNotFoundError: It is not there (any more).
            OSError: It can't be read, or (EFBIG) has more bytes than the limit.
            StoreError: The bucket can't be reached.
        """
        path = f"{self.uri}/{name}"
        if self.is_local:
            # Opened otherwise, a FIFO that has taken the file's place would be waited for.
            with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:  # noqa: PTH123
                found = os.fstat(file.fileno())
                if not stat.S_ISREG(found.st_mode):
                    raise OSError(errno.EINVAL, "no regular file", path)
                # read() takes memory for as many bytes as it is asked for.
                data = file.read(min(found.st_size, limit) + 1)
        else:
            key, files = path.removeprefix("s3://"), self._root.filesystem
            data = self._reach(lambda: files.cat_file(key, start=0, end=limit + 1))
        if len(data) > limit:
            raise OSError(errno.EFBIG, f"a file above {size_text(limit)}", path)
        return data

    def _reach(self, action: Callable[[], T]) -> T:
        return self._root.reach(action, self.typed, self.option)


class RawFile(NamedTuple):
    """A file directly below a raw folder; its text is how the user named it."""

    folder: RawFolder
    name: str

    def __str__(self) -> str:
        return (self.folder / self.name).typed

    def read_input(self, most: int) -> bytes:
        """The content of a text file of at most `most` bytes; raises as `inputs.read_input`."""
        if self.folder.is_local:
            return read_input(Path(self.folder.uri, self.name), most)
        data = self.folder.read(self.name, most)
        refuse_binary(data)
        return data


def _look_at(entry: os.DirEntry[str]) -> Entry:
    try:
        found = entry.stat()
    except OSError:
        return Entry(entry.name, EntryKind.BROKEN)
    if stat.S_ISDIR(found.st_mode):
        return Entry(entry.name, EntryKind.FOLDER)
    if not stat.S_ISREG(found.st_mode):
        return Entry(entry.name, EntryKind.OTHER)
    return Entry(entry.name, EntryKind.FILE, found.st_size)


def ahead(
    pool: ThreadPoolExecutor, work: Callable[[S], T], items: Iterable[S], most: int
) -> Iterator[T]:
    """What the pool's threads make of the items, in order, at most `most` of it in memory."""
    submitted = (pool.submit(work, item) for item in items)
    waiting = deque(itertools.islice(submitted, most))
    while waiting:
        done = waiting.popleft().result()
        waiting.extend(itertools.islice(submitted, 1))
        yield done
