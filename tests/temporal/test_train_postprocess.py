"""Models with post-processing: trained, predicted with, evaluated and continued."""

import json
from dataclasses import replace

import numpy as np
import pytest
import yaml

from raffect.affwild2.evaluation import evaluate
from raffect.affwild2.labels import load_labels
from raffect.affwild2.predictions import read_predictions
from raffect.affwild2.sums import VideoSums, score_sums
from raffect.affwild2.tasks import Split, Task
from raffect.cli.app import run
from raffect.config import TemporalConfig, recipe
from raffect.errors import SettingsError
from raffect.predict.files import predict_to_file
from raffect.settings import override
from raffect.store.layout import SUMS
from raffect.sweep.settings import SweepSettings
from raffect.sweep.tune import tune
from raffect.temporal.data import load_task_data
from raffect.temporal.epochs import EpochResult
from raffect.temporal.inference import load_bundle, predict_features, predict_split
from raffect.temporal.postprocess import CrossFitted, postprocess
from raffect.temporal.train import train
from raffect.temporal.training import Trainer
from tests.temporal.builders import NO_DROPOUT, fill, make_video, small_config, small_videos

FIT = {"postprocess": "fit", "optimiser__epochs": 3}


@pytest.fixture
def larger_store(store):
    """The small store, with subjects of one video and enough others to fit on."""
    more = [
        make_video(f"more-{name}", Split.VALIDATION, length, seed)
        for seed, (name, length) in enumerate([("0_left", 50), ("0_right", 40), ("1", 64)], 90)
    ]
    fill(store, [*small_videos(), *more])
    return store


def evaluated(store, task, path):
    labels = load_labels(store, task)
    own = {name: of for name, of in labels.items() if of.split is Split.VALIDATION}
    return evaluate(task, read_predictions(path, task), own).score


@pytest.mark.parametrize("task", list(Task))
def test_file_leaderboard_and_sums_have_the_same_score(larger_store, task, tmp_path):
    store, path = larger_store, tmp_path / "predictions.csv"
    train(store, small_config(task, **FIT), "clip", "m")
    metrics = store.read_json("models/m/metrics.json")
    predict_to_file(store, "m", path, split="validation")
    assert evaluated(store, task, path) == pytest.approx(metrics["score"], abs=1e-8)
    predict_to_file(store, "m", path, split="validation", raw=True)
    assert evaluated(store, task, path) == pytest.approx(metrics["raw"], abs=1e-8)
    assert metrics["history"][metrics["best_epoch"] - 1]["raw"] == metrics["raw"]
    sums = VideoSums.from_bytes(store.read_bytes(f"models/m/{SUMS}"))
    (whole,) = score_sums(task, np.ones((1, len(sums.videos)), int), sums.at(sums.epochs[-1]))
    assert whole == pytest.approx(metrics["score"], abs=1e-9)


def test_training_is_the_same_with_and_without(larger_store):
    plain = small_config(Task.EXPR, optimiser__epochs=3)
    train(larger_store, plain, "clip", "plain")
    train(larger_store, override(plain, {"postprocess": "fit"}), "clip", "fitted")
    before, after = (
        larger_store.read_json(f"models/{name}/metrics.json") for name in ("plain", "fitted")
    )
    assert not {"raw", "postprocess"} & set(before)
    assert [each["raw"] for each in before["history"]] == [None] * 3
    assert [each["raw"] for each in after["history"]] == [e["score"] for e in before["history"]]
    assert [each["loss"] for each in after["history"]] == [e["loss"] for e in before["history"]]
    assert "postprocess" not in plain.identity()
    old = {key: value for key, value in before["history"][0].items() if key != "raw"}
    assert EpochResult.read(old).raw is None


def test_each_video_has_the_values_that_were_fitted_on_others(larger_store):
    train(larger_store, small_config(Task.AU, **FIT), "clip", "m")
    bundle = load_bundle(larger_store, "models/m")
    fitted = bundle.postprocess
    assert isinstance(fitted, CrossFitted)
    names = {video.video for video in predict_split(larger_store, bundle, Split.VALIDATION)}
    assert set(fitted.groups[0]) | set(fitted.groups[1]) == names
    assert not set(fitted.groups[0]) & set(fitted.groups[1])
    assert any({"more-0_left", "more-0_right"} <= set(group) for group in fitted.groups)
    rng = np.random.default_rng(0)
    features, frames = rng.normal(size=(9, bundle.feature_dim)), np.arange(2, 11)
    # Values that differ in what they do to nine frames.
    thresholds = [np.full(12, 0.1 + 0.2 * i).tolist() for i in range(3)]
    values = [override(fitted.final, {"thresholds": of}) for of in thresholds]
    own = CrossFitted(groups=fitted.groups, applied=(values[0], values[1]), final=values[2])
    raw = predict_features(replace(bundle, postprocess=None), features, frames, 15)
    bundle = replace(bundle, postprocess=own)
    for video, chosen in ((fitted.groups[0][0], 0), (fitted.groups[1][0], 1), ("new", 2)):
        found = predict_features(bundle, features, frames, 15, video=video)
        expected = postprocess(Task.AU, values[chosen], raw, 10)
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(
        predict_features(bundle, features, frames, 15),
        postprocess(Task.AU, values[2], raw, 10),
    )


