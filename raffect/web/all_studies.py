"""The journals of all sweeps of a store as one, for tools that take a single Optuna storage.

Each sweep has a journal of its own (sweep/journal.py). Entries refer to studies and trials by
numbers that Optuna's replay gives in the order of their creation, so that entries of several
journals can't simply be concatenated: here each is renumbered for the common log. An entry keeps
its place once it was read, because the reader continues from there; a sweep that was deleted or
begun anew is therefore ended by an entry of its own, and begun again behind it.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from optuna.storages.journal import BaseJournalBackend

from raffect.errors import ConflictError, SettingsError, StoreError
from raffect.store import Store, sweep_folder
from raffect.store.layout import STUDY, SWEEPS
from raffect.sweep.journal import StoreJournal
from raffect.sweep.study import journal_of
from raffect.web.live import REFRESH_S, idle_interval

# Optuna's codes of the entries that give and take numbers (JournalOperation).
_CREATE_STUDY, _DELETE_STUDY, _CREATE_TRIAL = 0, 1, 4

Entry = Mapping[str, Any]
"""An entry of Optuna's journal: its `op_code`, and what belongs to that operation."""


@dataclass
class _Source:
    """One sweep's journal, as far as it is read: so many entries, in `objects` by then.

    It has `created` so many studies. By the journal's own numbers: `names` of its studies, and the
    numbers of `studies` and `trials` in the common log.
    """

    name: str
    journal: StoreJournal
    objects: list[str] = field(default_factory=list)
    read: int = 0
    changed: float = 0.0
    looked: float = -math.inf
    created: int = 0
    names: dict[int, str] = field(default_factory=dict)
    studies: dict[int, int] = field(default_factory=dict)
    trials: dict[int, int] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        return f"{sweep_folder(self.name)}/{STUDY}"


class GatheredJournal(BaseJournalBackend):
    """Reads the journals of a store's sweeps as one log, which grows while they do.

    In a JournalStorage it is one Optuna storage with all of their studies, for reading.

    Args:
        sweeps: Names of the sweeps; all, also those that are yet to come, by default.
        refresh_s: Least time between two looks at the store: optuna-dashboard asks for a page
            several times a second, and each look costs a request per sweep on object storage.
        on_trouble: Called when the store does not answer; what is known is shown meanwhile.
    """

    def __init__(
        self,
        store: Store,
        sweeps: Sequence[str] | None = None,
        refresh_s: float = REFRESH_S,
        on_trouble: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # As in live.py: it comes again by itself.
        self._store = store.hurried()
        self._sweeps = sweeps
        self._refresh_s = refresh_s
        self._on_trouble = on_trouble
        self._clock = clock
        self._sources: dict[str, _Source] = {}
        # As text: entries as dictionaries take five times the memory.
        self._lines: list[str] = []
        self._studies = 0
        self._trials = 0
        self._refreshed: float | None = None
        self._troubled = False

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Entries of the common log from a number on; a StoreError if it never could be read."""
        for line in self._lines[log_number_from:]:
            yield json.loads(line)
        now = self._clock()
        if self._refreshed is not None and now - self._refreshed < self._refresh_s:
            return
        for entry in self._new():
            if len(self._lines) > log_number_from:
                yield dict(entry)
        self._refreshed = self._clock()

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Refuse with a ConflictError: a sweep is changed by its own driver only."""
        raise read_only()

    def _new(self) -> Iterator[Entry]:
        """Entries that the store has beyond the known ones; each is known from then on."""
        try:
            for entry in self._look():
                self._lines.append(json.dumps(entry, separators=(",", ":")))
                yield entry
            self._troubled = False
        except StoreError as error:
            if self._refreshed is None:
                raise
            if not self._troubled and self._on_trouble is not None:
                self._on_trouble(error.got)
            self._troubled = True

    def _look(self) -> Iterator[Entry]:
        found = self._store.names(SWEEPS)
        wanted = [name for name in found if self._sweeps is None or name in self._sweeps]
        for name in sorted(set(self._sources) - set(wanted)):
            yield from _end(self._sources.pop(name))
        for name in wanted:
            # An impossible name for a sweep: something else that lies there.
            with suppress(SettingsError):
                yield from self._look_at(name)

    def _look_at(self, name: str) -> Iterator[Entry]:
        now = self._clock()
        source = self._sources.get(name) or self._open(name)
        if now - source.looked < idle_interval(now - source.changed):
            return
        objects = self._store.names(source.folder)
        if objects != source.objects:
            if source.journal.was_begun_anew():
                yield from _end(source)
                source = self._open(name)
            for entry in source.journal.read_logs(source.read):
                source.read += 1
                if (renumbered := self._renumber(source, entry)) is not None:
                    yield renumbered
            source.objects, source.changed = objects, now
        source.looked = now

    def _open(self, name: str) -> _Source:
        source = self._sources[name] = _Source(name, journal_of(self._store, name))
        return source

    def _renumber(self, source: _Source, entry: Entry) -> Entry | None:
        """The entry with the common log's numbers; None if Optuna's replay would ignore it."""
        entry = _with_plain_choices(entry)
        if entry["op_code"] == _CREATE_STUDY:
            return self._create_study(source, entry)
        if "trial_id" in entry:
            trial = source.trials.get(entry["trial_id"])
            return None if trial is None else {**entry, "trial_id": trial}
        study = source.studies.get(entry.get("study_id", -1))
        if study is None:
            return None
        if entry["op_code"] == _DELETE_STUDY:
            del source.studies[entry["study_id"]], source.names[entry["study_id"]]
        elif entry["op_code"] == _CREATE_TRIAL:
            source.trials[len(source.trials)] = self._trials
            self._trials += 1
        return {**entry, "study_id": study}

    def _create_study(self, source: _Source, entry: Entry) -> Entry | None:
        """A study under the name of its sweep; one that exists is only opened again."""
        name = entry["study_name"]
        if name in source.names.values():
            return None
        source.names[source.created] = name
        source.studies[source.created] = self._studies
        source.created += 1
        self._studies += 1
        # In a copy of a sweep's folder the study has the old name; no sweep's name has a slash.
        return {**entry, "study_name": name if name == source.name else f"{source.name}/{name}"}


def read_only() -> ConflictError:
    """The error for whoever wants to change a sweep from outside."""
    return ConflictError(
        "Sweeps are only shown here: their study is written by the command that runs them.",
        "reading",
        "Change a sweep with `raffect tune`, or delete its folder in the store.",
    )


def _end(source: _Source) -> Iterator[Entry]:
    """The entries that remove a sweep's studies."""
    for study in source.studies.values():
        yield {"op_code": _DELETE_STUDY, "worker_id": "", "study_id": study}


def _with_plain_choices(entry: Entry) -> Entry:
    """Categories that are lists as their text: optuna-dashboard looks values up in sets."""
    if "distribution" in entry:
        return {**entry, "distribution": _plain(entry["distribution"])}
    if entry.get("distributions"):
        plain = {name: _plain(of) for name, of in entry["distributions"].items()}
        return {**entry, "distributions": plain}
    return entry


def _plain(distribution: str) -> str:
    found = json.loads(distribution)
    choices = found["attributes"].get("choices", ())
    if not any(isinstance(choice, list | dict) for choice in choices):
        return distribution
    texts = [json.dumps(one) if isinstance(one, list | dict) else one for one in choices]
    return json.dumps({**found, "attributes": {**found["attributes"], "choices": texts}})
