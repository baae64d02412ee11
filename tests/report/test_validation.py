"""What the best trial's model predicts: against the metrics themselves, and when it can't."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from raffect.affwild2.evaluation import evaluate
from raffect.affwild2.scores import f1
from raffect.affwild2.tasks import SPECS, Task
from raffect.report.collect import collect
from raffect.report.validation import (
    MOST_POINTS,
    NO_MODEL,
    choose_videos,
    from_json,
    validate,
    validation_of,
    video_score,
)
from raffect.store import Store, sweep_folder
from raffect.store.layout import JUDGED
from raffect.store.verified import read_sealed, write_sealed
from raffect.sweep.leaderboard import load_sweep
from tests.report.views import made_up_validation, made_up_videos, row, view

ALL = [pytest.param(task, id=task.value) for task in Task]


@pytest.mark.parametrize("task", ALL)
def test_score_and_interval_are_the_evaluators(task: Task):
    predictions, labels = made_up_videos(task)
    validation = validation_of(task, "s:1", predictions, labels)
    expected = evaluate(task, predictions, labels)
    assert (validation.score, validation.interval) == (expected.score, expected.interval)
    assert (validation.videos, validation.frames) == (4, expected.frames)
    assert validation.interval[0] < validation.score < validation.interval[1]


@pytest.mark.parametrize("task", ALL)
def test_the_confusion_counts_every_valid_frame(task: Task):
    validation = made_up_validation(task)
    table = validation.confusion
    if task is Task.AU:
        outcomes = table.columns[1:]
        per_unit = np.array([table.column(name) for name in outcomes]).sum(axis=0)
        assert per_unit.tolist() == [validation.frames] * 12
    else:
        times = 2 if task is Task.VA else 1
        assert sum(table.column("frames")) == times * validation.frames  # type: ignore[arg-type]


def test_the_score_of_expressions_and_units_follows_from_the_confusion():
    for task in (Task.EXPR, Task.AU):
        validation = made_up_validation(task)
        table = validation.confusion
        if task is Task.EXPR:
            counts = np.array(table.column("frames")).reshape(8, 8)
            values = f1(counts.diagonal(), counts.sum(axis=0), counts.sum(axis=1))
        else:
            tp, fn, fp, _ = (np.array(table.column(name)) for name in table.columns[1:])
            values = f1(tp, tp + fp, tp + fn)
        assert values.mean() == pytest.approx(validation.score)


@pytest.mark.parametrize("task", ALL)
def test_shares_are_those_of_the_true_value(task: Task):
    if task is Task.AU:
        return
    rows = [
        dict(zip(made.columns, cells, strict=True))
        for made in [made_up_validation(task).confusion]
        for cells in made.rows
    ]
    totals: dict[tuple, float] = {}
    for cell in rows:
        key = (cell.get("part"), cell["true"])
        totals[key] = totals.get(key, 0.0) + (cell["share_of_true"] or 0.0)
    assert all(total == pytest.approx(1, abs=1e-4) or total == 0 for total in totals.values())


@pytest.mark.parametrize("task", ALL)
def test_curves_are_the_predictions_of_the_videos_that_are_shown(task: Task):
    predictions, labels = made_up_videos(task)
    validation = validation_of(task, "s:1", predictions, labels)
    names = SPECS[task].columns
    for shown in validation.shown:
        rows = [
            dict(zip(validation.curves.columns, cells, strict=True))
            for cells in validation.curves.rows
            if cells[0] == shown.video
        ]
        assert len(rows) <= MOST_POINTS
        assert [r["frame"] for r in rows] == list(
            range(1, len(labels[shown.video].valid) + 1, shown.step)
        )
        for cells in rows:
            index = int(cells["frame"]) - 1
            values = [cells[name] for name in names]
            assert values == pytest.approx(predictions[shown.video].values[index], abs=1e-3)
            is_known = [cells[f"true_{name}"] is not None for name in names]
            assert is_known == [bool(labels[shown.video].valid[index])] * len(names)


def test_the_true_expression_is_marked_once():
    validation = made_up_validation(Task.EXPR)
    true = [validation.curves.column(f"true_{name}") for name in SPECS[Task.EXPR].columns]
    sums = {sum(cells) for cells in zip(*true, strict=True) if cells[0] is not None}
    assert sums == {1}


def test_best_median_and_worst_are_chosen_by_their_own_scores():
    predictions, labels = made_up_videos(Task.VA, (60, 60, 60, 60, 60))
    validation = validation_of(Task.VA, "s:1", predictions, labels)
    scores = dict(
        zip(
            validation.per_video.column("video"), validation.per_video.column("score"), strict=True
        )
    )
    ranked = sorted(scores, key=lambda name: -float(str(scores[name])))
    assert [one.why for one in validation.shown] == ["best", "median", "worst"]
    assert [one.video for one in validation.shown] == [ranked[0], ranked[2], ranked[4]]


@pytest.mark.parametrize(("videos", "why"), [(1, ["best"]), (2, ["best", "worst"])])
def test_fewer_videos_than_three_are_shown_once_each(videos: int, why: list[str]):
    validation = validation_of(Task.AU, "s:1", *made_up_videos(Task.AU, (30,) * videos))
    assert [one.why for one in validation.shown] == why


def test_a_video_is_scored_by_the_classes_that_occur_in_it():
    chosen = np.eye(8)[[0, 0, 1, 1]]
    # F1 of class 0: 2/3 (one of two found, none wrong), of class 1: 4/5; six classes are absent.
    assert video_score(Task.EXPR, chosen, np.array([[0], [1], [1], [1]])) == pytest.approx(
        (2 / 3 + 4 / 5) / 2
    )
    nothing = np.zeros((4, 12))
    assert video_score(Task.AU, nothing, nothing) is None
    assert choose_videos({"a": None}, {}) == ()


def test_a_sweep_without_a_score_has_nothing_to_judge(store: Store):
    assert validate(store, view([row(0, "FAIL")])) == NO_MODEL


def test_what_is_kept_reads_back_the_same():
    validation = made_up_validation(Task.EXPR)
    assert from_json(json.loads(json.dumps(asdict(validation)))) == validation


@pytest.fixture
def copy(swept: Store, tmp_path: Path) -> Store:
    """The sweeps, to be spoilt."""
    shutil.copytree(swept.uri, tmp_path / "copy")
    found = Store(str(tmp_path / "copy"))
    for task in Task:
        found.delete(f"{sweep_folder(task.value)}/{JUDGED}")
    return found


@pytest.mark.slow
@pytest.mark.parametrize("task", ALL)
def test_predicting_again_gives_the_leaderboards_score(swept: Store, task: Task):
    best = load_sweep(swept, task.value).best
    validation = collect(swept, task.value).validation
    assert best is not None
    assert validation is not None
    assert validation.score == pytest.approx(best.score, abs=1e-6)
    assert validation.model == best.model


@pytest.mark.slow
def test_predictions_are_kept_beside_the_sweep(copy: Store):
    first = validate(copy, load_sweep(copy, "au"))
    copy.delete("features")
    assert validate(copy, load_sweep(copy, "au")) == first


@pytest.mark.slow
@pytest.mark.parametrize(
    ("gone", "why"),
    [
        ("sweeps/va/trials", "it is missing"),
        ("features", "features/clip"),
        ("dataset/manifest.json", "dataset"),
    ],
)
def test_without_what_it_needs_the_reason_is_told(copy: Store, gone: str, why: str):
    copy.delete(gone)
    found = validate(copy, load_sweep(copy, "va"))
    assert isinstance(found, str)
    assert why in found


@pytest.mark.slow
def test_other_features_of_the_same_name_are_not_used(copy: Store):
    key = "features/clip/manifest.json"
    manifest = read_sealed(copy, key)
    write_sealed(copy, key, {**manifest, "notes": {"made": "again"}})
    found = validate(copy, load_sweep(copy, "va"))
    assert isinstance(found, str)
    assert "not those that this model was trained on" in found


@pytest.mark.slow
def test_a_damaged_model_is_no_end_of_the_report(copy: Store):
    best = load_sweep(copy, "va").best
    assert best is not None
    copy.write_bytes(f"sweeps/va/trials/{best.number:05d}/model.safetensors", b"nonsense")
    data = collect(copy, "va")
    assert data.validation is None
    assert "model.safetensors is damaged" in data.not_validated
