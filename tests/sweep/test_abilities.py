"""What a sweep can be asked for beyond a number of trials, each on a real local Ray."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch

from raffect.affwild2.tasks import Task
from raffect.config import TemporalConfig
from raffect.errors import ConflictError, NotThereError, RaffectError, SettingsError
from raffect.store import Store
from raffect.sweep.leaderboard import load_sweep
from raffect.sweep.paired import paired_interval, read_sums, sums_of
from raffect.sweep.plan import make_plan
from raffect.sweep.points import derive_recipe
from raffect.sweep.records import Maker, TrialReport
from raffect.sweep.retrain import against_recipe, plan_retraining, retrain
from raffect.sweep.settings import SweepSettings
from raffect.sweep.space import load_space
from raffect.sweep.trial import SweepTrial, TrialHome
from raffect.sweep.warmstart import Target, warm_start
from raffect.temporal import training
from raffect.temporal.data import load_sources, load_task_data
from tests.sweep import tiny
from tests.sweep.sweeps import SPACE, sweep

pytestmark = pytest.mark.ray

BRANCHES = """
POINTS = [{"model.tcn.depth": 0}, {"model.tcn.depth": 2, "optimiser.lr": 5e-3}]


def space(trial):
    found = {
        "model.tcn.depth": trial.suggest_int("model.tcn.depth", 0, 3),
        "optimiser.lr": trial.suggest_float("optimiser.lr", 1e-4, 1e-2, log=True),
    }
    if found["model.tcn.depth"]:
        found["model.tcn.kernel"] = trial.suggest_int("model.tcn.kernel", 3, 7, step=2)
        found["model.tcn.dropout"] = trial.suggest_categorical("model.tcn.dropout", [0.0, 0.3])
    return found
