"""Other hands at a study that a driver writes: Optuna's tools, and raffect's own commands."""

from __future__ import annotations

import random
from pathlib import Path

import optuna
import pytest

from raffect.affwild2.tasks import Task
from raffect.errors import ConflictError, NotThereError, SettingsError
from raffect.settings import override
from raffect.store import Store
from raffect.sweep import hands
from raffect.sweep.ledger import Ledger
from raffect.sweep.plan import make_plan
from raffect.sweep.points import derive_recipe
from raffect.sweep.records import TrialReport
from raffect.sweep.settings import SweepSettings
from raffect.sweep.space import load_space
from raffect.sweep.study import SweepStudy, open_storage, open_study
from tests.sweep import tiny
from tests.sweep.drivers import epochs, open_driver, rows
from tests.sweep.sweeps import SPACE


def by_optuna(store: Store) -> optuna.Study:
    return optuna.load_study(study_name="s", storage=open_storage(store, "s"))


def test_a_trial_that_another_enqueues_is_taken_in_its_turn(store: Store) -> None:
    study = open_driver(store, 4, tiny.base(), pruning="none")
    first = study.next()
    by_optuna(store).enqueue_trial({"optimiser.lr": 2e-3})
    given = [study.next(), study.next(), study.next()]
    assert [one.number for one in (first, *given) if one] == [0, 1, 2, 3]
    assert given[0].config.optimiser.lr == 2e-3
    assert study.next() is None
    for number in range(4):
        study.complete(number, epochs(0.1, 0.2))
    assert [(row.number, row.state, row.epochs) for row in rows(store)] == [
        (number, "COMPLETE", 2) for number in range(4)
    ]
    assert rows(store)[1].params["optimiser.lr"] == 2e-3


def test_one_that_comes_when_all_have_begun_is_taken_before_the_end(store: Store) -> None:
    study = open_driver(store, 1, tiny.base(), pruning="none")
    ledger = Ledger(study, 4)
    assert ledger.begin("a")
    ledger.result("a", TrialReport(tuple(epochs(0.1)), done=True))
    by_optuna(store).enqueue_trial({"optimiser.lr": 2e-3})
    taken = ledger.begin("b")
    assert taken is not None
    assert (taken.number, taken.config.optimiser.lr) == (1, 2e-3)
    ledger.result("b", TrialReport(tuple(epochs(0.3)), done=True))
    assert ledger.begin("c") is None
    assert study.target == open_study(store, "s").user_attrs["target"] == 2


def test_what_waited_is_kept_when_another_has_written(store: Store) -> None:
    study = open_driver(store, 2, tiny.base(optimiser__epochs=9), min_epochs=3)
    study.next()
    study.report(0, epochs(0.3))
    by_optuna(store).set_user_attr("note", "a word")
    study.report(0, epochs(0.3, 0.1))
    study.report(0, epochs(0.3, 0.1, 0.4))
    assert [epoch.score for epoch in rows(store)[0].curve] == [0.3, 0.1, 0.4]
    assert open_study(store, "s").user_attrs["note"] == "a word"


@pytest.mark.parametrize("says", ["report", "complete", "fail", "lose", "nothing"])
def test_a_trial_that_another_ends_is_let_go(store: Store, says: str) -> None:
    study = open_driver(store, 3, tiny.base(), pruning="none")
    ledger = Ledger(study, 4)
    ledger.begin("a")
    ledger.begin("b")
    hands.stop(store, "s", [0])
    told = tuple(epochs(0.1))
    if says == "report":
        study.look()
        assert ledger.result("a", TrialReport(told))
    elif says == "complete":
        assert ledger.result("a", TrialReport(told, done=True))
    elif says == "fail":
        assert ledger.result("a", TrialReport(told, failure="nan"))
    elif says == "lose":
        ledger.lose("a", ["lost-actor"])
        study.look()
    else:
        study.look()
    ledger.keep_up()
    assert not ledger.gave_up
    assert set(ledger.live) == {"b"}
    assert ledger.begin("c").number == 2
    row = rows(store)[0]
    assert (row.state, row.model, row.score) == ("FAIL", None, None)
    assert row.reason is not None
    assert row.reason.startswith("stopped: by hand, from ")
    assert ledger.states["FAIL"] == (says != "lose")


