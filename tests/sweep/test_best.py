"""Every reader of a sweep has the same best trial, and each name of a trial means the same."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from optuna import create_trial
from optuna.distributions import CategoricalDistribution, FloatDistribution
from rich.console import Console

from raffect.affwild2.tasks import Task
from raffect.cli.progress import SweepTable
from raffect.cli.screen import Screen
from raffect.errors import NotThereError
from raffect.jobs import publish
from raffect.jobs.card import to_metadata
from raffect.predict.models import resolve
from raffect.report.collect import collect
from raffect.store import Stage, Store
from raffect.sweep.attributes import ORIGIN, RECIPE
from raffect.sweep.beginning import Beginning
from raffect.sweep.ledger import Ledger
from raffect.sweep.plan import make_plan
from raffect.sweep.points import derive_recipe
from raffect.sweep.progress import SweepProgress
from raffect.sweep.records import TrialFacts, TrialReport, best_of
from raffect.sweep.retrain import plan_retraining
from raffect.sweep.settings import SweepSettings
from raffect.sweep.study import SweepStudy
from raffect.sweep.tune import finish
from raffect.temporal.train import train
from tests.report import views
from tests.sweep import tiny
from tests.sweep.drivers import SPACE, epochs

PARAMS = {"optimiser.lr": 5e-3, "model.transformer.heads": 4}


def taken_over(*scores: float, origin: str) -> Any:
    """A result of another sweep, as `--branch` brings it."""
    return create_trial(
        values=[max(scores)],
        params=PARAMS,
        distributions={
            "optimiser.lr": FloatDistribution(1e-4, 1e-2, log=True),
            "model.transformer.heads": CategoricalDistribution([2, 4]),
        },
        user_attrs={
            ORIGIN: origin,
            RECIPE: False,
            **{f"epoch.{e.epoch:03d}": vars(e) for e in epochs(*scores)},
        },
    )


class Branched:
    """The sweep `s`, whose best result is one of `old`; its own trial 2 is beyond a limit."""

    def __init__(self, store: Store) -> None:
        base = tiny.base()
        settings = SweepSettings(trials=2, pruning="none", max_params=10)
        first = derive_recipe(SPACE, base)
        plan = make_plan(Task.VA, "clip", base, SPACE, first, settings)
        self.stage = Stage(store, "sweeps/s", "sweep", dict(plan), {})
        self.study = SweepStudy(store, "s", SPACE, base, settings)
        results = [taken_over(0.2, 0.8, origin="old:7")]
        self.study.begin(Beginning([(first.params, {RECIPE: True})], results))
        self.events: list[SweepProgress] = []
        self.ledger = Ledger(self.study, epochs=4, on_update=self.events.append)

    def run(self) -> None:
        """Trial 0 scores 0.5; trial 2 would be the best, but its model is too large."""
        for key, score, margin in (("a", 0.5, -1.0), ("b", 0.9, 4.0)):
            self.ledger.begin(key)
            facts = TrialFacts(parameters=9, margins={"parameters": margin})
            told = TrialReport(tuple(epochs(0.1, score)), facts)
            self.ledger.result(key, told)
            self.ledger.result(key, TrialReport(told.history, facts, done=True))


class Placed:
    """What a job's metadata and the gauges are set to."""

    name = "the test"

    def __init__(self) -> None:
        self.metadata: dict[str, str] = {}
        self.gauges: dict[tuple[str, str], float] = {}

    def show(self, standing: Any, glance: Any) -> None:
        self.metadata = to_metadata({}, standing, glance)
        self.gauges = {
            (name, labels.get("rank", "")): value
            for name, labels, value in publish.values_of(standing)
        }

    def open(self, *of: str) -> list[publish.Place]:
        return [self]


