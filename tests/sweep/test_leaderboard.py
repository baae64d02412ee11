from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from raffect.affwild2.tasks import Task
from raffect.check import find_faults
from raffect.context import Context
from raffect.errors import DamagedError, NotThereError
from raffect.store import Stage, Store
from raffect.sweep import leaderboard
from raffect.sweep.beginning import Beginning
from raffect.sweep.leaderboard import SweepReader, list_sweeps, load_sweep
from raffect.sweep.points import derive_recipe
from raffect.sweep.records import TrialFacts, TrialRow, read_row
from raffect.sweep.seeds import write_seed
from raffect.sweep.settings import SweepSettings
from raffect.sweep.space import Space
from raffect.sweep.study import SweepStudy
from raffect.sweep.tune import open_stage
from raffect.temporal.epochs import EpochResult
from tests.report import views
from tests.sweep import tiny


def draw(trial: Any) -> dict[str, Any]:
    return {"optimiser.lr": trial.suggest_float("optimiser.lr", 1e-4, 1e-2)}


SPACE = Space("test", draw, "code", 1)


def epochs(*scores: float) -> list[EpochResult]:
    return [EpochResult(i + 1, 0.5, s, {}, 0.25, 1e-3) for i, s in enumerate(scores)]


def begin(store: Store, name: str, trials: int) -> tuple[Stage, SweepStudy]:
    base = tiny.base()
    config = {"task": "va", "base": base.canonical()}
    stage = Stage(store, f"sweeps/{name}", "sweep", config, {}, False)
    study = SweepStudy(store, name, SPACE, base, SweepSettings(trials=trials, pruning="none"))
    study.begin(Beginning([(derive_recipe(SPACE, base).params, {"recipe": True})]))
    return stage, study


def test_rows_are_best_first_and_every_state_is_shown(store: Store) -> None:
    stage, study = begin(store, "s", 7)
    assert [row.state for row in load_sweep(store, "s").rows] == ["WAITING"]
    assert load_sweep(store, "s").rows[0].params == {"optimiser.lr": 1e-3}
    for _ in range(6):
        study.next()
    assert load_sweep(store, "s").to_json()["linear_floor"] is None
    floor = {"score": 0.3, "parts": {"valence": 0.2}, "half_width": 15}
    study.describe({"baseline": {"score": 0.05, "parts": {"valence": 0.1}}, "linear_floor": floor})
    study.describe({"seen": {"clip": [12, 76]}})
    study.complete(0, epochs(0.2, 0.6, 0.6, 0.1), TrialFacts(parameters=12, host="h"))
    study.fail(1, "nan: The loss is nan.", epochs(0.9))
    study.complete(3, epochs(0.7))
    study.complete(4, epochs(0.6))
    study.report(5, epochs(0.8, 0.3))
    study.close()
    view = load_sweep(store, "s")
    assert [row.number for row in view.rows] == [3, 0, 4, 1, 2, 5]
    assert [row.score for row in view.rows] == [0.7, 0.6, 0.6, None, None, 0.8]
    assert [row.model for row in view.rows] == ["s:3", "s:0", "s:4", None, None, None]
    assert view.counts == {"COMPLETE": 3, "FAIL": 1, "RUNNING": 2}
    best = view.rows[1]
    assert (best.best_epoch, best.epochs, best.seconds, best.parameters) == (2, 4, 1.0, 12)
    assert best.attributes["host"] == "h"
    assert not any(key.startswith("epoch.") for key in best.attributes)
    assert view.rows[3].reason == "nan: The loss is nan."
    assert (view.task, view.target, view.baseline["score"]) == (Task.VA, 7, 0.05)
    assert (view.linear_floor, view.to_json()["linear_floor"]) == (floor, 0.3)
    assert view.to_json()["seen_videos"] == 12
    assert "12 of 76 validation videos were used to fine-tune the encoder 'clip'" in " ".join(
        view.cautions
    )
    assert view.config["model"]["width"] == 8
    assert view.manifest is None
    stage.finish([], counts={"trials": 7})
    finished = load_sweep(store, "s").manifest
    assert finished is not None
    assert finished.counts == {"trials": 7}


def test_sweeps_are_listed_by_name_and_a_bare_plan_is_none(store: Store) -> None:
    assert list_sweeps(store) == []
    begin(store, "b", 1)
    begin(store, "a", 1)
    Stage(store, "sweeps/c", "sweep", {"task": "va", "base": {}}, {}, False)
    assert [view.name for view in list_sweeps(store)] == ["a", "b"]


