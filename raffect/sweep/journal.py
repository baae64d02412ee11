"""Optuna's journal in a store: the same in a folder and on S3, without locks.

A sweep's study is a list of numbered log entries. It lies in one folder of the store, in segments:

    00000000-00000120.jsonl    entries 0 to 119, compacted from older segments
    00000120.jsonl             entries from 120 on, as many as it has lines
    00000123.jsonl             ...

An append creates the segment that is named by the number of its first entry, with a conditional
write: of two writers that both took 123 for the next number exactly one succeeds, the other reads
what it missed. A compaction writes the compacted segment, then deletes the older segment that
holds entry 0, and only then the others. The segment with entry 0 is thus the journal's generation:
a writer that still finds it unchanged after an append knows that no number which it had not seen
was freed before. And readers find every entry at any moment: where segments overlap, the compacted
one counts.

Each entry ends with a checksum of its own, `"sum":"LEFT-CRC"`: of its text, of its number, and of
how many entries followed it in the segment in which it was written. So a changed byte, a lost tail
and a missing segment are all noticed. Older entries have none. A compacted segment has blank lines
where trials were condensed (entries.py).
"""

from __future__ import annotations

import gc
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeVar

from optuna.storages.journal import BaseJournalBackend

from raffect.errors import ConflictError, DamagedError, StoreError
from raffect.store import Store
from raffect.sweep.entries import NOTHING, condense, encode, holds, parse, read_on, seal, unseal
from raffect.sweep.replay import Replayed

COMPACT_AFTER = 256
"""Segments after which a batch compacts them: about 0.3 s of requests on S3, once in 256."""
_COMPACT_SHARE = 400
"""Of a study's entries: 10,000 trials are compacted every 1,000 segments, for 2 s on S3."""
_NAME = re.compile(r"\d{8,}(-\d{8,})?\.jsonl")
_READERS = 16
_HEAD = 1024
_LINE = 1024
"""Bytes of an entry, more than they are on average."""
_ATTEMPTS = 100
T = TypeVar("T")
PATIENCE_S = 1.0
"""How long entries that may wait do so for the next batch: what a kill may cost, in seconds."""


def never() -> bool:
    """Whether no other process can have compacted a journal: that is not known."""
    return False