@pytest.mark.parametrize("task", list(Task))
def test_a_restored_run_goes_on_with_the_same_values(larger_store, task):
    data = load_task_data(larger_store, "clip", task)
    config = small_config(task, **FIT)
    whole, half = Trainer(config, data), Trainer(config, data)
    for _ in range(3):
        whole.run_epoch()
    half.run_epoch()
    half.run_epoch()
    restored = Trainer(config, data)
    restored.restore(half.save())
    assert restored.model_files()["metrics.json"] == half.model_files()["metrics.json"]
    restored.run_epoch()
    ends = [json.loads(one.model_files()["metrics.json"]) for one in (whole, restored)]
    for end in ends:
        for epoch in end["history"]:
            del epoch["seconds"]
    assert ends[0] == ends[1]


def test_too_few_videos_are_refused_before_anything_is_begun(small_store):
    before = set(small_store.files(""))
    config = small_config(Task.VA, **FIT)
    wanted = override(recipe(Task.VA), {"postprocess": "fit"})
    for command in (
        lambda: train(small_store, config, "clip", "m"),
        lambda: tune(small_store, Task.VA, "clip", "s", base=wanted),
    ):
        with pytest.raises(SettingsError, match="3 validation videos with valid VA") as caught:
            command()
        assert "at least 4" in str(caught.value)
    assert set(small_store.files("")) == before
    train(small_store, override(config, {"postprocess": "none"}), "clip", "m")


def test_other_values_of_the_setting_are_refused():
    with pytest.raises(SettingsError, match="postprocess"):
        override(TemporalConfig(task=Task.VA), {"postprocess": "smooth"})


def test_commands_say_both_scores_and_what_was_done(larger_store, tmp_path, capsys):
    path, out = tmp_path / "settings.yaml", tmp_path / "predictions.csv"
    path.write_text(yaml.safe_dump(small_config(Task.EXPR, optimiser__epochs=2).canonical()))
    at = ["--store", larger_store.uri]
    assert run(["train", "expr", "--postprocess", "fit", "--config", str(path), *at]) == 0
    metrics = larger_store.read_json("models/expr/metrics.json")
    told = " ".join(capsys.readouterr().out.split())
    assert f"validation: {metrics['score']:.4f}" in told
    assert f"Before post-processing: {metrics['raw']:.4f}." in told
    predict = ["predict", "expr", "--split", "validation", "--out", str(out), *at]
    assert run(predict) == 0
    assert "fitted on the other" in " ".join(capsys.readouterr().out.split())
    assert run([*predict, "--raw"]) == 0
    assert "Post-processing" not in capsys.readouterr().out


SPACE = """
def space(trial):
    return {"optimiser.lr": trial.suggest_float("optimiser.lr", 1e-3, 1e-1, log=True)}
"""


@pytest.mark.ray
def test_trials_are_judged_by_their_post_processed_score(ray_local, larger_store, tmp_path):
    (tmp_path / "space.py").write_text(SPACE)
    base = small_config(Task.AU, **FIT)
    settings = SweepSettings(
        space=str(tmp_path / "space.py"), trials=2, concurrent=1, min_epochs=1
    )
    view = tune(larger_store, Task.AU, "clip", "s", settings, base)
    for row in view.rows:
        path = tmp_path / f"{row.number}.csv"
        predict_to_file(larger_store, f"s:{row.number}", path, split="validation")
        assert evaluated(larger_store, Task.AU, path) == pytest.approx(row.score, abs=1e-8)
        assert row.curve[0].raw not in (None, row.curve[0].score)
        assert row.to_json()["raw"] == row.curve[row.best_epoch - 1].raw
    assert f"before it the best trial has {view.best.raw:.4f}" in " ".join(view.cautions)


@pytest.mark.ray
@pytest.mark.long
def test_two_workers_fit_what_one_does(ray_local, larger_store):
    # Each worker has masks of its own.
    config = small_config(Task.EXPR, **FIT, **NO_DROPOUT)
    train(larger_store, config, "clip", "one")
    train(larger_store, config, "clip", "two", workers=2)
    one, two = (larger_store.read_json(f"models/{name}/metrics.json") for name in ("one", "two"))
    assert two["score"] == pytest.approx(one["score"], abs=1e-6)
    assert two["raw"] == pytest.approx(one["raw"], abs=1e-6)
    assert two["postprocess"] == one["postprocess"]