"""


@pytest.fixture
def branches(tmp_path: Path) -> str:
    path = tmp_path / "branches.py"
    path.write_text(BRANCHES)
    return str(path)


def test_a_sweep_begins_with_the_recipe_and_the_spaces_own_points(
    ray_local: None, filled: Store, branches: str
) -> None:
    base = tiny.base(optimiser__epochs=2)
    view = sweep(filled, branches, 5, base=base)
    # What the points leave open is the base's.
    params = {row.number: row.params for row in view.rows}
    assert params[0]["optimiser.lr"] == params[1]["optimiser.lr"] == 1e-3
    assert params[1]["model.tcn.depth"] == 0
    assert (params[2]["model.tcn.depth"], params[2]["optimiser.lr"]) == (2, 5e-3)
    with pytest.raises(ConflictError, match=r"sweep\.sampler"):
        sweep(filled, branches, 5, sampler="random", base=base)


@pytest.mark.long
@pytest.mark.parametrize("pruning", ["hyperband", "median"])
def test_every_pruner_leaves_models_of_what_it_prunes(
    ray_local: None, filled: Store, space: str, pruning: str
) -> None:
    view = sweep(filled, space, 14, pruning=pruning, base=tiny.base(optimiser__epochs=6))
    assert sum(view.counts.values()) == 14
    assert "PRUNED" in view.counts
    for row in view.rows:
        folder = f"sweeps/s/trials/{row.number:05d}"
        assert filled.read_json(f"{folder}/metrics.json")["epochs"] == row.epochs


@pytest.mark.long
def test_a_model_beyond_a_limit_is_never_trained(
    ray_local: None, filled: Store, branches: str
) -> None:
    free = sweep(filled, branches, 3, name="free", pruning="none")
    sizes = {row.number: row.parameters or 0 for row in free.rows}
    view = sweep(filled, branches, 8, pruning="none", max_params=sizes[1] + 1)
    over = [row for row in view.rows if row.violations]
    assert {0, 2} <= {row.number for row in over}
    for row in view.rows:
        assert (row in over) == ((row.parameters or 0) > sizes[1] + 1)
    assert all((row.state, row.epochs, row.model) == ("PRUNED", 0, None) for row in over)
    assert all((row.reason or "").startswith("limit: ") for row in over)
    assert view.best is not None
    assert not view.best.violations
    with pytest.raises(ConflictError, match=r"sweep\.max_params"):
        sweep(filled, branches, 8, pruning="none")


@pytest.mark.long
def test_latency_is_measured_before_training(ray_local: None, filled: Store, space: str) -> None:
    with pytest.raises(RaffectError, match=r"3 x limit: .* ms per 1,000 frames of at most 1e-06"):
        sweep(filled, space, 3, max_latency_ms=1e-6)
    view = sweep(filled, space, 2, name="t", max_latency_ms=1e6)
    assert all(0 < row.attributes["latency_ms"] < 1e6 for row in view.rows)


@pytest.mark.long
def test_two_objectives_leave_a_front(ray_local: None, filled: Store, branches: str) -> None:
    view = sweep(filled, branches, 10, objectives=("score", "parameters"))
    assert view.objectives == ("score", "parameters")
    assert view.counts == {"COMPLETE": 10}
    points = {row.number: tuple(row.objectives.values()) for row in view.rows}
    for row in view.rows:
        assert row.objectives == {"score": row.score, "parameters": row.parameters}
        own = points[row.number]
        beaten = any(o[0] >= own[0] and o[1] <= own[1] and o != own for o in points.values())
        assert row.pareto is not beaten
    again = sweep(filled, branches, 11, objectives=("score", "parameters"))
    assert again.counts == {"COMPLETE": 11}


def test_a_model_that_does_not_get_better_stops_early_and_is_complete(
    ray_local: None, filled: Store, space: str
) -> None:
    base = tiny.base(optimiser__epochs=30, optimiser__patience=1, optimiser__lr=1e-2)
    view = sweep(filled, space, 3, pruning="none", base=base)
    assert view.counts == {"COMPLETE": 3}
    assert any(row.epochs < 30 for row in view.rows)
    for row in view.rows:
        assert row.best_epoch is not None
        assert row.epochs in (30, row.best_epoch + 1)


@pytest.mark.long
def test_hours_end_a_sweep_and_more_hours_go_on(
    ray_local: None, filled: Store, space: str
) -> None:
    view = sweep(filled, space, 500, max_hours=1 / 3600)
    ended = sum(view.counts.values())
    assert 1 <= ended < 500
    assert set(view.counts) <= {"COMPLETE", "PRUNED"}
    assert view.manifest is not None
    assert "hours are spent" in (view.ended or "")
    began = time.monotonic()
    assert sum(sweep(filled, space, 500, max_hours=1 / 3600).counts.values()) == ended
    assert time.monotonic() - began < 2
    more = sweep(filled, space, ended + 2)
    assert sum(more.counts.values()) == ended + 2
    assert more.ended is None
    assert more.hours > view.hours > 1 / 3600


@pytest.mark.long
def test_device_hours_are_those_of_the_epochs(ray_local: None, filled: Store, space: str) -> None:
    view = sweep(filled, space, 500, max_device_hours=0.3 / 3600)
    spent = sum(row.seconds for row in view.rows)
    assert view.device_hours == pytest.approx(spent / 3600)
    assert 0.3 < spent < 5
    assert sum(view.counts.values()) < 500


@pytest.mark.long
def test_too_many_failures_end_a_sweep_with_a_summary(
    ray_local: None, filled: Store, tmp_path: Path
) -> None:
    path = tmp_path / "failing.py"
    path.write_text(
        SPACE.replace("return {", "return {**({'model.tcn.depth': 65} if trial.number else {}), ")
    )
    with pytest.raises(RaffectError, match=r"2 trials .*failed:\n  2 x bad-config") as caught:
        sweep(filled, str(path), 30, max_failures=2)
    assert "fewer than 2 failures" in str(caught.value)
    assert load_sweep(filled, "s").counts.get("RUNNING", 0) == 0


def test_a_warm_start_takes_results_over_and_prints_the_overlap(
    ray_local: None, filled: Store, space: str, branches: str, tmp_path: Path
) -> None:
    before = sweep(filled, space, 5, name="old")
    assert {row.makers for row in before.rows} == {(Maker.here(1),)}
    notes: list[str] = []
    view = sweep(filled, space, 2, warm_start=("old",), on_note=notes.append)
    taken = {row.origin: row for row in view.rows if row.origin}
    assert set(taken) == {f"old:{n}" for n in range(5)}
    for row in before.rows:
        copy = taken[f"old:{row.number}"]
        assert (copy.score, copy.state, copy.params, copy.curve) == (
            row.score, row.state, row.params, row.curve,
        )  # fmt: skip
        assert copy.model == row.model
        assert copy.device_seconds == 0
    assert (view.target, sum(view.counts.values())) == (2, 2)
    assert taken["old:0"].number == 0, "the recipe need not be run again"
    assert notes == ["From old: 5 results, 0 points to try", "  same range: optimiser.lr"]

    notes.clear()
    other = sweep(filled, space, 2, Task.AU, name="task", warm_start=("s",), on_note=notes.append)
    tried = [row.attributes.get("point") for row in other.rows]
    assert f"s:{view.rows[0].number}" in tried
    assert all(row.origin is None for row in other.rows)
    assert notes == [
        "From s: 0 results, 1 points to try (its scores mean something else here)",
        "  same range: optimiser.lr",
    ]

    with pytest.raises(SettingsError, match="begun with old; now with task"):
        sweep(filled, space, 3, warm_start=("task",))
    with pytest.raises(NotThereError, match="holds no sweep 'none'"):
        sweep(filled, space, 3, name="new", warm_start=("none",))


def target_of(store: Store, space: str, base: TemporalConfig) -> Target:
    chosen = SweepSettings(trials=4, pruning="none", min_epochs=1)
    loaded = load_space(space)
    first = derive_recipe(loaded, base)
    planned = make_plan(base.task, "clip", base, loaded, first, chosen)
    return Target(planned, load_sources(store, "clip"), loaded, base, first, chosen)


@pytest.mark.long
def test_what_is_not_comparable_is_tried_and_not_taken_for_a_result(
    ray_local: None, filled: Store, space: str, branches: str
) -> None:
    before = sweep(filled, space, 3, name="old", pruning="none")
    best = [{"point": f"old:{before.rows[0].number}"}]
    for searched, base, results, points in [
        (space, tiny.base(), 3, []),
        (space, tiny.base(optimiser__epochs=3), 0, best),
        (space, tiny.base(Task.AU), 0, best),
        (branches, tiny.base(), 3, []),
    ]:
        found = warm_start(filled, ["old"], target_of(filled, searched, base))
        assert len(found.results) == results, searched
        assert [attributes for _, attributes in found.points] == points


def test_retraining_gives_the_score_to_the_bit_and_other_seeds_a_spread(
    ray_local: None, filled: Store, space: str
) -> None:
    view = sweep(filled, space, 6)
    best = view.rows[0]
    wanted = plan_retraining(filled, "s")
    assert wanted.row.number == best.number
    found = retrain(filled, wanted, wanted.seeds(3))
    assert [one.seed for one in found] == [0, 1, 2]
    assert (found[0].score, found[0].same) == (best.score, True)
    assert len({one.score for one in found}) == 3
    after = load_sweep(filled, "s")
    assert after.rows[0].seeds == {one.seed: one.score for one in found}
    assert [row.number for row in after.rows if row.tied][:1] == [best.number]
    began = time.monotonic()
    assert retrain(filled, wanted, wanted.seeds(3)) == found
    assert time.monotonic() - began < 5
    # Against the recipe, whichever trial was the best; the recipe has none to be compared with.
    recipe = after.recipe
    assert recipe is not None
    assert against_recipe(filled, replace(wanted, row=recipe), found) == (found, None)
    each, whole = against_recipe(filled, replace(wanted, row=replace(best, number=99)), found)
    assert whole is not None
    gaps = [one.score - recipe.score for one in found]
    assert whole.difference == pytest.approx(np.mean(gaps))
    assert [one.versus_recipe.difference for one in each if one.versus_recipe] == gaps
    theirs = read_sums(filled, recipe)
    ours = sums_of(filled, f"models/{found[1].model}", found[1].best_epoch)
    assert each[1].versus_recipe.interval == paired_interval(Task.VA, [(ours, theirs)])
    pruned = next(row for row in view.rows if row.state == "PRUNED")
    (again,) = retrain(filled, plan_retraining(filled, f"s:{pruned.number}"), [0])
    assert again.same
    with pytest.raises(NotThereError, match="no model of trial '77'"):
        plan_retraining(filled, "s:77")


def actor(filled: Store, sweep: str) -> SweepTrial:
    """A trial's actor, in this process."""
    data = load_task_data(filled, "clip", Task.VA)
    home = TrialHome(filled, sweep, (), 0.0)
    config = {"number": 0, "slot": 0, "settings": tiny.base().canonical()}
    made: SweepTrial = SweepTrial.__new__(SweepTrial)
    made.setup(config, data=[ray.put(data)], home=home)
    return made