@contextmanager
def uncollected() -> Iterator[None]:
    """Python looks for no cycles meanwhile, which takes half of the time that a study does."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@dataclass
class Batch:
    """Entries of one block."""

    may_wait: bool = False
    """Nothing was decided by them, and their writer can repeat them: the next batch may do."""


class OvertakenError(ConflictError):
    """Others have written since: what a block decided was decided on old knowledge."""


class StoreJournal(BaseJournalBackend, Replayed):
    """Journal entries of one study in a folder of a store.

    Outside of `batch` every call talks to the store and several writers may take turns. Inside of
    it entries are held back and written as one segment, at the end or with those of a later batch.

    Attributes:
        heard: How many entries of others were read.
        contact: When the store last showed what others have written, by the monotonic clock.

    Args:
        is_alone: Whether no other process can have compacted the journal, e.g. as this one holds
            the sweep's lease: an append is then one request, and not looked after.
    """

    def __init__(self, store: Store, folder: str, is_alone: Callable[[], bool] = never) -> None:
        self._is_alone = is_alone
        self._store = store
        self._folder = folder
        self._lines: list[str] = []
        self._compacted: str | None = None
        self._segments: list[str] = []
        self._batch: Batch | None = None
        self._held: list[str] = []
        self._held_since = 0.0
        self._is_frozen = False
        self._made_up = False
        self.heard = 0
        self.contact = time.monotonic()

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Entries from a number on; in a batch those known, with the ones held back."""
        if self._batch is None:
            self.flush()
            self._refresh()
        # Optuna asks at every call: a copy of all lines would cost 3 ms at 10,000 trials.
        lines = self._lines[log_number_from:]
        held = self._held[max(0, log_number_from - len(self._lines)) :]
        with nullcontext() if log_number_from else uncollected():
            for line in chain(lines, held):
                yield parse(line) if line else NOTHING

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write entries after all that are there."""
        lines = [json.dumps(log, separators=(",", ":")) for log in logs]
        if not lines:
            return
        assert not self._is_frozen
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
            "Stop the other one, and run the command again: it continues.",
        )

    @contextmanager
    def batch(self) -> Iterator[Batch]:
        """Write all entries of the block as one segment.

        Reads in the block see what this process knows, without a request. A block that marks its
        batch `may_wait` leaves its entries to the next one, or to `flush`.

        Raises:
            OvertakenError: Another process has written since. Nothing of the block is written,
                what waited before it goes on waiting, and the other's entries are read. A
                JournalStorage on this journal has replayed what is not there: make a new one.
        """
        if self._batch is not None:
            yield self._batch
            return
        self._batch = batch = Batch()
        before = len(self._held)
        try:
            yield batch
        finally:
            # Also after an error: Optuna's copy in memory has these entries already.
            self._batch = None
            self.flush(PATIENCE_S if batch.may_wait else 0.0, before)
        # A compaction rewrites everything: a large study does it more rarely.
        if len(self._segments) >= max(COMPACT_AFTER, len(self._lines) // _COMPACT_SHARE):
            self.compact()

    def flush(self, patience: float = 0.0, keep: int | None = None) -> None:
        """Write what is held back as one segment, unless all of it is younger than `patience`.

        Raises:
            OvertakenError: As `batch`; the first `keep` entries (all by default) go on waiting.
        """
        if not self._held or time.monotonic() - self._held_since < patience:
            return
        held, self._held = self._held, []
        # If the first attempt succeeded and only its reply was lost, create() recognises its own
        # object.
        if not self._append(held):
            self._held = held[:keep]
            self._refresh()
            raise OvertakenError(
                f"Another command has taken over {self._store.where(self._folder)}.",
                "one command per sweep at a time",
                "Let the other one finish; `raffect trials` shows how far it is.",
            )

    def look(self) -> None:
        """Read what others have written, after writing what is held back; errors as `flush`."""
        self.flush()
        self._refresh()

    def was_begun_anew(self) -> bool:
        """Whether it is another journal than what was read, by its first entry.

        That holds the id of the process that wrote it.
        """
        names = self._names()
        first = _newest_compacted(names) or min(names, default="")
        if not self._lines or (first and first == self._compacted):
            return False
        known = self._lines[0].encode()[:_HEAD]
        try:
            return not first or self._store.read_bytes(self._key(first), 0, len(known)) != known
        except FileNotFoundError:
            # Compacted after the names were read: the next look shows which.
            return False

    def freeze(self) -> None:
        """Read what is there; nothing can be appended any more, and reads send no request."""
        self.look()
        self._batch = Batch()
        self._is_frozen = True

    def drop(self) -> None:
        """Forget what is held back."""
        self._held = []

    def compact(self) -> dict[str, bytes]:
        """Turn all segments into one; safe against a kill at any moment.

        Returns its content by its name; nothing of an empty journal.
        """
        self.flush()
        self._refresh()
        if self._segments:
            self._compact()
        return {self._compacted: encode(self._lines)} if self._compacted else {}

    def _compact(self) -> None:
        compacted = f"{0:08d}-{len(self._lines):08d}.jsonl"
        lines, end = self._lines, _end(self._compacted) if self._compacted else 0
        if self._compacted and self._made_up:
            with suppress(FileNotFoundError):
                lines = [*self._read([self._compacted])[0], *lines[end:]]
        lines = condense(lines, end)
        if not self._store.create(self._key(compacted), encode(lines)):
            # Another process has compacted the same entries; it may have condensed others of them.
            with suppress(FileNotFoundError):
                (lines,) = self._read([compacted])
        found = self._names()
        if _newest_compacted(found) != compacted:
            # Another process has compacted more in the meantime: its segment counts.
            self._store.delete_keys([self._key(compacted)])
            self._refresh()
            return
        old = [name for name in found if _start(name) == 0 and name != compacted]
        covered = [name for name in found if 0 < _start(name) < _end(compacted)]
        # The old generation goes first, as other writers look for it: see the module's docstring.
        self._store.delete_keys([self._key(name) for name in old])
        self._store.delete_keys([self._key(name) for name in covered])
        self._lines, self._segments, self._compacted = lines, [], compacted
        self._made_up = False

    def keep_whole(self) -> None:
        """Delete what is damaged, and what came after it; the entries before it stay.

        What is left is what the journal was at a moment before. No other process may write it.
        """
        names = self._names()
        newest = _newest_compacted(names)
        after = [name for name in names if "-" not in name]
        whole: list[str] = []
        for name in [newest, *after] if newest else after:
            if _start(name) > len(whole):
                break
            try:
                lines, damage = _parse(name, self._store.read_bytes(self._key(name)))
            except (DamagedError, FileNotFoundError):
                break
            if _start(name) == len(whole):
                whole += lines
            if damage:
                break
        kept = f"{0:08d}-{len(whole):08d}.jsonl"
        if whole and kept not in names:
            self._store.create(self._key(kept), encode(whole))
        for name in names:
            # The largest compacted segment counts: the damaged one goes before the others.
            if name != kept or not whole:
                self._store.delete(self._key(name))
        self._lines, self._segments, self._compacted = [], [], None

    def _append(self, lines: list[str]) -> bool:
        """Write after what this process knows; False if another process has written there."""
        name = f"{len(self._lines):08d}.jsonl"
        lines = seal(lines, len(self._lines))
        if not self._store.create(self._key(name), encode(lines)):
            return False
        # The segment with entry 0 is the journal's generation: see the module's docstring.
        first = self._compacted or f"{0:08d}.jsonl"
        if not self._is_alone() and not (self._lines and self._store.exists(self._key(first))):
            current = _newest_compacted(self._names())
            if current is not None and _end(current) > len(self._lines):
                self._store.delete_keys([self._key(name)])
                return self._was_compacted(current, lines)
            self._compacted = current
        self._lines += lines
        self._segments.append(name)
        self.contact = time.monotonic()
        return True

    def _was_compacted(self, compacted: str, lines: list[str]) -> bool:
        """Whether a compacted segment has this process's entries at its next number.

        Then they were written before the compaction, and again they would be doubled. Else the
        number was that of another writer's entries, and freed by the compaction.
        """
        try:
            (content,) = self._read([compacted])
        except FileNotFoundError:
            newer = _newest_compacted(self._names())
            assert newer is not None
            return self._was_compacted(newer, lines)
        start = len(self._lines)
        if not holds(content, lines, start):
            return False
        self.heard += len(content) - start - len(lines)
        self._made_up |= "" in content[start:]
        self._lines, self._segments, self._compacted = read_on(self._lines, content), [], compacted
        return True

    def _refresh(self) -> None:
        """Read what others have written since.

        Raises:
            DamagedError: A segment is damaged or missing.
        """
        missing = None
        for _ in range(_ATTEMPTS):
            try:
                self._read_new()
            except FileNotFoundError:
                # Compacted between listing and reading: the next listing shows the new segment.
                continue
            except _MissingError as error:
                # So may a listing look that was made while the folder was compacted.
                if error.names == missing:
                    raise self._damaged(error.name, "is missing") from None
                missing = error.names
                continue
            self.contact = time.monotonic()
            return
        raise StoreError(
            f"{self._store.where(self._folder)} changes faster than it can be read.",
            "one command per sweep at a time",
        )

    def _read_new(self) -> None:
        names = self._names()
        compacted = _newest_compacted(names)
        lines, segments = self._lines, self._segments
        if compacted is not None and compacted != self._compacted:
            if _end(compacted) > len(lines):
                content = self._read_end(compacted) or self._read([compacted])[0]
                self._made_up |= bool(lines) and "" in content[len(lines) :]
                lines = read_on(lines, content)
            segments = [name for name in segments if _start(name) >= _end(compacted)]
        new = sorted(n for n in names if "-" not in n and _start(n) >= len(lines))
        added: list[str] = []
        for name, content in zip(new, self._read(new), strict=True):
            known = len(lines) + len(added)
            if _start(name) < known:
                # Left by a writer that was killed after it met a compaction.
                continue
            if _start(name) > known:
                raise _MissingError(f"{known:08d}.jsonl", names)
            added += content
            segments = [*segments, name]
        self.heard += len(lines) + len(added) - len(self._lines)
        self._lines, self._segments, self._compacted = lines, segments, compacted
        # In place: a new list of a long sweep's lines would take 10 ms at each look.
        self._lines += added

    def _read_end(self, compacted: str) -> list[str] | None:
        """All lines, if the end of a compacted segment has those that this process misses."""
        known, missing = len(self._lines), _end(compacted) - len(self._lines)
        if not known or missing > known // 2:
            return None
        blob = self._store.read_bytes(self._key(compacted), -_LINE * missing)
        new = b"\n".join(blob.split(b"\n")[-missing - 1 :])
        lines, damage = unseal(new, known, missing)
        # Where trials were condensed, the lines before say what became of them.
        return None if damage or "" in lines else [*self._lines, *lines]

    def _read(self, names: list[str]) -> list[list[str]]:
        found = []
        for name, blob in zip(names, self._for_each(self._store.read_bytes, names), strict=True):
            lines, damage = _parse(name, blob)
            if damage:
                raise self._damaged(name, damage)
            found.append(lines)
        return found

    def _damaged(self, name: str, what: str) -> DamagedError:
        sweep = self._folder.rpartition("/")[0].rpartition("/")[2]
        return DamagedError(
            f"{self._store.where(self._key(name))} {what}: the study of this sweep is not whole.",
            "the study as raffect wrote it, e.g. of a backup",
            f"Put it back, or make the sweep again: raffect tune ... --name {sweep} --overwrite",
        )

    def _for_each(self, work: Callable[[str], T], names: Sequence[str]) -> list[T]:
        """Side by side where each takes a request."""
        keys = [self._key(name) for name in names]
        if len(keys) < 2 or self._store.is_local:
            return list(map(work, keys))
        with ThreadPoolExecutor(_READERS) as pool:
            return list(pool.map(work, keys))

    def _names(self) -> list[str]:
        return [name for name in self._store.names(self._folder) if _NAME.fullmatch(name)]

    def _key(self, name: str) -> str:
        return f"{self._folder}/{name}"


def _parse(name: str, blob: bytes) -> tuple[list[str], str]:
    """A segment's whole lines, and what is wrong with the next one."""
    start = _start(name)
    return unseal(blob, start, _end(name) - start if "-" in name else None)


class _MissingError(Exception):
    """A segment is not there, and a later one is; `names` are those that are."""

    def __init__(self, name: str, names: list[str]) -> None:
        self.name, self.names = name, names


def _start(name: str) -> int:
    return int(name.split(".")[0].split("-")[0])


def _end(name: str) -> int:
    return int(name.split(".")[0].split("-")[1])


def _newest_compacted(names: Iterable[str]) -> str | None:
    return max((name for name in names if "-" in name), key=_end, default=None)