def test_a_finished_sweep_without_its_study_is_damaged(store: Store) -> None:
    stage, _ = begin(store, "a", 1)
    stage.finish([])
    store.delete("sweeps/a/study")
    with pytest.raises(DamagedError, match=r"(?s)sweeps/a/study is damaged.*--overwrite"):
        list_sweeps(store)
    assert [fault.key for fault in find_faults(store)] == ["sweeps/a/study"]
    plan, again = stage.plan.config, Context(overwrite=True)
    with pytest.raises(DamagedError):
        open_stage(store, "a", plan, {}, Context())
    new, before = open_stage(store, "a", plan, {}, again)
    assert new.is_new
    assert before is None


def test_an_unfinished_sweep_with_a_damaged_study_is_made_anew_where_that_is_asked_for(
    store: Store,
) -> None:
    stage, _ = begin(store, "a", 1)
    plan, again = stage.plan.config, Context(overwrite=True)
    for key in store.files("sweeps/a/study"):
        store.write_bytes(key, store.read_bytes(key)[:-30])
    with pytest.raises(DamagedError, match="--overwrite"):
        open_stage(store, "a", plan, {}, Context())
    new, before = open_stage(store, "a", plan, {}, again)
    assert new.is_new
    assert before is None
    assert store.files("sweeps/a") == ["sweeps/a/plan.json"]


def test_a_sweep_that_is_not_there_is_told_with_those_that_are(store: Store) -> None:
    begin(store, "a", 1)
    with pytest.raises(NotThereError, match="sweeps in this store: a"):
        load_sweep(store, "b")


@pytest.mark.slow
def test_a_sweep_in_s3_reads_the_same(s3_store: Store) -> None:
    _, study = begin(s3_store, "s", 2)
    study.next()
    study.complete(0, epochs(0.5))
    view = load_sweep(s3_store, "s")
    assert [(row.number, row.state, row.score) for row in view.rows] == [(0, "COMPLETE", 0.5)]
    _, again = begin(s3_store, "s", 2)
    assert again.remaining == 1


@pytest.mark.parametrize(
    ("state", "reason", "expected"),
    [
        ("COMPLETE", None, "Best 0.7000 against 0.6000 of the recipe (trial 0): +0.1000."),
        ("PRUNED", None, "No comparison: the recipe (trial 0) was stopped at 3 of 10 epochs; "
         "`raffect retrain s:0 --seeds 1` trains it in full."),
        ("PRUNED", "limit: 9 parameters", "No comparison: the recipe (trial 0) was refused: "
         "limit: 9 parameters."),
        ("FAIL", "nan: The loss is nan.", "No comparison: the recipe (trial 0) failed: "
         "nan: The loss is nan."),
        ("RUNNING", None, "No comparison: the recipe (trial 0) is at epoch 3 of 10."),
        ("WAITING", None, "No comparison: the recipe (trial 0) has not begun."),
    ],
)  # fmt: skip
def test_the_best_is_compared_with_the_whole_recipe_or_it_is_told_why_not(
    state: str, reason: str | None, expected: str
) -> None:
    recipe = views.row(0, state, [0.1, 0.2, 0.6], reason=reason, recipe=True)
    view = views.view([recipe, views.row(1, scores=[0.7])], task=Task.EXPR)
    assert view.against_recipe == expected
    assert view.to_json()["recipe"] == (0.6 if state == "COMPLETE" else None)


def test_a_recipe_that_was_pruned_counts_once_it_was_trained_again_in_full() -> None:
    """By its own seed: another one is another draw."""
    recipe = views.row(0, "PRUNED", [0.1, 0.2], recipe=True)
    for seeds, expected in (({1: 0.4}, "No comparison"), ({0: 0.5}, "Best 0.7000 against 0.5000")):
        again = replace(recipe, seeds=seeds, attributes={"recipe": True, "seed": 0})
        view = views.view([again, views.row(1, scores=[0.7])])
        assert view.against_recipe.startswith(expected)


def test_who_looks_again_reads_only_what_has_not_ended(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, study = begin(store, "s", 40)
    for number in range(30):
        study.next()
        study.complete(number, epochs(number * 7 % 10 / 10))
    for _ in range(3):
        study.next()
    reader, read = SweepReader(store, "s"), []

    def counted(*call: Any) -> TrialRow:
        read.append(call[1].number)
        return read_row(*call)

    monkeypatch.setattr(leaderboard, "read_row", counted)
    before = reader.read()
    assert len(read) == 33
    study.complete(31, epochs(0.95))
    study.next()
    study.look()
    read.clear()
    now = reader.read()
    assert read == [30, 31, 32, 33]
    assert (now.best and now.best.number, before.best and before.best.number) == (31, 7)
    assert now.rows == load_sweep(store, "s").rows
    assert now.to_json() == load_sweep(store, "s").to_json()
    for seed, score in enumerate((0.7, 0.9), start=1):
        write_seed(store, "s", 31, seed, score)
    now = reader.read()
    assert now.rows == load_sweep(store, "s").rows
    assert [row.number for row in now.rows if row.tied] == [31, 7, 17, 27]
