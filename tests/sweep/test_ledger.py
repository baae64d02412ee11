from __future__ import annotations

from typing import Any

import pytest

from raffect.store import Store
from raffect.sweep.attributes import SPENT
from raffect.sweep.budget import Budget
from raffect.sweep.ledger import Ledger
from raffect.sweep.progress import SweepProgress
from raffect.sweep.records import TrialFacts, TrialReport
from tests.sweep import tiny
from tests.sweep.drivers import epochs, open_driver, rows


def result(number_of_epochs: int, score: float, **more: Any) -> TrialReport:
    return TrialReport(tuple(epochs(*[score] * number_of_epochs)), **more)


def test_the_ledger_tells_each_end_once_and_reports_what_happened(store: Store) -> None:
    events = []
    study = open_driver(store, 4, tiny.base(), min_epochs=1)
    ledger = Ledger(study, epochs=4, max_failures=9, on_update=events.append)
    for key in "abcd":
        assert ledger.begin(key) is not None
    assert ledger.begin("e") is None
    assert not ledger.result("a", result(1, 0.5))
    assert ledger.result("b", result(1, 0.4))
    assert ledger.result("b", result(1, 0.4)), "Tune settles a stopped trial a second time"
    assert ledger.result("c", result(1, 0.6, failure="nan: The loss is nan.", done=True))
    assert ledger.result("a", result(4, 0.7, done=True))
    ledger.lose("d", ["lost-actor: gone"] * 3)
    ledger.lose("d", ["lost-actor: gone"] * 3)
    states = [(row.state, row.score, row.reason, row.model) for row in rows(store)]
    assert states == [
        ("COMPLETE", 0.7, None, "s:0"),
        ("PRUNED", 0.4, None, "s:1"),
        ("FAIL", None, "nan: The loss is nan.", None),
        ("FAIL", None, "lost-actor: gone", None),
    ]
    ends = [(e.trial, e.state, e.finished, e.best) for e in events if e.event == "finished"]
    assert ends == [
        (1, "PRUNED", 1, 0.4),
        (2, "FAIL", 2, 0.4),
        (0, "COMPLETE", 3, 0.7),
        (3, "FAIL", 4, 0.7),
    ]
    assert events[-1].describe() == "trial 3: lost-actor: gone; best 0.7000 (trial 0)"
    assert (events[0].event, events[0].target) == ("started", 4)


@pytest.mark.parametrize(
    ("allowed", "failures", "succeeds", "gave_up"),
    [
        (None, 4, False, False),
        (None, 5, False, True),
        (None, 9, True, False),
        (3, 2, False, False),
        (3, 3, False, True),
        (3, 3, True, True),
    ],
)
def test_a_sweep_is_given_up_after_so_many_failures(
    store: Store, allowed: int | None, failures: int, succeeds: bool, gave_up: bool
) -> None:
    study = open_driver(store, 20, tiny.base(), pruning="none")
    ledger = Ledger(study, epochs=4, max_failures=allowed)
    for i in range(failures + 2):
        ledger.begin(str(i))
    if succeeds:
        ledger.result("0", result(4, 0.1, done=True))
    for i in range(1, failures + 1):
        ledger.result(str(i), TrialReport(failure="oom: no memory"))
    assert ledger.gave_up is gave_up
    assert bool(ledger.gave_up and ledger.live) is gave_up
    assert (ledger.begin("x") is None) is gave_up


