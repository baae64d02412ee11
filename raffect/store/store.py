"""A store: keys below one URI. Writes are atomic, errors translated, nothing is unpickled."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from raffect.context import DEFAULT_STORE, STORE_VARIABLE
from raffect.store.filesystem import locate, open_filesystem
from raffect.store.translate import translated


class Store:
    """A folder or `s3://bucket/prefix`; keys are relative paths with `/`.

    A store can be pickled: only its URI travels, credentials come from the environment of the
    process that unpickles it. Every method raises StoreError if the store can't be used, and
    FileNotFoundError if a key that is read does not exist.
    """

    def __init__(self, uri: str) -> None:
        self._location = locate(uri)
        self.uri = self._location.uri
        self._opened: Any = None

    @classmethod
    def open(cls, uri: str | None = None) -> Store:
        """The store a user named, else that of STORE_VARIABLE, else DEFAULT_STORE."""
        return cls(uri or os.environ.get(STORE_VARIABLE) or DEFAULT_STORE)

    def __reduce__(self) -> tuple[type[Store], tuple[str]]:
        return Store, (self.uri,)

    def __repr__(self) -> str:
        return f"Store({self.uri!r})"

    @property
    def filesystem(self) -> Any:
        """The fsspec file system, for libraries that take one; paths are those of `path`."""
        if self._opened is None:
            with translated(self.uri):
                self._opened = open_filesystem(self._location)
        return self._opened

    @property
    def is_local(self) -> bool:
        """Whether the store is a folder."""
        return self._location.scheme == "file"

    def path(self, key: str) -> str:
        """A key as the file system names it, without a scheme."""
        return f"{self._location.root}/{key}" if key else self._location.root

    def where(self, key: str) -> str:
        """A key as messages name it, with the scheme."""
        return f"{self.uri}/{key}"

    def read_bytes(self, key: str) -> bytes:
        """The content of a key."""
        with translated(self.uri):
            data: bytes = self.filesystem.cat_file(self.path(key))
            return data

    def write_bytes(self, key: str, data: bytes) -> None:
        """Write a key atomically: readers see the old content or the new, never a mixture."""
        with translated(self.uri):
            if self.is_local:
                self._write_beside(key, data).replace(self.path(key))
            else:
                self.filesystem.pipe_file(self.path(key), data)

    def create(self, key: str, data: bytes) -> bool:
        """Write a key only if it does not exist, atomically; False if it did.

        On object storage this is a conditional write (If-None-Match): of concurrent writers with
        different data exactly one succeeds. If the first attempt succeeded and only its reply was
        lost, the client's own retry is refused; the object then holds our data, which counts as
        success.
        """
        with translated(self.uri):
            try:
                if self.is_local:
                    temporary = self._write_beside(key, data)
                    try:
                        os.link(temporary, self.path(key))
                    finally:
                        temporary.unlink()
                else:
                    self.filesystem.pipe_file(self.path(key), data, mode="create")
                return True
            except FileExistsError:
                if self.is_local:
                    return False
            try:
                return self.read_bytes(key) == data
            except FileNotFoundError:
                return False

    def _write_beside(self, key: str, data: bytes) -> Path:
        target = Path(self.path(key))
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        return temporary

    def read_json(self, key: str) -> Any:
        """The content of a key as JSON."""
        return json.loads(self.read_bytes(key))

    def write_json(self, key: str, value: Any) -> None:
        """Write a JSON value, indented for people."""
        self.write_bytes(key, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())

    def exists(self, key: str) -> bool:
        """Whether a key (a file, not a folder) is there."""
        with translated(self.uri):
            # fsspec's isfile() reports any failure, even an unreachable server, as an absent file.
            try:
                return bool(self.filesystem.info(self.path(key))["type"] == "file")
            except (FileNotFoundError, NotADirectoryError):
                return False

    def names(self, folder: str) -> list[str]:
        """Names directly below a folder, sorted; an absent folder is empty."""
        with translated(self.uri):
            try:
                found = self.filesystem.ls(self.path(folder), detail=False)
            except FileNotFoundError:
                return []
        names = {str(path).rstrip("/").rsplit("/", 1)[-1] for path in found}
        # Object storage lists a folder's own marker; hidden files are leftovers of killed writers.
        names.discard(folder.rsplit("/", 1)[-1])
        return sorted(name for name in names if not name.startswith("."))

    def files(self, folder: str) -> list[str]:
        """Keys of all files below a folder, sorted; an absent folder is empty."""
        with translated(self.uri):
            try:
                found = self.filesystem.find(self.path(folder))
            except FileNotFoundError:
                return []
        cut = len(self._location.root) + 1
        keys = [str(path)[cut:] for path in found]
        return sorted(key for key in keys if not key.rsplit("/", 1)[-1].startswith("."))

    def delete(self, key: str) -> None:
        """Delete a file, or a folder and everything below it; an absent key is no error."""
        with translated(self.uri), suppress(FileNotFoundError):
            self.filesystem.rm(self.path(key), recursive=True)

    def delete_keys(self, keys: Sequence[str]) -> None:
        """Delete exactly these files; one that is absent is no error.

        Each answer is checked: StoreError where the server does not delete one.
        """
        paths = [self.path(key) for key in keys]
        with translated(self.uri):
            if self.is_local:
                for path in paths:
                    Path(path).unlink(missing_ok=True)
            else:
                self.filesystem.delete_keys(paths)