def told(trial: SweepTrial) -> TrialReport:
    found = TrialReport.from_tune(trial.step())
    assert found is not None
    return found


@pytest.mark.parametrize("always", [False, True])
def test_a_trial_without_memory_goes_on_once_with_half_a_batch(
    ray_local: None, filled: Store, monkeypatch: pytest.MonkeyPatch, always: bool
) -> None:
    """From its checkpoint, and with the same numbers; a second time it fails with the reason."""
    trial, plain = actor(filled, "s"), actor(filled, "plain")
    first = told(trial)
    assert told(plain).score == first.score
    real = training.backward

    def tight(forward: Any, losses: Any, parts: list[Any], *more: Any) -> torch.Tensor:
        if always or len(parts) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(forward, losses, parts, *more)

    monkeypatch.setattr(training, "backward", tight)
    second = told(trial)
    assert second.facts.accumulation == 2
    assert second.facts.note == "half a batch at a time after it ran out of memory"
    assert second.history == first.history, "it goes on from its checkpoint"
    third = told(trial)
    if always:
        assert third.failure == "oom: CUDA out of memory"
        return
    assert third.epoch == 2
    monkeypatch.setattr(training, "backward", real)
    expected = told(plain).history[1].loss
    assert third.history[1].loss == pytest.approx(expected, abs=0.05)


def test_a_driver_that_comes_while_another_is_at_work_is_refused(
    ray_local: None, filled: Store, space: str
) -> None:
    refused: list[str] = []

    def intrude(progress: Any) -> None:
        if not refused and progress.event == "epoch":
            with pytest.raises(ConflictError, match="is at sweeps/s already") as caught:
                sweep(filled, space, 3)
            refused.append(str(caught.value))

    assert sum(sweep(filled, space, 3, on_update=intrude).counts.values()) == 3
    assert len(refused) == 1
    assert filled.names("sweeps/s/lease") == []
