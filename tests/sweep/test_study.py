"""The study and the ledger without an engine: a driver is a loop, a kill is leaving it."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from optuna.samplers import RandomSampler, TPESampler

from raffect.errors import ConflictError, NotThereError
from raffect.store import Store
from raffect.sweep import journal
from raffect.sweep.beginning import Beginning
from raffect.sweep.points import derive_recipe
from raffect.sweep.running import Assignment
from raffect.sweep.samplers import plain_sampler
from raffect.sweep.settings import SweepSettings
from raffect.sweep.space import Space
from raffect.sweep.study import SweepStudy, open_study
from tests.sweep import tiny
from tests.sweep.drivers import SPACE, epochs, open_driver, rows


class Asha:
    """The rule of Li et al. (2020), algorithm 2, for trials that are stopped and never paused.

    At a rung, a trial goes on if it is among the best 1/factor of all values met there so far;
    while there are fewer than `factor`, if it is the best.
    """

    def __init__(self, first: int, factor: int) -> None:
        self.factor = factor
        self.first = first
        self.met: dict[int, list[float]] = defaultdict(list)

    def stops(self, epoch: int, value: float) -> bool:
        rung = self.first
        while rung < epoch:
            rung *= self.factor
        if rung != epoch:
            return False
        self.met[rung].append(value)
        keep = max(1, len(self.met[rung]) // self.factor)
        return value < sorted(self.met[rung], reverse=True)[keep - 1]


@pytest.mark.parametrize("restart_every", [0, 7])
def test_pruning_is_asynchronous_successive_halving_also_across_drivers(
    store: Store, restart_every: int
) -> None:
    rng = np.random.default_rng(5)
    base = tiny.base(optimiser__epochs=12)
    options = {"min_epochs": 1, "reduction_factor": 3, "sampler": "random"}
    study = open_driver(store, 40, base, **options)
    oracle = Asha(1, 3)
    curves: dict[int, list[float]] = {}
    ends: dict[int, tuple[str, int]] = {}
    running: list[Assignment] = []
    for event in range(10_000):
        if restart_every and event and event % restart_every == 0:
            study = open_driver(store, 40, base, **options)
            running = []
        while len(running) < 4 and (given := study.next()) is not None:
            running.append(given)
        if not running:
            break
        trial = running[rng.integers(len(running))]
        number = trial.number
        curve = curves.setdefault(number, [])
        curve.append(float(rng.normal(0.01 * number, 0.1)))
        history = epochs(*curve)
        if len(curve) == 12:
            study.complete(number, history)
            ends[number] = ("COMPLETE", 12)
        elif study.report(number, history):
            ends[number] = ("PRUNED", len(curve))
        if len(curve) < 12:
            # The recipe, the worst of all here, is met as any other, and goes on.
            stops = oracle.stops(len(curve), max(curve)) and number > 0
            assert stops == (ends.get(number, ("",))[0] == "PRUNED"), (number, len(curve))
        running = [one for one in running if one.number not in ends]
    found = rows(store)
    assert {row.number: (row.state, row.epochs) for row in found} == ends
    assert len(found) == 40
    assert {row.state for row in found} == {"COMPLETE", "PRUNED"}
    assert ends[0] == ("COMPLETE", 12)
    for row in found:
        assert row.score == max(curves[row.number])
        assert row.best_epoch == int(np.argmax(curves[row.number])) + 1
        assert [epoch.score for epoch in row.curve] == curves[row.number]


@pytest.mark.parametrize("pruning", ["asha", "hyperband", "median"])
def test_what_tables_compare_with_is_never_pruned_and_counts_for_the_others(
    store: Store, pruning: str
) -> None:
    """The recipe and a known-good point, both worst; a point of another sweep is no such one."""
    base = tiny.base(optimiser__epochs=12)
    settings = SweepSettings(trials=16, pruning=pruning, min_epochs=1, sampler="random")  # type: ignore[arg-type]
    worth = dict.fromkeys(range(3), 0.0) | {number: number / 100 for number in range(3, 16)}

    def run(place: Store, *kept: Any) -> dict[int, tuple[str, int]]:
        study = SweepStudy(place, "s", SPACE, base, settings)
        good, other = {"optimiser.lr": 2e-3}, {"optimiser.lr": 3e-3}
        first = derive_recipe(SPACE, base).params
        points = [(first, kept[0]), ({**first, **good}, kept[1]), ({**first, **other}, kept[2])]
        study.begin(Beginning(points))
        given = [study.next() for _ in worth]
        assert all(given)
        # The best first: those after them meet values that are better than theirs.
        for number in sorted(worth, reverse=True):
            for end in range(1, 12):
                if study.report(number, epochs(*[worth[number]] * end)):
                    break
            else:
                study.complete(number, epochs(*[worth[number]] * 12))
        found = open_study(place, "s").get_trials(deepcopy=False)
        return {t.number: (t.state.name, len(t.intermediate_values)) for t in found}

    ends = run(store, {"recipe": True}, {"point": "my/space.py"}, {"point": "old:7"})
    assert ends[0] == ends[1] == ("COMPLETE", 12)
    assert ends[2][0] == "PRUNED"
    plain = run(Store(f"{store.uri}-plain"), {"recipe": False}, {}, {"point": "old:7"})
    assert plain[0][0] == plain[1][0] == "PRUNED"
    assert {n: plain[n] for n in range(2, 16)} == {n: ends[n] for n in range(2, 16)}


def test_no_pruning_means_none(store: Store) -> None:
    study = open_driver(store, 4, tiny.base(), pruning="none")
    while (given := study.next()) is not None:
        for n in range(1, 4):
            assert not study.report(given.number, epochs(*[-given.number] * n))
        study.complete(given.number, epochs(*[-given.number] * 4))
    assert [row.state for row in rows(store)] == ["COMPLETE"] * 4


def test_trial_zero_is_the_base(store: Store) -> None:
    base = tiny.base()
    study = open_driver(store, 3, base)
    first, second = study.next(), study.next()
    assert first is not None
    assert second is not None
    assert (first.number, first.config) == (0, base)
    assert (second.number, second.config == base) == (1, False)
    assert second.config.run == base.run


def test_a_dead_drivers_trials_are_continued_in_their_own_rows(store: Store) -> None:
    base = tiny.base()
    study = open_driver(store, 4, base, pruning="none")
    given = [study.next() for _ in range(3)]
    study.complete(0, epochs(0.1, 0.1, 0.1, 0.1))
    study.report(1, epochs(0.2, 0.1))
    study.next()  # a decision: what waited is written with it
    again = open_driver(store, 4, base, pruning="none")
    assert again.remaining == 3
    continued = [again.next() for _ in range(3)]
    assert [(one.number, one.recorded) for one in continued if one] == [(1, 2), (2, 0), (3, 0)]
    assert [one.config for one in continued[:2] if one] == [one.config for one in given[1:] if one]
    assert again.next() is None
    again.report(1, epochs(0.2, 0.1, 0.4))
    again.complete(1, epochs(0.2, 0.1, 0.4, 0.3))
    row = rows(store)[1]
    assert (row.score, row.best_epoch, row.epochs, row.seconds) == (0.4, 3, 4, 2.0)
    assert row.attributes["continued"] == 1
    assert row.curve[3].parts == {"valence": 0.3}


def test_epochs_that_are_done_again_are_recorded_once(store: Store) -> None:
    study = open_driver(store, 1, tiny.base(), min_epochs=2)
    study.next()
    study.report(0, epochs(0.3, 0.4, 0.2))
    study = open_driver(store, 1, tiny.base(), min_epochs=2)
    study.next()
    assert not study.report(0, epochs(0.3))
    assert not study.report(0, epochs(0.3, 0.4))
    assert rows(store)[0].epochs == 3


def test_only_epochs_that_decide_nothing_wait_and_no_longer_than_others(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(journal.time, "monotonic", lambda: now[0])
    study = open_driver(store, 3, tiny.base(optimiser__epochs=9), min_epochs=3, pruning="asha")

    def written() -> list[int]:
        return [row.epochs for row in rows(store)][1:]

    for _ in range(3):
        study.next()
    study.report(1, epochs(0.1))
    study.report(2, epochs(0.3, 0.2))
    assert written() == [0, 0]
    now[0] = 0.9
    study.catch_up()
    assert written() == [0, 0]
    now[0] = 1.0
    study.catch_up()
    assert written() == [1, 2]
    study.report(1, epochs(0.1, 0.2))
    assert not study.report(2, epochs(0.3, 0.2, 0.2))
    assert written() == [2, 3], "a rung is written at once, with all that waited"
    study.report(2, epochs(0.3, 0.2, 0.2, 0.2))
    assert study.report(1, epochs(0.1, 0.2, 0.1))
    assert written() == [3, 4], "as is an end"
    study.report(2, epochs(0.3, 0.2, 0.2, 0.2, 0.1))
    now[0] = 2.5
    study.report(2, epochs(0.3, 0.2, 0.2, 0.2, 0.1, 0.4))
    assert written() == [3, 6]


def test_epochs_that_waited_when_a_driver_died_are_told_again_by_their_trial(store: Store) -> None:
    study = open_driver(store, 1, tiny.base(optimiser__epochs=9), min_epochs=2)
    study.next()
    study.report(0, epochs(0.3, 0.1))
    study.report(0, epochs(0.3, 0.1, 0.5))
    again = open_driver(store, 1, tiny.base(optimiser__epochs=9), min_epochs=2)
    assert again.next().recorded == 2
    again.report(0, epochs(0.3, 0.1, 0.5))
    again.complete(0, epochs(0.3, 0.1, 0.5, 0.4))
    assert [epoch.score for epoch in rows(store)[0].curve] == [0.3, 0.1, 0.5, 0.4]
    assert rows(store)[0].score == 0.5


def test_epochs_that_a_driver_missed_are_taken_from_the_trials_history(store: Store) -> None:
    study = open_driver(store, 1, tiny.base())
    study.next()
    study.complete(0, epochs(0.1, 0.5, 0.2, 0.3))
    assert [epoch.epoch for epoch in rows(store)[0].curve] == [1, 2, 3, 4]


def test_a_larger_budget_extends_and_a_smaller_one_is_done(store: Store) -> None:
    for trials, expected in ((2, 2), (5, 3), (4, 0), (5, 0), (6, 1)):
        study = open_driver(store, trials, tiny.base(), pruning="none")
        assert study.remaining == expected
        while (given := study.next()) is not None:
            study.complete(given.number, epochs(0.1))
    assert [row.number for row in rows(store)] == [0, 1, 2, 3, 4, 5]
    assert open_study(store, "s").user_attrs["target"] == 6


def test_a_driver_that_was_replaced_can_not_write(store: Store) -> None:
    old = open_driver(store, 3, tiny.base())
    old.next()
    new = open_driver(store, 3, tiny.base())
    new.next()
    with pytest.raises(ConflictError, match="taken over"):
        old.complete(0, epochs(0.1))
    new.complete(0, epochs(0.2))
    assert rows(store)[0].curve[0].score == 0.2


def test_parameters_that_make_no_model_are_told_and_the_next_is_asked(store: Store) -> None:
    def space(trial: Any) -> dict[str, Any]:
        width = trial.suggest_int("model.width", 8, 8)
        if trial.number in (1, 2):
            return {"model.tcn.depth": -1}
        if trial.number == 3:
            raise ZeroDivisionError("as I said")
        return {"model.width": width}

    settings = SweepSettings(trials=6)
    study = SweepStudy(store, "s", Space("t", space, "c", 1), tiny.base(), settings)
    numbers, reasons = [], []
    while study.remaining:
        given = study.next(reasons.append)
        numbers.append(None if given is None else given.number)
    assert numbers == [0, None, None, None, 4, 5]
    assert [reason.partition(":")[0] for reason in reasons] == ["bad-config"] * 2 + ["exception"]
    failed = rows(store)[1:4]
    assert [row.state for row in failed] == ["FAIL"] * 3
    assert failed[0].reason is not None
    assert failed[0].reason.startswith("bad-config: These settings are wrong: model.tcn.depth")
    assert failed[2].reason == "exception: ZeroDivisionError: as I said"


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_samplers_depend_on_the_seed_and_never_repeat_after_a_restart(
    store: Store, sampler: str
) -> None:
    settings = SweepSettings(trials=30, sampler=sampler, seed=3)  # type: ignore[arg-type]
    kind = TPESampler if sampler == "tpe" else RandomSampler
    assert isinstance(plain_sampler(settings, 0), kind)

    def ask(place: Store, restarts: bool) -> list[float]:
        study, found = open_driver(place, 20, tiny.base(), sampler=sampler, seed=3), []
        while (given := study.next()) is not None:
            found.append(given.config.optimiser.lr)
            study.complete(given.number, epochs(0.1))
            if restarts:
                study = open_driver(place, 20, tiny.base(), sampler=sampler, seed=3)
        return found

    one = ask(store, restarts=False)
    assert one == ask(Store(f"{store.uri}-2"), restarts=False)
    restarted = ask(Store(f"{store.uri}-3"), restarts=True)
    assert len({f"{value:.9f}" for value in restarted}) == 20


@pytest.mark.parametrize(
    ("epochs", "settings", "expected"),
    [
        (40, {}, (5, 15)),
        (30, {}, (4, 12)),
        (10, {}, (2, 6)),
        (6, {}, (2,)),
        (2, {}, ()),
        (9, {"min_epochs": 1, "reduction_factor": 2}, (1, 2, 4, 8)),
        (40, {"pruning": "none"}, ()),
    ],
)
def test_rungs(epochs: int, settings: dict[str, Any], expected: tuple[int, ...]) -> None:
    assert SweepSettings(**settings).rungs(epochs) == expected


def test_the_readers_of_a_study_that_is_not_there_are_told(store: Store) -> None:
    with pytest.raises(NotThereError, match="holds no sweep 's'"):
        open_study(store, "s")


def test_scores_survive_the_journal_to_the_bit(store: Store) -> None:
    study = open_driver(store, 1, tiny.base())
    study.next()
    study.complete(0, epochs(math.pi / 10, 1 / 3, 0.1 + 0.2, 2 / 7))
    assert rows(store)[0].score == 1 / 3
