import json

import numpy as np
import pytest

from raffect.affwild2.evaluation import evaluate
from raffect.affwild2.labels import load_labels
from raffect.affwild2.predictions import read_predictions, write_predictions
from raffect.affwild2.tasks import Split, Task
from raffect.config import TemporalConfig, recipe
from raffect.context import Context
from raffect.errors import ConflictError, NotThereError, RaffectError, SettingsError
from raffect.settings import override
from raffect.store import read_manifest
from raffect.temporal.inference import load_bundle, predict_features, predict_split
from raffect.temporal.train import train
from tests.temporal.builders import DIM, fill, rewrite, small_config, small_videos, write_features


class InterruptedHereError(Exception):
    """Stands for a kill between two epochs."""


def interrupt_after(epochs):
    def on_epoch(result, total):
        if result.epoch == epochs:
            raise InterruptedHereError

    return on_epoch


@pytest.mark.parametrize(
    ("task", "changes"),
    [
        *((task, {}) for task in Task),
        (Task.VA, {"model__head": "batchnorm", "segments__predict_stride": 7}),
    ],
)
def test_predicting_again_gives_the_score_of_the_model(small_store, task, changes, tmp_path):
    manifest = train(small_store, small_config(task, **changes), "clip", "m")
    bundle = load_bundle(small_store, "models/m")
    path = tmp_path / "predictions.csv"
    write_predictions(path, task, predict_split(small_store, bundle, Split.VALIDATION))
    labels = {
        name: of
        for name, of in load_labels(small_store, task).items()
        if of.split is Split.VALIDATION
    }
    result = evaluate(task, read_predictions(path, task), labels)
    assert result.score == pytest.approx(manifest.counts["score"], abs=1e-8)
    assert result.frames == sum(int(of.valid.sum()) for of in labels.values())


def test_the_model_is_whole_and_nothing_else_is_left(small_store):
    seen = []
    manifest = train(
        small_store,
        small_config(Task.VA),
        "clip",
        "m",
        on_epoch=lambda result, total: seen.append((result.epoch, total)),
    )
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert read_manifest(small_store, "models/m") == manifest
    assert [entry.name for entry in manifest.files] == [
        "config.json",
        "metrics.json",
        "model.safetensors",
        "sums.parquet",
    ]
    assert set(manifest.sources) == {"dataset", "features/clip"}
    kept = {key.removeprefix("models/m/") for key in small_store.files("models/m")}
    assert kept == {*(e.name for e in manifest.files), "manifest.json", "plan.json"}


def test_a_class_without_a_training_frame_is_said_once_and_kept_on_record(store):
    videos = small_videos()
    for video in videos:
        own = video.labels[Task.EXPR]
        own.values[(own.values == 7) & video.name.startswith("train")] = 0
    fill(store, videos)
    said = []
    for _ in range(2):
        context = Context(on_note=said.append)
        manifest = train(store, small_config(Task.EXPR), "clip", "m", context=context)
    assert said == manifest.notes["absent"]
    assert len(said) == 1
    assert said[0].startswith("No training frame is labelled Other:")
    assert "absent" not in train(store, small_config(Task.VA), "clip", "va").notes


def test_given_again_after_it_finished_it_does_nothing(small_store):
    first = train(small_store, small_config(Task.VA), "clip", "m")
    again = train(
        small_store,
        small_config(Task.VA),
        "clip",
        "m",
        on_epoch=lambda *_: pytest.fail("trained again"),
    )
    assert again == first


def test_an_interrupted_run_continues_to_the_same_model(small_store):
    config = small_config(Task.EXPR)
    train(small_store, config, "clip", "whole")
    with pytest.raises(InterruptedHereError):
        train(small_store, config, "clip", "m", on_epoch=interrupt_after(2))
    with pytest.raises(NotThereError):
        load_bundle(small_store, "models/m")
    seen = []
    train(small_store, config, "clip", "m", on_epoch=lambda r, total: seen.append(r.epoch))
    assert seen == [3, 4]
    weights = [small_store.read_bytes(f"models/{m}/model.safetensors") for m in ("whole", "m")]
    assert weights[0] == weights[1]


def test_other_settings_under_the_same_name_are_refused(small_store):
    train(small_store, small_config(Task.VA), "clip", "m")
    other = small_config(Task.VA, model__width=16)
    with pytest.raises(ConflictError, match=r"model\.width: 8 -> 16"):
        train(small_store, other, "clip", "m")
    assert (
        train(small_store, other, "clip", "m", context=Context(overwrite=True)).config["model"][
            "width"
        ]
        == 16
    )


def test_overwrite_trains_anew_what_is_finished_and_goes_on_with_what_is_begun(small_store):
    config, again = small_config(Task.VA), Context(overwrite=True)
    train(small_store, config, "clip", "m")
    first = small_store.read_bytes("models/m/model.safetensors")
    with pytest.raises(InterruptedHereError):
        train(small_store, config, "clip", "m", on_epoch=interrupt_after(2), context=again)
    with pytest.raises(NotThereError):
        read_manifest(small_store, "models/m")
    seen = []
    tell = lambda result, total: seen.append(result.epoch)  # noqa: E731
    train(small_store, config, "clip", "m", on_epoch=tell, context=again)
    assert seen == [3, 4]
    assert small_store.read_bytes("models/m/model.safetensors") == first


