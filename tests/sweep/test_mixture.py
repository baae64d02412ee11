"""Trials of one sweep that different code computed: recorded, told, refused if that is wanted."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest

from raffect.affwild2.tasks import Task
from raffect.code import code_digest
from raffect.errors import ConflictError
from raffect.report.collect import assemble
from raffect.report.commands import extend_command
from raffect.report.tables_of_sweep import tables_of
from raffect.store import Stage, Store
from raffect.sweep.beginning import Beginning
from raffect.sweep.leaderboard import load_sweep
from raffect.sweep.mixture import tell_others
from raffect.sweep.plan import make_plan
from raffect.sweep.points import derive_recipe
from raffect.sweep.records import Maker, TrialFacts
from raffect.sweep.settings import SweepSettings
from raffect.sweep.space import load_space
from raffect.sweep.study import SweepStudy
from raffect.sweep.trial import TrialHome
from raffect.sweep.tune import tune
from raffect.temporal.data import load_sources
from tests.sweep import tiny
from tests.sweep.drivers import epochs
from tests.sweep.sweeps import SPACE

OLD, NEW = Maker("0.3.0", "a" * 64), Maker("0.3.1", "b" * 64)
UNKNOWN = "unknown code (before raffect 0.3)"
SETTINGS = SweepSettings(trials=4, min_epochs=1, pruning="none", require_same_code=True)


@pytest.fixture
def space(tmp_path: Path) -> str:
    (tmp_path / "helper.py").write_text("LOW = 1e-4\n")
    path = tmp_path / "space.py"
    path.write_text(SPACE.replace("1e-4", "LOW").replace("\ndef", "from helper import LOW\ndef"))
    return str(path)


def begin(store: Store, space: str, older: bool = False) -> SweepStudy:
    """The sweep `s`; as an older raffect began it, without the helpers of its space."""
    loaded, base = load_space(space), tiny.base()
    first = derive_recipe(loaded, base)
    plan = make_plan(Task.VA, "clip", base, loaded, first, SETTINGS)
    assert set(plan["space"]["helpers"]) == {"helper"}
    if older:
        del plan["space"]["helpers"]
    Stage(store, "sweeps/s", "sweep", dict(plan), load_sources(store, "clip"))
    study = SweepStudy(store, "s", loaded, base, SETTINGS)
    study.begin(Beginning([(first.params, {"recipe": True})]))
    return study


def run(study: SweepStudy, *makers: Maker | None) -> None:
    """A trial of one epoch by each; None: as a version before recorded it."""
    for maker in makers:
        given = study.next()
        assert given is not None
        study.complete(given.number, epochs(0.1), TrialFacts(maker=maker))


def sweep(store: Store, space: str, notes: list[str], **settings: Any) -> Any:
    from raffect.context import Context

    chosen = SETTINGS.model_copy(update={"space": space, **settings})
    context = Context(on_note=notes.append)
    return tune(store, Task.VA, "clip", "s", chosen, tiny.base(), None, context)


def test_a_trial_tells_all_that_computed_it(filled: Store, space: str) -> None:
    study = begin(filled, space)
    run(study, OLD, Maker("0.3.0", "a" * 64, 2), None)
    study.next()
    study.report(3, epochs(0.1), TrialFacts(maker=OLD))
    study.close()
    study = begin(filled, space)
    assert study.next().recorded == 1
    study.report(3, epochs(0.1, 0.2), TrialFacts(maker=NEW))
    study.complete(3, epochs(0.1, 0.2, 0.3), TrialFacts(maker=NEW))
    rows = sorted(load_sweep(filled, "s").rows, key=lambda row: row.number)
    two = Maker("0.3.0", "a" * 64, 2)
    assert [row.makers for row in rows] == [(OLD,), (two,), (Maker(),), (OLD, NEW)]
    assert [row.attributes.get("workers") for row in rows] == [1, 2, None, 1]
    assert rows[3].to_json()["made_by"] == [
        {"raffect": "0.3.0", "code": "a" * 64, "workers": 1},
        {"raffect": "0.3.1", "code": "b" * 64, "workers": 1},
    ]
    written = tables_of(assemble(load_sweep(filled, "s"), "store"))["trials"].csv()
    last = list(csv.DictReader(io.StringIO(written)))[3]
    assert (last["raffect"], last["workers"]) == ("0.3.0; 0.3.1", "1; 1")


def test_a_trial_that_an_older_raffect_began_is_partly_unknown(filled: Store, space: str) -> None:
    study = begin(filled, space)
    study.next()
    study.report(0, epochs(0.1))
    study.close()
    study = begin(filled, space)
    study.next()
    study.complete(0, epochs(0.1, 0.2), TrialFacts(maker=NEW))
    assert load_sweep(filled, "s").rows[0].makers == (Maker(), NEW)


def test_the_leaderboard_says_that_code_or_workers_differ(filled: Store, space: str) -> None:
    study = begin(filled, space)
    run(study, OLD, OLD)
    assert load_sweep(filled, "s").cautions == []
    run(study, None, Maker("0.3.0", "a" * 64, 2))
    assert load_sweep(filled, "s").cautions == [
        f"Trials of different code: 3 of raffect 0.3.0 (code {'a' * 12}), 1 of {UNKNOWN}. Scores "
        "differ by that, too.",
        "Trials by different workers: 3 of 1 worker, 1 of 2 workers. Their dropout differs.",
    ]


def test_going_on_with_other_code_or_workers_is_told_and_with_the_same_is_not(
    filled: Store, space: str
) -> None:
    study = begin(filled, space)
    run(study, OLD, OLD, None)
    rows, notes = load_sweep(filled, "s").rows, []
    tell_others("s", rows, Maker("0.3.1", "b" * 64, 2), False, notes.append)
    assert notes == [
        f"This sweep has trials of other code: 2 of raffect 0.3.0 (code {'a' * 12}), 1 of "
        f"{UNKNOWN}. Those to come are of raffect 0.3.1 (code {'b' * 12}): scores differ by that, "
        "too. (--require-same-code refuses it.)",
        "This sweep has trials by other workers: 3 of 1 worker. Those to come are by 2 workers: "
        "their dropout differs.",
    ]
    notes.clear()
    tell_others("s", [row for row in rows if row.makers == (OLD,)], OLD, True, notes.append)
    assert notes == []


def test_other_code_is_refused_before_anything_is_done(filled: Store, space: str) -> None:
    study = begin(filled, space)
    run(study, OLD, None)
    study.close()
    before, notes = filled.files("sweeps/s"), list[str]()
    with pytest.raises(ConflictError) as caught:
        sweep(filled, space, notes)
    assert f"1 of raffect 0.3.0 (code {'a' * 12}), 1 of {UNKNOWN}" in caught.value.got
    assert Maker.here(1).describe() in caught.value.got
    assert "--require-same-code" in caught.value.next_step
    assert filled.files("sweeps/s") == before
    assert notes == []


def test_a_node_with_other_code_computes_nothing_where_that_is_refused(store: Store) -> None:
    TrialHome(store, "s", (), 0.0).check_code()
    TrialHome(store, "s", (), 0.0, code=code_digest("sweep")).check_code()
    with pytest.raises(ConflictError, match="that of the driver"):
        TrialHome(store, "s", (), 0.0, code="a" * 64).check_code()


def test_the_command_that_extends_a_sweep_keeps_its_workers(filled: Store, space: str) -> None:
    study = begin(filled, space)
    run(study, Maker("0.3.0", "a" * 64, 2))
    assert "--workers-per-trial 2 " in extend_command(load_sweep(filled, "s"), "store")
    run(study, OLD)
    assert "--workers" not in extend_command(load_sweep(filled, "s"), "store")


def test_a_helper_that_changed_is_refused_by_name_where_it_was_recorded(
    filled: Store, space: str
) -> None:
    run(begin(filled, space), OLD)
    (Path(space).parent / "helper.py").write_text("LOW = 2e-4\n")
    with pytest.raises(ConflictError, match=r"space\.helpers\.helper: "):
        sweep(filled, space, [])


def test_a_sweep_that_was_begun_before_helpers_counted_goes_on(filled: Store, space: str) -> None:
    run(begin(filled, space, older=True), OLD)
    notes: list[str] = []
    # The next thing that is looked at.
    with pytest.raises(ConflictError, match="trials of other code"):
        sweep(filled, space, notes)
    assert notes == ["Not checked, as this sweep is older: helper."]