def test_a_result_taken_over_is_the_best_everywhere(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.fill(store)
    branched = Branched(store)
    branched.run()
    table, while_running, after = SweepTable(Screen(quiet=True), "s"), Placed(), Placed()
    with publish.SweepPublisher(store, "s", "va", places=while_running.open) as out:
        for event in branched.events:
            table.update(event)
            out.update(event)
    view = finish(branched.stage, branched.study, "s")
    monkeypatch.setenv("RAFFECT_JOB", "mine")
    with publish.SweepPublisher(store, "s", "va", places=after.open) as out:
        out.publish_finished(view, lambda: None)
    assert view.best is not None
    assert [row.number for row in view.rows] == [1, 0, 2]
    assert view.rows[0].to_json()["model"] == "old:7"
    assert (view.best.number, view.best.score, view.top) == (1, 0.8, (0.8, 0.5))
    assert (branched.events[-1].best_trial, branched.events[-1].best) == (1, 0.8)
    assert "best 0.8000 (trial 1)" in str(branched.events[-1].describe())
    for placed in (while_running, after):
        assert placed.metadata["best"] == "0.8000 (trial 1)"
        assert placed.metadata["best_params"].startswith("optimiser.lr=0.005")
        assert placed.gauges["raffect_best_score", ""] == 0.8
        tops = {rank: v for (name, rank), v in placed.gauges.items() if name.endswith("top_score")}
        assert tops == {"1": 0.8, "2": 0.5}
    assert view.manifest is not None
    assert view.manifest.counts["best"] == {"trial": 1, "score": 0.8}
    assert view.manifest.counts["trials"] == 2, "own trials only"
    assert collect(store, "s").best == view.best
    console = Console(width=100, file=io.StringIO(), record=True)
    console.print(table.render())
    assert "best 0.8000 (trial 1)" in console.export_text()


def test_only_a_trial_that_ended_well_within_the_limits_is_the_best() -> None:
    done = views.row(0, "COMPLETE", [0.5])
    ahead = views.row(1, "RUNNING", [0.3, 0.6])
    over = views.row(3, "COMPLETE", [0.9], violations={"parameters": 3.0})
    failed = views.row(4, "FAIL", [0.9], score=None)
    assert best_of([over, ahead, done, failed]) == done
    assert best_of([over]) is None


@pytest.fixture
def swept(store: Store, tmp_path: Path) -> Store:
    """The sweep `s` with a model of each own trial."""
    tiny.fill(store)
    branched = Branched(store)
    branched.run()
    train(store, tiny.base(optimiser__epochs=1), "clip", "plain")
    for folder in ("sweeps/s/trials/00000", "sweeps/s/trials/00002", "sweeps/old/trials/00007"):
        for name in ("config.json", "metrics.json", "model.safetensors"):
            store.write_bytes(f"{folder}/{name}", store.read_bytes(f"models/plain/{name}"))
    return store


@pytest.mark.parametrize(
    ("name", "number", "folder"),
    [
        ("s", 1, "sweeps/old/trials/00007"),
        ("s:best", 1, "sweeps/old/trials/00007"),
        ("s:0", 0, "sweeps/s/trials/00000"),
        ("s:2", 2, "sweeps/s/trials/00002"),
        ("sweeps/s", 1, "sweeps/old/trials/00007"),
        ("sweeps/s:best", 1, "sweeps/old/trials/00007"),
        ("sweeps/s:2", 2, "sweeps/s/trials/00002"),
    ],
)
def test_a_name_is_the_same_trial_in_predict_and_retrain(
    swept: Store, name: str, number: int, folder: str
) -> None:
    assert plan_retraining(swept, name).row.number == number
    assert resolve(swept, name).folder == folder


@pytest.mark.parametrize("name", ["s:7", "s:last", "sweeps/s:7"])
def test_a_trial_without_a_model_is_told_alike(swept: Store, name: str) -> None:
    for find in (resolve, plan_retraining):
        with pytest.raises(NotThereError, match="has no model of trial") as caught:
            find(swept, name)
        assert "trials with a model: 0, 1, 2" in str(caught.value)
