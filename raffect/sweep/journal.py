"""Optuna's journal in a store: the same in a folder and on S3, without locks.

A sweep's study is a list of numbered log entries. It lies in one folder of the store:

    00000000-00000120.jsonl    entries 0 to 119, merged from older objects
    00000120.jsonl             entries from 120 on, as many as it has lines
    00000123.jsonl             ...

An append creates the object that is named by the number of its first entry, with a conditional
write: of two writers that both took 123 for the next number exactly one succeeds, the other
reads what it missed. Merging writes the merged object, then deletes the older object that holds
entry 0, and only then the small ones. Hence a writer that still finds its entry 0 in the same
object after an append knows that no number which it had not seen was freed before; and readers
find every entry at any moment: where objects overlap, the merged one counts.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from optuna.storages.journal import BaseJournalBackend

from raffect.errors import ConflictError, StoreError
from raffect.store import Store
from raffect.store.retry import patiently

MERGE_AFTER = 256
"""Small objects after which a batch merges them: about 0.3 s of requests on S3, once in 256."""
_MERGE_SHARE = 400
"""Of a study's entries: 10,000 trials are merged every 1,000 objects, for 2 s on S3."""
_NAME = re.compile(r"(\d{8,})(?:-(\d{8,}))?\.jsonl")
_READERS = 16
_ATTEMPTS = 100
PATIENCE_S = 1.0
"""How long entries that may wait do so for the next batch: what a kill may cost, in seconds."""


@dataclass
class Batch:
    """Entries of one block.

    Attributes:
        may_wait: Nothing was decided by them, and who wrote them can tell them again: they may
            be written with the next batch.
    """

    may_wait: bool = False