def test_a_run_that_diverges_says_so_and_frees_its_name(small_store):
    broken = small_config(Task.VA, optimiser__lr=1e30)
    with pytest.raises(RaffectError, match=r"diverged.*\n.*\n.*optimiser\.lr"):
        train(small_store, broken, "clip", "m")
    train(small_store, small_config(Task.VA), "clip", "m")


def test_a_mistake_leaves_nothing_behind(small_store):
    with pytest.raises(SettingsError, match="heads"):
        train(small_store, small_config(Task.VA, model__transformer__heads=3), "clip", "m")
    with pytest.raises(NotThereError, match="features/dino"):
        train(small_store, small_config(Task.VA), "dino", "m")
    assert small_store.files("models") == []


def test_a_bundle_knows_what_it_was_made_from(small_store):
    config = small_config(Task.VA)
    manifest = train(small_store, config, "clip", "m")
    bundle = load_bundle(small_store, "models/m")
    assert isinstance(bundle.config, TemporalConfig)
    assert bundle.config == config
    assert (bundle.features, bundle.feature_dim, bundle.manifest) == ("clip", DIM, manifest)
    assert bundle.lineage["encoder"] == "clip"
    assert bundle.metrics["best_epoch"] == manifest.counts["epoch"]
    assert bundle.metrics["parameters"] == manifest.counts["parameters"]
    assert not bundle.model.training


def test_a_trial_needs_no_manifest(small_store, tmp_path):
    train(small_store, small_config(Task.VA), "clip", "m")
    trial = "sweeps/va/trials/00003"
    for file in ("model.safetensors", "config.json", "metrics.json"):
        small_store.write_bytes(f"{trial}/{file}", small_store.read_bytes(f"models/m/{file}"))
    assert load_bundle(small_store, trial).manifest is None
    small_store.delete(f"{trial}/model.safetensors")
    with pytest.raises(NotThereError, match="holds no model"):
        load_bundle(small_store, trial)


def test_features_that_were_replaced_since_are_refused(small_store):
    train(small_store, small_config(Task.VA), "clip", "m")
    bundle = load_bundle(small_store, "models/m")
    digest = read_manifest(small_store, "dataset").digest()
    write_features(small_store, small_videos()[1:], "clip", digest)
    with pytest.raises(ConflictError, match="not those that this model"):
        predict_split(small_store, bundle, Split.VALIDATION)


def test_a_model_of_an_earlier_version_keeps_its_score(small_store):
    """Its config.json says nothing of how predictions are joined: evenly, as they were then."""
    config = small_config(Task.VA, segments__blend="mean")
    manifest = train(small_store, config, "clip", "m")
    described = json.loads(small_store.read_bytes("models/m/config.json"))
    del described["config"]["segments"]["blend"]
    rewrite(small_store, "models/m", "config.json", json.dumps(described).encode())
    bundle = load_bundle(small_store, "models/m")
    assert bundle.config == config
    found = predict_split(small_store, bundle, Split.VALIDATION)
    labels = load_labels(small_store, Task.VA)
    again = evaluate(
        Task.VA, {of.video: of for of in found}, {of.video: labels[of.video] for of in found}
    )
    assert again.score == pytest.approx(manifest.counts["score"], abs=1e-8)


def test_settings_that_nothing_depends_on_are_said(small_store):
    said = []
    config = small_config(Task.VA, losses__focal_gamma=2, losses__positive_weight_power=0.5)
    train(small_store, config, "clip", "m", context=Context(on_note=said.append))
    assert said == [
        "losses.positive_weight_power: nothing depends on it here, as no loss of au is used.",
        "losses.focal_gamma: nothing depends on it here, as no loss of expr is used.",
    ]
    said.clear()
    helped = override(config, {"losses.auxiliary.expr": 0.1, "losses.auxiliary.au": 0.1})
    train(small_store, helped, "clip", "helped", context=Context(on_note=said.append))
    assert said == []


def test_features_of_a_folder_give_the_predictions_of_the_split(small_store):
    train(small_store, small_config(Task.EXPR), "clip", "m")
    bundle = load_bundle(small_store, "models/m")
    expected = {p.video: p for p in predict_split(small_store, bundle, Split.VALIDATION)}
    for video in small_videos():
        if video.name in expected:
            lines = len(expected[video.name].frames)
            found = predict_features(bundle, video.features, video.frames, lines)
            np.testing.assert_allclose(found, expected[video.name].values, atol=1e-6)


def test_the_recipe_trains_on_small_data(small_store):
    """One epoch of the real model, on segments short enough for a test."""
    small = {"segments.window": 30, "segments.stride": 30, "optimiser.epochs": 1}
    manifest = train(small_store, override(recipe(Task.VA), small), "clip", "recipe")
    assert manifest.counts["parameters"] > 10_000_000
