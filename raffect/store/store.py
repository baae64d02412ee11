"""A store: keys below one URI. Writes are atomic, errors translated, nothing is unpickled."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import copy
from pathlib import Path
from typing import Any, TypeVar

from raffect.context import DEFAULT_STORE, STORE_VARIABLE
from raffect.store.filesystem import Location, locate, open_filesystem, shared_filesystem
from raffect.store.folder import create_file, delete_all, read_file, write_file
from raffect.store.retry import OUTAGE, PATIENCE_S, patiently
from raffect.store.translate import translated

T = TypeVar("T")


class Store:
    """A folder or `s3://bucket/prefix`; keys are relative paths with `/`.

    A store can be pickled: only its URI travels, credentials come from the environment of the
    process that unpickles it, in which all such stores have one client. Every method raises
    StoreError if the store can't be used, and FileNotFoundError if a key that is read does not
    exist.

    Every method waits for a server that is away (retry.PATIENCE_S), once it has answered: here, or
    where the store was pickled. Before that its address may be wrong, which is said at once.
    """

    def __init__(self, uri: str, has_answered: bool = False, option: str = "--store") -> None:
        self._location = locate(uri, option)
        self.uri = self._location.uri
        self._opened: Any = None
        self._open: Callable[[Location], Any] = open_filesystem
        self._has_answered = has_answered
        self._patience_s = PATIENCE_S

    @classmethod
    def open(cls, uri: str | None = None) -> Store:
        """The store a user named, else that of STORE_VARIABLE, else DEFAULT_STORE."""
        if uri is not None:
            return cls(uri)
        return cls(os.environ.get(STORE_VARIABLE) or DEFAULT_STORE, option=STORE_VARIABLE)

    def __reduce__(self) -> tuple[Callable[..., Store], tuple[str, bool]]:
        return _arrived, (self.uri, self._has_answered)

    def __repr__(self) -> str:
        return f"Store({self.uri!r})"

    @property
    def filesystem(self) -> Any:
        """The fsspec file system, for libraries that take one; paths are those of `path`."""
        if self._opened is None:
            with translated(self.uri):
                self._opened = self._open(self._location)
        return self._opened

    @property
    def is_local(self) -> bool:
        """Whether the store is a folder."""
        return self._location.scheme == "file"

    @property
    def is_absent(self) -> bool:
        """Whether it is a folder that does not exist; of a bucket that is not known."""
        try:
            if self.is_local:
                Path(self.uri).stat()
        except FileNotFoundError:
            return True
        except OSError:
            # Whoever uses it says why.
            pass
        return False

    def hurried(self) -> Store:
        """The same store, that waits for nothing: for a caller that comes again by itself."""
        if self.is_local:
            return self
        same = copy(self)
        same._patience_s = 0.0
        return same

    def reach(
        self, action: Callable[[], T], named: str | None = None, option: str | None = None
    ) -> T:
        """The value of requests that may be repeated; waits as the class says.

        Args:
            named: What messages call the store (see `translated`, also for `option`).
        """

        def attempt() -> T:
            try:
                with translated(named or self.uri, option):
                    found = action()
            except FileNotFoundError:
                self._answered()
                raise
            self._answered()
            return found

        return patiently(attempt, self._patience_s if self._has_answered else 0.0)

    def _answered(self) -> None:
        self._has_answered = True
        if not self.is_local:
            OUTAGE.over()

    def path(self, key: str) -> str:
        """A key as the file system names it, without a scheme."""
        return f"{self._location.root}/{key}" if key else self._location.root

    def where(self, key: str) -> str:
        """A key as messages name it, with the scheme."""
        return f"{self.uri}/{key}"

    def read_bytes(self, key: str, start: int | None = None, end: int | None = None) -> bytes:
        """The content of a key, or bytes of it; they count from its end where negative."""
        data: bytes = self.reach(
            lambda: self.filesystem.cat_file(self.path(key), start=start, end=end)
        )
        return data

    def read_buffer(self, key: str) -> memoryview:
        """The content of a large file, in memory that is quicker to get than that of `bytes`."""

        def read() -> memoryview:
            if self.is_local:
                return read_file(Path(self.path(key)))
            found: memoryview = self.filesystem.read_buffer(self.path(key))
            return found

        return self.reach(read)

    def write_bytes(self, key: str, data: bytes) -> None:
        """Write a key atomically: readers see the old content or the new, never a mixture."""

        def write() -> None:
            if self.is_local:
                write_file(Path(self.path(key)), data)
            else:
                self.filesystem.pipe_file(self.path(key), data)

        self.reach(write)

    def create(self, key: str, data: bytes) -> bool:
        """Write a key only if it does not exist, atomically; False if it did.

        On object storage this is a conditional write (If-None-Match): of concurrent writers with
        different data exactly one succeeds. If the first attempt succeeded and only its reply was
        lost, the client's own retry is refused; the object then holds our data, which counts as
        success.
        """

        def write() -> bool:
            try:
                if self.is_local:
                    create_file(Path(self.path(key)), data)
                else:
                    self.filesystem.pipe_file(self.path(key), data, mode="create")
                return True
            except FileExistsError:
                if self.is_local:
                    return False
            try:
                return bool(self.filesystem.cat_file(self.path(key)) == data)
            except FileNotFoundError:
                return False

        return self.reach(write)

    def read_json(self, key: str) -> Any:
        """The content of a key as JSON."""
        return json.loads(self.read_bytes(key))

    def write_json(self, key: str, value: Any) -> None:
        """Write a JSON value, indented for people."""
        self.write_bytes(key, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())

    def exists(self, key: str) -> bool:
        """Whether a key (a file, not a folder) is there."""
        if not self.is_local:
            return bool(self.reach(lambda: self.filesystem.is_object(self.path(key))))
        # fsspec's isfile() reports any failure as an absent file.
        try:
            info = self.reach(lambda: self.filesystem.info(self.path(key)))
        except (FileNotFoundError, NotADirectoryError):
            return False
        return bool(info["type"] == "file")

    def names(self, folder: str) -> list[str]:
        """Names directly below a folder, sorted; an absent folder is empty."""
        found = self._listed(folder, deep=False)
        names = {str(path).rstrip("/").rsplit("/", 1)[-1] for path in found}
        # Object storage lists a folder's own marker; hidden files are leftovers of killed writers.
        names.discard(folder.rsplit("/", 1)[-1])
        return sorted(name for name in names if not name.startswith("."))

    def files(self, folder: str) -> list[str]:
        """Keys of all files below a folder, sorted; an absent folder is empty."""
        found = self._listed(folder, deep=True)
        cut = len(self._location.root) + 1
        keys = [str(path)[cut:] for path in found]
        return sorted(key for key in keys if not key.rsplit("/", 1)[-1].startswith("."))

    def _listed(self, folder: str, deep: bool) -> list[str]:
        def find() -> list[str]:
            files, path = self.filesystem, self.path(folder)
            if not self.is_local:
                # One request; ls() and find() send two or three where there is nothing.
                return list(files.listed(path, deep))
            return list(files.find(path) if deep else files.ls(path, detail=False))

        try:
            return self.reach(find)
        except FileNotFoundError:
            return []

    def delete(self, key: str) -> None:
        """Delete a file, or a folder and everything below it; an absent key is no error.

        A folder's manifest goes first, and its plan last (layout.deletion_order).
        """

        def remove() -> None:
            if self.is_local:
                delete_all(Path(self.path(key)))
            else:
                self.filesystem.rm(self.path(key), recursive=True)

        with suppress(FileNotFoundError):
            self.reach(remove)

    def delete_keys(self, keys: Sequence[str]) -> None:
        """Delete exactly these files; one that is absent is no error.

        Each answer is checked: StoreError where the server does not delete one.
        """
        paths = [self.path(key) for key in keys]

        def remove() -> None:
            if self.is_local:
                for path in paths:
                    Path(path).unlink(missing_ok=True)
            else:
                self.filesystem.delete_keys(paths)

        self.reach(remove)


def _arrived(uri: str, has_answered: bool) -> Store:
    """A store that was unpickled, as each task of Ray has one."""
    store = Store(uri, has_answered)
    store._open = shared_filesystem
    return store