class StoreJournal(BaseJournalBackend):
    """Journal entries of one study in a folder of a store.

    Outside of `batch` every call talks to the store and several writers may take turns. Inside of
    it entries are held back and written as one object, at the end or with those of a later batch.

    Args:
        store: Where the folder lies.
        folder: The study's folder.
    """

    def __init__(self, store: Store, folder: str) -> None:
        self._store = store
        self._folder = folder
        self._lines: list[str] = []
        self._merged: str | None = None
        self._small: list[str] = []
        self._batch: Batch | None = None
        self._held: list[str] = []
        self._held_since = 0.0

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Entries from a number on; in a batch those known, with the ones held back."""
        if self._batch is None:
            self.flush()
            self._refresh()
        # Optuna asks at every call: a copy of all lines would cost 3 ms at 10,000 trials.
        known = len(self._lines)
        for line in self._lines[log_number_from:]:
            yield json.loads(line)
        for line in self._held[max(0, log_number_from - known) :]:
            yield json.loads(line)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write entries after all that are there."""
        lines = [json.dumps(log, separators=(",", ":")) for log in logs]
        if not lines:
            return
        if self._batch is not None:
            self._held_since = self._held_since if self._held else time.monotonic()
            self._held += lines
            return
        self.flush()
        for _ in range(_ATTEMPTS):
            if self._append(lines):
                return
            self._refresh()
        raise StoreError(
            f"{self._store.where(self._folder)} can't be written: {_ATTEMPTS} attempts all met "
            "another writer.",
            "one command per sweep at a time",
            "Stop the other one, and give the command again: it continues.",
        )

    @contextmanager
    def batch(self) -> Iterator[Batch]:
        """Write all entries of the block as one object.

        Reads in the block see what this process knows, without a request. A block that marks its
        batch `may_wait` leaves its entries to the next one, or to `flush`.

        Raises:
            ConflictError: Another process has written since: it has taken the sweep over, and
                what the block decided was decided on old knowledge. Nothing is written.
        """
        if self._batch is not None:
            yield self._batch
            return
        self._batch = batch = Batch()
        try:
            yield batch
        finally:
            # Also after an error: Optuna's copy in memory has these entries already.
            self._batch = None
            self.flush(PATIENCE_S if batch.may_wait else 0.0)
        # Merging rewrites everything: a large study does it more rarely.
        if len(self._small) >= max(MERGE_AFTER, len(self._lines) // _MERGE_SHARE):
            self.merge()

    def flush(self, patience: float = 0.0) -> None:
        """Write what is held back as one object, unless all of it is younger than `patience`.

        Raises:
            ConflictError: As `batch`.
        """
        if not self._held or time.monotonic() - self._held_since < patience:
            return
        held, self._held = self._held, []
        # What a store that is down for a moment has taken in already is known again.
        if not patiently(lambda: self._append(held)):
            raise _taken_over(self._store.where(self._folder))

    def merge(self) -> None:
        """Turn all objects into one; safe against a kill at any moment."""
        self.flush()
        self._refresh()
        if not self._small:
            return
        merged = f"{0:08d}-{len(self._lines):08d}.jsonl"
        self._store.create(self._key(merged), _encode(self._lines))
        found = [name for name in self._store.names(self._folder) if _NAME.fullmatch(name)]
        if _newest_merged(found) != merged:
            # Another process has merged more in the meantime; its object is the one that counts.
            self._store.delete(self._key(merged))
            return
        old = [name for name in found if _start(name) == 0 and name != merged]
        covered = [name for name in found if 0 < _start(name) < _end(merged)]
        # What other writers look for goes first: see the module's docstring.
        self._delete(old)
        self._delete(covered)
        self._merged = merged
        self._small = []

    def _append(self, lines: list[str]) -> bool:
        """Write after what this process knows; False if another process has written there."""
        name = f"{len(self._lines):08d}.jsonl"
        if not self._store.create(self._key(name), _encode(lines)):
            return False
        if not self._holds_first():
            current = _newest_merged(self._store.names(self._folder))
            if current is not None and _end(current) > len(self._lines):
                self._store.delete(self._key(name))
                return self._was_merged(current, lines)
            self._merged = current
        self._lines += lines
        self._small.append(name)
        return True

    def _was_merged(self, merged: str, lines: list[str]) -> bool:
        """Whether a merged object that has this process's next number holds its entries there.

        Then it was merged after they were written: written again they would be doubled. Else the
        number was that of another writer's entries, and freed by the merge.
        """
        try:
            (content,) = self._read([merged])
        except FileNotFoundError:
            newer = _newest_merged(self._store.names(self._folder))
            assert newer is not None
            return self._was_merged(newer, lines)
        start = len(self._lines)
        if content[start : start + len(lines)] != lines:
            return False
        self._lines, self._small, self._merged = content, [], merged
        return True

    def _holds_first(self) -> bool:
        """Whether the object with entry 0 is the one this process knows: nobody has merged."""
        if not self._lines:
            return False
        first = self._merged or f"{0:08d}.jsonl"
        return self._store.exists(self._key(first))

    def _refresh(self) -> None:
        """Read what others have written since."""
        for _ in range(_ATTEMPTS):
            try:
                self._read_new()
            except FileNotFoundError:
                # Merged between listing and reading: the next listing shows the merged object.
                continue
            return
        raise StoreError(
            f"{self._store.where(self._folder)} changes faster than it can be read.",
            "one command per sweep at a time",
        )

    def _read_new(self) -> None:
        names = [name for name in self._store.names(self._folder) if _NAME.fullmatch(name)]
        merged = _newest_merged(names)
        lines, small = self._lines, self._small
        if merged is not None and merged != self._merged:
            if _end(merged) > len(lines):
                lines = self._read([merged])[0]
            small = [name for name in small if _start(name) >= _end(merged)]
        new = sorted(n for n in names if not _is_merged(n) and _start(n) >= len(lines))
        for name, content in zip(new, self._read(new), strict=True):
            if _start(name) != len(lines):
                # Left by a writer that was killed after it met a merge: covered, or not next.
                continue
            lines = [*lines, *content]
            small = [*small, name]
        self._lines, self._small, self._merged = lines, small, merged

    def _read(self, names: list[str]) -> list[list[str]]:
        keys = [self._key(name) for name in names]
        if len(keys) < 2 or self._store.is_local:
            blobs: Iterable[bytes] = map(self._store.read_bytes, keys)
            return [blob.decode().splitlines() for blob in blobs]
        with ThreadPoolExecutor(_READERS) as pool:
            return [blob.decode().splitlines() for blob in pool.map(self._store.read_bytes, keys)]

    def _delete(self, names: list[str]) -> None:
        keys = [self._key(name) for name in names]
        if self._store.is_local:
            for key in keys:
                self._store.delete(key)
            return
        with ThreadPoolExecutor(_READERS) as pool:
            list(pool.map(self._store.delete, keys))

    def _key(self, name: str) -> str:
        return f"{self._folder}/{name}"


def _encode(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _taken_over(where: str) -> ConflictError:
    return ConflictError(
        f"Another command has taken over {where}.",
        "one command per sweep at a time",
        "Let the other one finish; `raffect trials` shows how far it is.",
    )


def _start(name: str) -> int:
    return int(name.split(".")[0].split("-")[0])


def _end(name: str) -> int:
    return int(name.split(".")[0].split("-")[1])


def _is_merged(name: str) -> bool:
    match = _NAME.fullmatch(name)
    return match is not None and match[2] is not None


def _newest_merged(names: Iterable[str]) -> str | None:
    return max((name for name in names if _is_merged(name)), key=_end, default=None)