def test_the_next_driver_leaves_a_stopped_trial_alone(store: Store) -> None:
    study = open_driver(store, 3, tiny.base())
    study.next()
    hands.stop(store, "s", [0])
    again = open_driver(store, 3, tiny.base())
    assert [one.number for one in (again.next(), again.next()) if one] == [1, 2]
    assert again.next() is None


def test_who_took_over_is_named_and_since_when(store: Store) -> None:
    old = open_driver(store, 3, tiny.base())
    old.next()
    open_driver(store, 3, tiny.base())
    with pytest.raises(
        ConflictError, match=r"Process \d+ on .+ has taken over the sweep 's' \(since 20.+\)"
    ):
        old.complete(0, epochs(0.1))
    assert rows(store)[0].epochs == 0
    for _ in range(2):
        with pytest.raises(ConflictError, match="has taken over"):
            old.complete(0, epochs(0.1))


def test_a_study_that_is_deleted_under_its_driver_is_said(store: Store) -> None:
    study = open_driver(store, 3, tiny.base())
    study.next()
    optuna.delete_study(study_name="s", storage=open_storage(store, "s"))
    with pytest.raises(ConflictError, match="deleted the study"):
        study.complete(0, epochs(0.1))


@pytest.mark.parametrize("seed", range(8))
def test_whatever_others_do_no_trial_is_lost_or_doubled(store: Store, seed: int) -> None:
    """Drivers that are replaced, an Optuna that enqueues and ends trials, in any order."""
    rng = random.Random(seed)
    base = tiny.base(optimiser__epochs=6)
    options = {"min_epochs": 2, "reduction_factor": 2, "sampler": "random"}
    study = open_driver(store, 12, base, **options)
    other = by_optuna(store)
    curves: dict[int, list[float]] = {}
    wanted, stopped, live = [], set(), set()
    for _ in range(2_000):
        act = rng.random()
        if act < 0.03:
            study, live = open_driver(store, 12, base, **options), set()
        elif act < 0.06 and len(wanted) < 6:
            wanted.append(round(rng.uniform(1e-4, 1e-2), 9))
            other.enqueue_trial({"optimiser.lr": wanted[-1]})
        elif act < 0.09:
            other.set_user_attr("n", rng.random())
        elif act < 0.11 and len(live) > 1:
            number = rng.choice(sorted(live))
            hands.stop(store, "s", [number])
            stopped.add(number)
        elif act < 0.4 and len(live) < 4:
            if (given := study.next()) is not None:
                assert given.number not in live
                live.add(given.number)
                curves.setdefault(given.number, [])
        elif live:
            number = rng.choice(sorted(live))
            curve = curves[number]
            curve.append(rng.random())
            if len(curve) >= 6:
                study.complete(number, epochs(*curve))
                live.discard(number)
            elif study.report(number, epochs(*curve)):
                live.discard(number)
        live -= {number for number in stopped if not study.is_live(number)}
        if not live and not study.remaining:
            study.look()
            if not study.remaining:
                break
    found = rows(store)
    assert [row.number for row in found] == list(range(max(12, len(found))))
    assert {row.state for row in found} <= {"COMPLETE", "PRUNED", "FAIL"}
    assert {row.number for row in found if row.state == "FAIL"} <= stopped
    tried = [row.params.get("optimiser.lr") for row in found]
    assert all(tried.count(lr) == 1 for lr in wanted)
    for row in found:
        if row.state != "FAIL":
            assert [epoch.score for epoch in row.curve] == curves[row.number][: row.epochs]
            assert row.state == "PRUNED" or row.epochs == 6


