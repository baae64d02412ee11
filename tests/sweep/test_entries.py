"""A study whose ended trials are condensed is the same study, to whoever reads it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import BaseJournalBackend
from optuna.trial import TrialState

from raffect.errors import DamagedError
from raffect.store import Store
from raffect.sweep import entries
from raffect.sweep.journal import StoreJournal
from raffect.sweep.replay import Replayed
from raffect.testing.s3 import S3Server, environment
from tests.durability.proxy import wire_to
from tests.sweep.test_journal import numbers


def play(storage: BaseStorage, moves: list[int]) -> None:
    """A study in which trials begin, are told of, run twice, end and are told of afterwards."""
    study = optuna.create_study(storage=storage, study_name="s", load_if_exists=True)
    live: list[int] = []
    for n, move in enumerate(moves):
        with contextlib.suppress(Exception):
            trial = storage.get_trial(live[move % len(live)]) if live else None
            if move % 7 == 0:
                live.append(storage.create_new_trial(study._study_id))
            elif move % 7 == 1:
                study.enqueue_trial({"x": 0.5}, user_attrs={"n": n})
                live.append(storage.get_all_trials(study._study_id)[-1]._trial_id)
            elif trial is None:
                continue
            elif move % 7 == 2:
                ranges = FloatDistribution(0, 2 + (move % 5 == 0)), CategoricalDistribution([1, n])
                of = ranges[move % 11 == 0]
                storage.set_trial_param(trial._trial_id, "xy"[move % 2], 1.0, of)
            elif move % 7 == 3:
                storage.set_trial_intermediate_value(trial._trial_id, n, n / 3)
            elif move % 7 == 4:
                storage.set_trial_user_attr(trial._trial_id, f"k{n % 3}", {"n": n})
                storage.set_trial_system_attr(trial._trial_id, f"constraints:{n % 3}", n)
                study.set_user_attr("n", n)
            elif move % 7 == 5:
                storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING)
            else:
                ends = [(TrialState.COMPLETE, [1.0]), (TrialState.PRUNED, None)]
                state, values = [*ends, (TrialState.FAIL, None)][move % 3]
                storage.set_trial_state_values(trial._trial_id, state, values)


class Lines(BaseJournalBackend):
    """Sealed lines as a journal has them in memory."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        for line in self.lines[log_number_from:]:
            yield json.loads(line) if line else entries.NOTHING

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self.lines += entries.seal([json.dumps(log) for log in logs], len(self.lines))


class Quick(Lines, Replayed):
    """The same for the replay that studies are read by."""


def state_of(storage: JournalStorage) -> list[object]:
    study = optuna.load_study(storage=storage, study_name="s")
    trials = study.get_trials(deepcopy=False)
    kept = [(list(of.params), list(of.user_attrs), of._trial_id) for of in trials]
    return [trials, kept, study.user_attrs]


@given(st.lists(st.integers(0, 500), max_size=80), st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=80, deadline=None)
def test_a_condensed_study_is_the_same_study(moves: list[int], share: float, read: float) -> None:
    whole = Lines([])
    play(JournalStorage(whole), moves)
    end = round(share * len(whole.lines))
    early = Quick(whole.lines[: max(1, round(read * len(whole.lines)))])
    reader = JournalStorage(early)
    condensed = entries.condense(whole.lines, end)
    assert len(condensed) == len(whole.lines)
    assert condensed[end:] == whole.lines[end:]
    assert entries.condense(condensed, end) == condensed
    assert state_of(JournalStorage(Lines(condensed))) == state_of(JournalStorage(whole))
    assert state_of(JournalStorage(Quick(condensed))) == state_of(JournalStorage(whole))
    early.lines[:] = entries.read_on(early.lines, condensed)
    assert len(early.lines) == len(whole.lines)
    assert state_of(reader) == state_of(JournalStorage(whole))
    for start in range(0, len(whole.lines), 7):
        assert entries.holds(condensed, whole.lines[start : start + 9], start)
        other = [line.replace("worker", "walker") for line in whole.lines[start:]]
        assert not entries.holds(condensed, other, start)


@given(st.recursive(st.none() | st.floats() | st.integers() | st.text(), st.lists))
def test_entries_are_parsed_as_python_does(value: object) -> None:
    line = json.dumps({"value": value})
    assert json.dumps(entries.parse(line)) == line


def test_half_of_a_surrogate_pair_is_read() -> None:
    line = json.dumps({"text": "\ud800"})
    assert entries.parse(line) == json.loads(line)


def test_trials_that_ended_long_ago_are_one_entry_each(store: Store) -> None:
    backend, late = StoreJournal(store, "f"), StoreJournal(store, "f")
    study = optuna.create_study(storage=JournalStorage(backend), study_name="s")

    def end(trial: optuna.Trial) -> None:
        trial.suggest_float("x", 0, 1)
        trial.set_user_attr("number", trial.number)
        study.tell(trial, 1.0)

    begun = study.ask()
    begun.set_user_attr("n", 1)
    reader = JournalStorage(late)
    for trial in (study.ask(), begun):
        end(trial)
    backend.compact()
    end(study.ask())
    backend.compact()
    (name,) = store.names("f")
    data = store.read_bytes(f"f/{name}")
    blank = 3 + 4
    assert data.decode().splitlines().count("") == blank, "the last trial ended since"
    for i in [*range(0, len(data), 5), *(i for i, of in enumerate(data) if of == ord("\n"))]:
        store.write_bytes(f"f/{name}", data[:i] + bytes([data[i] ^ 1]) + data[i + 1 :])
        with pytest.raises(DamagedError, match=r"is (damaged|cut off)"):
            StoreJournal(store, "f").look()
        store.write_bytes(f"f/{name}", data[:i])
        with pytest.raises(DamagedError, match=r"is (damaged|cut off|empty)"):
            StoreJournal(store, "f").look()
    store.write_bytes(f"f/{name}", data)
    # Entries that this one misses are not there any more.
    expected = JournalStorage(StoreJournal(store, "f")).get_all_trials(0)
    assert reader.get_all_trials(0) == expected == study.get_trials()
    study.set_user_attr("n", 1)
    late.compact()
    assert JournalStorage(StoreJournal(store, "f")).get_all_trials(0) == expected
    assert reader.get_all_trials(0) == JournalStorage(late).get_all_trials(0) == expected


def test_who_misses_the_end_of_a_compacted_segment_reads_its_end(s3_server: S3Server) -> None:
    with (
        wire_to(s3_server.endpoint) as wire,
        environment({**s3_server.environment(), "AWS_ENDPOINT_URL": wire.endpoint}),
    ):
        store = Store(f"s3://{s3_server.new_bucket()}/a")
        writer, reader = StoreJournal(store, "f"), StoreJournal(store, "f")
        writer.append_logs([{"n": n, "text": "x" * 900} for n in range(200)])
        reader.look()
        writer.append_logs([{"n": 200}, {"n": 201}])
        writer.compact()
        with wire.counting() as requests:
            assert numbers(reader) == list(range(202))
        assert len(requests) == 3, "the names, the size, and the end"
        assert not reader.was_begun_anew()
        store.delete("f")
        assert reader.was_begun_anew()
        StoreJournal(store, "f").append_logs([{"n": 7}])
        assert reader.was_begun_anew()