def test_the_ledger_keeps_an_error_of_a_callback_and_calls_nothing_after_it(store: Store) -> None:
    ledger = Ledger(open_driver(store, 1, tiny.base()), epochs=4, max_failures=3)
    assert ledger.guard(lambda: 1 // 0, -1) == -1
    assert isinstance(ledger.error, ZeroDivisionError)
    assert ledger.guard(lambda: 1, -1) == -1


def test_a_model_beyond_a_limit_is_pruned_before_its_first_epoch(store: Store) -> None:
    study = open_driver(store, 2, tiny.base(), max_params=10)
    events: list[SweepProgress] = []
    ledger = Ledger(study, epochs=4, on_update=events.append)
    ledger.begin("a")
    facts = TrialFacts(parameters=14, margins={"parameters": 4.0})
    assert ledger.result("a", TrialReport(facts=facts, refusal="14 parameters of at most 10"))
    (row,) = rows(store)
    assert (row.state, row.score, row.epochs, row.model) == ("PRUNED", None, 0, None)
    assert (row.reason, row.violations) == ("14 parameters of at most 10", {"parameters": 4.0})
    assert events[-1].describe() == "trial 0: 14 parameters of at most 10"
    assert ledger.succeeded == 0
    assert ledger.begin("b") is not None


def test_budgets_end_the_asking_and_let_finish_what_runs(store: Store) -> None:
    now = [0.0]
    budget = Budget(hours=1.0, device_hours=2.0, before=600, devices=2.0, clock=lambda: now[0])
    events: list[SweepProgress] = []
    study = open_driver(store, 9, tiny.base(), pruning="none")
    ledger = Ledger(study, 4, budget, on_update=events.append)
    ledger.begin("a")
    now[0] = 2990.0
    assert ledger.begin("b") is not None
    now[0] = 3000.0
    assert budget.exhausted == "1.00 of 1 hours are spent"
    assert ledger.begin("c") is None
    ledger.result("a", result(4, 0.5, done=True))
    assert list(study.facts[SPENT].values()) == [3000.0]
    assert events[-1].rate == pytest.approx(1.2)
    assert events[-1].seconds_left == pytest.approx(8 * 3000)
    assert open_driver(store, 9, tiny.base()).seconds_before == 3000.0


def test_device_hours_count_epochs_times_devices_in_all_runs(store: Store) -> None:
    budget = Budget(device_hours=1.0, devices=0.5, device_seconds=3598.0)
    ledger = Ledger(open_driver(store, 9, tiny.base(), pruning="none"), 4, budget)
    ledger.begin("a")
    assert not ledger.result("a", result(2, 0.5, done=False))
    assert budget.all_device_seconds == 3598.5
    assert ledger.begin("b") is not None
    ledger.result("a", result(4, 0.5, done=True))
    ledger.result("b", result(4, 0.5, done=True))
    assert budget.exhausted == "1.00 of 1 device hours are spent"
    assert ledger.begin("c") is None


def test_what_earlier_runs_found_counts(store: Store) -> None:
    study = open_driver(store, 9, tiny.base(), pruning="none")
    earlier = Ledger(study, 4, Budget(clock=iter([0.0, *[7200.0] * 99]).__next__))
    for key, score in zip("abc", (0.6, 0.3, 0.5), strict=True):
        earlier.begin(key)
        earlier.result(key, result(4, score, done=True))
    earlier.begin("d")
    earlier.result("d", result(1, 0.9, failure="nan: The loss is nan."))
    events: list[SweepProgress] = []
    again = open_driver(store, 9, tiny.base(), pruning="none")
    budget = Budget(before=again.seconds_before, clock=iter([0.0, *[36.0] * 99]).__next__)
    later = Ledger(again, 4, budget, on_update=events.append)
    for key, score in zip("efgh", (0.55, 0.2, 0.1, 0.05), strict=True):
        later.begin(key)
        later.result(key, result(4, score, done=True))
    last = events[-1]
    assert last.top == (0.6, 0.55, 0.5, 0.3, 0.2)
    assert (last.best, last.best_trial, last.finished) == (0.6, 0, 8)
    assert last.hours == pytest.approx(2.01)


@pytest.mark.parametrize(
    ("lost", "state"),
    [
        ([["lost-actor: gone"]], "RUNNING"),
        ([["lost-actor: gone"] * 3], "FAIL"),
        ([["stuck: no epoch"]], "RUNNING"),
        ([["stuck: no epoch"] * 2], "FAIL"),
        ([["stuck: no epoch"], ["stuck: no epoch"]], "FAIL"),
        ([["stuck: no epoch"], ["lost-actor: gone"]], "RUNNING"),
        ([["too-long: 5 min"]], "FAIL"),
    ],
)
def test_a_trial_is_tried_again_by_what_it_lost_its_processes_to(
    store: Store, lost: list[list[str]], state: str
) -> None:
    ledger = Ledger(open_driver(store, 1, tiny.base(), min_epochs=1), epochs=4)
    for reasons in lost:
        assert ledger.begin("a") is not None
        ledger.lose("a", reasons)
    (row,) = rows(store)
    assert row.state == state
    assert row.reason == (lost[-1][-1] if state == "FAIL" else None)