@pytest.mark.parametrize("ask", ["row", "rows", "facts", "is_new"])
def test_who_only_asks_takes_up_what_others_wrote_meanwhile(store: Store, ask: str) -> None:
    study, other = open_driver(store, 4, tiny.base(optimiser__epochs=6)), by_optuna(store)
    given = study.next()
    assert given is not None
    # It may wait, and is written by whatever comes next.
    study.report(given.number, epochs(0.1))
    other.set_user_attr("n", 1)
    found = getattr(study, ask)
    if callable(found):
        found = found(*[given.number] * (ask == "row"))
    assert study.facts["n"] == 1
    assert study.row(given.number).epochs == 1


@pytest.fixture
def begun(store: Store, tmp_path: Path) -> SweepStudy:
    """A sweep of a space in a file, with its plan."""
    path = tmp_path / "mine.py"
    path.write_text(SPACE)
    space, base = load_space(str(path)), tiny.base()
    settings = SweepSettings(trials=3, pruning="none")
    plan = make_plan(Task.VA, "clip", base, space, derive_recipe(space, base), settings)
    store.write_json("sweeps/s/plan.json", {"config": plan, "sources": {}, "kind": "sweep"})
    study = SweepStudy(store, "s", space, base, settings)
    study.describe({"space": str(path)})
    return study


def test_a_trial_can_be_enqueued(store: Store, begun: SweepStudy) -> None:
    number, params = hands.enqueue(store, "s", {"optimiser.lr": 2e-3})
    assert (number, params) == (0, {"optimiser.lr": 2e-3})
    given = begun.next()
    assert given is not None
    assert given.config == override(tiny.base(), {"optimiser.lr": 2e-3})
    with pytest.raises(ConflictError, match="Trial 0 of 's' is the same: running"):
        hands.enqueue(store, "s", {"optimiser.lr": 2e-3})
    hands.stop(store, "s", [0])
    assert hands.enqueue(store, "s", {"optimiser.lr": 2e-3})[0] == 1


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        (
            {"optimiser.lr": 1.0},
            SettingsError,
            "optimiser.lr = 1.0 lies outside",
        ),
        ({"optimiser.rate": 1.0}, SettingsError, "optimiser.rate"),
        ({"optimiser.lr": "fast"}, SettingsError, "optimiser.lr"),
        ({"model.width": 16}, SettingsError, "model.width = 16 becomes"),
        ({"task": "au"}, SettingsError, "task"),
    ],
)
def test_what_the_space_does_not_contain_is_not_enqueued(
    store: Store, begun: SweepStudy, changes: dict[str, object], error: type, says: str
) -> None:
    with pytest.raises(error, match=says) as caught:
        hands.enqueue(store, "s", changes)
    # In plain words, not in Optuna's.
    assert "Distribution(" not in str(caught.value)
    assert rows(store) == []


def test_a_space_that_has_changed_is_refused(
    store: Store, begun: SweepStudy, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(SPACE.replace("1e-4", "1e-5"))
    with pytest.raises(ConflictError, match="not the one that the sweep 's' was begun with"):
        hands.enqueue(store, "s", {"optimiser.lr": 2e-3})
    (tmp_path / "as_it_was.py").write_text(SPACE)
    hands.enqueue(store, "s", {"optimiser.lr": 2e-3}, str(tmp_path / "as_it_was.py"))


@pytest.mark.parametrize(
    ("numbers", "error", "says"),
    [([7], NotThereError, "no trial 7"), ([1], ConflictError, "ended already: complete")],
)
def test_what_can_not_be_stopped_is_said(
    store: Store, numbers: list[int], error: type, says: str
) -> None:
    study = open_driver(store, 3, tiny.base())
    study.next()
    study.next()
    study.complete(1, epochs(0.1))
    with pytest.raises(error, match=says):
        hands.stop(store, "s", numbers)
    with pytest.raises(NotThereError, match="holds no sweep 'none'"):
        hands.stop(store, "none", [0])
