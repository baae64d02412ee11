"""An ablation as a sweep: interrupted, extended, nothing twice; and one for real on Ray."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from raffect.affwild2.evaluation import evaluate
from raffect.affwild2.labels import load_labels
from raffect.affwild2.sums import score_sums
from raffect.affwild2.tasks import Split, Task
from raffect.config import TemporalConfig
from raffect.context import Context
from raffect.errors import ConflictError, NotThereError, SettingsError
from raffect.settings import override
from raffect.store import Store, features_folder, read_manifest
from raffect.store import features as feature_files
from raffect.store.layout import DATASET, trial_folder
from raffect.store.lease import held
from raffect.store.manifest import FileEntry, make_manifest, write_manifest
from raffect.sweep.ablate import SETTINGS, ablate, find_base, plan_ablation
from raffect.sweep.ablation import SPACE, missing_trials, plan_variants
from raffect.sweep.ablation_table import tabulate
from raffect.sweep.leaderboard import SweepView
from raffect.sweep.paired import read_sums
from raffect.sweep.plan import make_plan
from raffect.sweep.points import Recipe
from raffect.sweep.progress import SweepProgress
from raffect.sweep.study import SweepStudy
from raffect.sweep.tune import open_stage
from raffect.temporal.data import load_task_data
from raffect.temporal.inference import load_bundle, predict_split
from raffect.temporal.training import Trainer
from tests.sweep import tiny

BASE = tiny.base(losses__mse_share=0.2)
PLAN = make_plan(Task.VA, "clip", BASE, SPACE, Recipe({}), SETTINGS)
PLAN["ablation"] = {"frozen": None}


def begun(store: Store, trials: int) -> SweepStudy:
    """The study of an ablation that asks for so many trials."""
    return SweepStudy(store, "a", SPACE, BASE, override(SETTINGS, {"trials": trials}))


def plan(store: Store, seeds: int, without: Sequence[str] = ()) -> list[dict[str, Any]]:
    _, before = open_stage(store, "a", PLAN, {}, Context())
    rows = [] if before is None else before.rows
    return missing_trials(rows, BASE, plan_variants(BASE, without)[0], seeds)


def drain(study: SweepStudy) -> list[tuple[int, TemporalConfig]]:
    found = []
    while study.remaining:
        assignment = study.next()
        assert assignment is not None
        found.append((assignment.number, assignment.config))
    return found


def test_overwrite_deletes_no_sweep_that_a_command_is_at(store: Store):
    open_stage(store, "a", PLAN, {}, Context())
    begun(store, 2)
    other = {**PLAN, "ablation": {"frozen": 1}}
    with held(store, "sweeps/a/lease"):
        before = store.files("sweeps/a")
        with pytest.raises(ConflictError, match="is at sweeps/a already"):
            open_stage(store, "a", other, {}, Context(overwrite=True))
        assert store.files("sweeps/a") == before
    stage, view = open_stage(store, "a", other, {}, Context(overwrite=True))
    assert (stage.is_new, view) == (True, None)
    assert store.files("sweeps/a") == ["sweeps/a/plan.json"]


def test_an_interrupted_study_goes_on_and_a_larger_one_adds_what_is_missing(store: Store):
    new = plan(store, 2)
    study = begun(store, len(new))
    study.enqueue(new)
    first = study.next()
    assert first is not None
    assert first.config == BASE

    # The driver is killed: the next one continues trial 0, and asks for the three others.
    assert plan(store, 2) == []
    study = begun(store, 4)
    study.enqueue([])
    told = drain(study)
    assert [number for number, _ in told] == [0, 1, 2, 3]
    assert [(c.model.tcn.depth, c.run.seed) for _, c in told] == [(1, 0), (0, 0), (1, 1), (0, 1)]

    # A seed and a row more.
    more = plan(store, 3, ["losses.mse_share"])
    assert len(more) == 2 + 3
    study = begun(store, 4 + len(more))
    study.enqueue(more)
    assert study.remaining == 9
    again = drain(study)
    assert again[:4] == told
    assert [(c.model.tcn.depth, c.losses.mse_share, c.run.seed) for _, c in again[4:]] == [
        (1, 0.0, 0), (1, 0.0, 1), (1, 0.2, 2), (0, 0.2, 2), (1, 0.0, 2),
    ]  # fmt: skip
    assert len({config for _, config in again}) == 9


def test_a_base_that_is_no_trial_to_ablate_is_refused(filled: Store):
    with pytest.raises(NotThereError, match="no sweep 'none'"):
        find_base(filled, "none:3", Task.VA)
    study = begun(filled, 1)
    plan(filled, 1)
    study.enqueue(missing_trials([], BASE, plan_variants(BASE)[0], 1)[:1])
    assert study.next() is not None
    study.fail(0, "nan: the loss is not finite")
    with pytest.raises(NotThereError, match="no model of trial '0'"):
        find_base(filled, "a:0", Task.VA)


def second_features(store: Store) -> None:
    """The features `plain`, which show less of the labels and have no encoder."""
    source = read_manifest(store, features_folder("clip"))
    stored = pq.read_table(io.BytesIO(store.read_bytes("features/clip/00000.parquet")))
    table = feature_files.to_array(stored)
    rng = np.random.default_rng(1)
    noisy = table.astype(np.float64) + rng.normal(0, 2.0, table.shape)
    names = [f"v{i}" for i in range(6) for _ in range(60)]
    frames = np.tile(np.arange(1, 61, dtype=np.int32), 6)
    data = feature_files.to_parquet(names, frames, noisy)
    store.write_bytes("features/plain/00000.parquet", data)
    entries = [FileEntry.of("00000.parquet", data)]
    sources = {DATASET: source.sources[DATASET]}
    made = make_manifest("features", {}, sources, entries, dict(source.counts))
    write_manifest(store, "features/plain", made)


def finished(view: SweepView) -> dict[int, tuple[Any, ...]]:
    return {row.number: (row.params, row.score, row.finished) for row in view.rows}


@pytest.mark.ray
def test_an_ablation_from_start_to_extension(ray_local: None, filled: Store):
    second_features(filled)
    one = override(SETTINGS, {"concurrent": 1})
    events: list[SweepProgress] = []

    def run(seeds: int | None, without: Sequence[str] = (), base: TemporalConfig = BASE):
        wanted = plan_ablation(filled, base, "clip", without, "plain")
        return ablate(filled, "a", wanted, seeds, one, events.append)

    view = run(1)
    assert view.kind == "ablation"
    assert [finished(view)[number][0] for number in range(3)] == [
        {"variant": name, "seed": 0} for name in ("full", "without fine-tuning", "without TCN")
    ]
    assert [row.number for row in view.rows if row.recipe] == [0]

    # Each trial is the plain loop on its own features, and predicts what its score is of.
    labels = load_labels(filled, Task.VA)
    valid = {name: of for name, of in labels.items() if of.split is Split.VALIDATION}
    for row in view.rows:
        features = "plain" if row.number == 1 else "clip"
        depth = 0 if row.number == 2 else 1
        config = override(BASE, {"model.tcn.depth": depth})
        trainer = Trainer(config, load_task_data(filled, features, Task.VA))
        while not trainer.done:
            trainer.run_epoch()
        assert [e.score for e in row.curve] == [e.score for e in trainer.history]
        bundle = load_bundle(filled, trial_folder("a", row.number))
        assert bundle.features == features
        predicted = {p.video: p for p in predict_split(filled, bundle, Split.VALIDATION)}
        assert evaluate(Task.VA, predicted, valid).score == pytest.approx(row.score, abs=1e-9)

    # Nothing to do; then a seed and a row more, and nothing is trained twice.
    events.clear()
    assert finished(run(None)) == finished(view)
    assert events == []
    larger = run(2, ["segments.window=16"])
    assert {event.trial for event in events} == {3, 4, 5, 6, 7}
    assert {n: of for n, of in finished(larger).items() if n < 3} == finished(view)
    assert larger.manifest is not None
    assert larger.manifest.counts["trials"] == 8

    rows = tabulate(filled, larger)
    assert [row.name for row in rows] == [
        "full", "without fine-tuning", "without TCN", "segments.window=16",
    ]  # fmt: skip
    by_params = {tuple(row.params.values()): row for row in larger.rows}
    for row in rows:
        trials = [by_params[row.name, seed] for seed in (0, 1)]
        assert row.scores == tuple(trial.score for trial in trials)
        for trial in trials:
            sums = read_sums(filled, trial)
            assert sums is not None
            whole = score_sums(Task.VA, np.ones((1, len(sums)), int), sums)
            assert whole == pytest.approx(trial.score, abs=1e-9)
    assert (rows[0].difference, rows[0].interval) == (None, None)
    gaps = np.subtract(rows[2].scores, rows[0].scores)
    assert rows[2].difference == pytest.approx(gaps.mean())
    assert rows[2].interval is not None
    assert rows[2].interval[0] <= rows[2].difference <= rows[2].interval[1]

    with pytest.raises(ConflictError, match=r"base\.optimiser\.epochs: 4 -> 5"):
        run(2, base=override(BASE, {"optimiser.epochs": 5}))
    trial = find_base(filled, "a:2", Task.VA)
    assert (trial.features, trial.config.model.tcn.depth) == ("clip", 0)
    with pytest.raises(SettingsError, match="--base a:2 is a trial of va"):
        find_base(filled, "a:2", Task.AU)
    with pytest.raises(SettingsError, match="--base has clip"):
        find_base(filled, "a:2", Task.VA, ["plain"])
