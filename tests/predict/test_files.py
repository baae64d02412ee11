"""Naming models as users do, and predicting with them: splits, example files, folders of crops."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from raffect.affwild2.labels import load_labels
from raffect.affwild2.predictions import read_predictions
from raffect.affwild2.tasks import Task
from raffect.cli.app import run
from raffect.clip.encoder import load_encoder
from raffect.clip.encoding import encode_crops
from raffect.clip.layers import use_layer
from raffect.config import ExtractConfig
from raffect.errors import ConflictError, DataError, NotThereError, SettingsError
from raffect.predict.files import predict_to_file
from raffect.predict.models import resolve, resolve_members
from raffect.store import Store, encoder_folder
from raffect.store.manifest import make_manifest, read_manifest, write_manifest
from raffect.sweep.records import model_files
from raffect.sweep.settings import SweepSettings
from raffect.sweep.tune import tune
from raffect.temporal.ensembling import make_ensemble
from raffect.temporal.inference import load_bundle, predict_features
from raffect.temporal.train import train
from tests.builders import RawTree, jpeg
from tests.predict.stores import fill_with_encoder, write_made
from tests.sweep import tiny


@pytest.fixture
def trained(store: Store) -> Store:
    tiny.fill(store)
    train(store, tiny.base(optimiser__epochs=1), "clip", "mine")
    return store


def test_a_model_is_found_by_its_name(trained: Store):
    assert resolve(trained, "mine") == resolve(trained, "models/mine")
    assert resolve(trained, "mine").folder == "models/mine"


@pytest.mark.parametrize("name", ["other", "models/other", "sweeps/other", "other:3"])
def test_what_is_not_there_is_said(trained: Store, name: str):
    with pytest.raises(NotThereError):
        predict_to_file(trained, name, Path("x.csv"), split="validation")


@pytest.mark.ray
def test_a_sweeps_trials_are_found_by_number(trained: Store, ray_local: None, tmp_path: Path):
    base = tiny.base(optimiser__epochs=1)
    view = tune(trained, Task.VA, "clip", "mine", SweepSettings(trials=2), base)
    best = view.rows[0].number
    assert resolve(trained, "sweeps/mine").folder == f"sweeps/mine/trials/{best:05d}"
    assert resolve(trained, "mine:best").folder == f"sweeps/mine/trials/{best:05d}"
    assert resolve(trained, "mine:1").folder == "sweeps/mine/trials/00001"
    with pytest.raises(NotThereError, match="0, 1"):
        resolve(trained, "mine:7")
    with pytest.raises(SettingsError, match="a model and a sweep"):
        resolve(trained, "mine")
    members = [(f"mine:{row.number}", model_files(trained, row)) for row in view.rows]
    assert resolve_members(trained, ["sweeps/mine"]) == members
    assert resolve_members(trained, ["sweeps/mine"], 1) == members[:1]
    named = ["models/mine", "mine:1"]
    found = resolve_members(trained, named)
    assert found == [(name, resolve(trained, name)) for name in named]
    with pytest.raises(SettingsError, match="has 2 trials with a model and a score, not 3"):
        resolve_members(trained, ["sweeps/mine"], 3)
    with pytest.raises(SettingsError, match="of one sweep"):
        resolve_members(trained, ["mine:1"], 2)


@pytest.mark.parametrize(
    "sources",
    [{}, {"split": "validation", "frames": Path()}, {"frames": Path(), "example": Path()}],
)
def test_exactly_one_source_is_taken(trained: Store, sources: dict):
    with pytest.raises(SettingsError, match="one of"):
        predict_to_file(trained, "mine", Path("x.csv"), **sources)


def test_a_split_is_predicted_frame_by_frame(trained: Store, tmp_path: Path):
    done = predict_to_file(trained, "mine", tmp_path / "va.csv", split="validation")
    found = read_predictions(tmp_path / "va.csv", Task.VA)
    assert done.frames == sum(len(video.frames) for video in found.values()) == 120


@pytest.mark.parametrize("number", [1, 2])
def test_a_folds_model_predicts_its_fold_and_evaluate_scores_the_same_videos(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str], number: int
):
    """Against an annotation tree, by the commands: as users check a reported score."""
    tiny.fill(store)
    tree = RawTree(tmp_path / "raw")
    for task in Task:
        for name, of in load_labels(store, task).items():
            rows = [",".join(f"{value:.9g}" for value in row) for row in of.values]
            tree.annotate(task, of.split, name, rows)
    fold = ["--fold", f"{number}/2"]
    where = ["--store", store.uri]
    sets = [word for key, value in tiny.SIZES.items() for word in ("--set", f"{key}={value}")]
    sets = [word.replace("(8,)", "[8]") for word in sets]
    assert run(["train", "va", *fold, *sets, "--set", "optimiser.epochs=1", *where]) == 0
    manifest = read_manifest(store, "models/va")
    assert manifest.config["fold"] == f"{number}/2"
    out = str(tmp_path / "va.csv")
    assert run(["predict", "va", "--split", "validation", "--out", out, *where]) == 0
    capsys.readouterr()
    scored = ["evaluate", "va", out, "--annotations", str(tree.annotations), "--json"]
    assert run([*scored, *fold]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["score"] == pytest.approx(manifest.counts["score"], abs=1e-6)
    assert found["videos"] == 3
    # The official validation videos v4 and v5 are not all in one fold.
    assert run(scored) == 2
    assert "--fold i/k" in capsys.readouterr().err


def test_an_example_file_says_how_long_its_videos_are(trained: Store, tmp_path: Path):
    rows = "".join(f"v0/{n:05d}.jpg,\n" for n in range(1, 71))
    (tmp_path / "example.txt").write_text("image_location,valence,arousal\n" + rows)
    out = tmp_path / "test.csv"
    assert predict_to_file(trained, "mine", out, example=tmp_path / "example.txt").frames == 70
    assert read_predictions(out, Task.VA)["v0"].frames[-1] == 70


def test_an_example_of_unknown_videos_is_refused(trained: Store, tmp_path: Path):
    (tmp_path / "example.txt").write_text("image_location,valence,arousal\nw/00001.jpg,\n")
    with pytest.raises(NotThereError, match="1 of 1 videos: w"):
        predict_to_file(trained, "mine", tmp_path / "x", example=tmp_path / "example.txt")


@pytest.fixture
def crops(tmp_path: Path) -> Path:
    folder = tmp_path / "someone"
    folder.mkdir()
    for frame in (2, 3, 6):
        (folder / f"{frame:05d}.jpg").write_bytes(jpeg(frame))
    (folder / "00004.jpg").write_bytes(b"cut")
    return folder


@pytest.fixture
def with_encoder(store: Store) -> Store:
    """A model on features that a real encoder of the store could have made."""
    return fill_with_encoder(store)


def test_a_folder_of_crops_is_predicted_up_to_its_last_crop(
    with_encoder: Store, crops: Path, tmp_path: Path
):
    done = predict_to_file(with_encoder, "mine", tmp_path / "x.csv", frames=crops)
    found = read_predictions(tmp_path / "x.csv", Task.VA)
    assert list(found["someone"].frames) == [1, 2, 3, 4, 5, 6]
    assert np.abs(found["someone"].values).max() <= 1
    assert len(done.skipped) == 1
    assert done.skipped[0].startswith("00004.jpg")


def test_crops_are_encoded_as_the_models_features_were(store: Store, crops: Path, tmp_path: Path):
    settings = {"layer": "penultimate", "dtype": "float32"}
    fill_with_encoder(store, 256, **settings)
    predict_to_file(store, "mine", tmp_path / "x.csv", frames=crops)
    encoder = use_layer(load_encoder(store, "clip"), "penultimate")
    frames = [2, 3, 6]
    data = [jpeg(frame) for frame in frames]
    features = encode_crops(encoder, data, ExtractConfig(**settings))
    assert features.dtype == np.float32
    bundle = load_bundle(store, "models/mine")
    expected = predict_features(bundle, features, np.array(frames), 6)
    found = read_predictions(tmp_path / "x.csv", Task.VA)["someone"].values
    np.testing.assert_allclose(found, expected, atol=1e-6)
    rounded = predict_features(bundle, features.astype(np.float16), np.array(frames), 6)
    assert np.abs(rounded - expected).max() > 1e-6


def test_crops_are_encoded_once_for_each_set_of_features(
    with_encoder: Store, crops: Path, tmp_path: Path
):
    settings = {"layer": "penultimate", "dtype": "float32"}
    write_made(with_encoder, "deep", 256, **settings)
    config = tiny.base(optimiser__epochs=1, model__input="zscore")
    train(with_encoder, config, ["clip", "deep"], "both")
    done = predict_to_file(with_encoder, "both", tmp_path / "x.csv", frames=crops)
    assert len(done.skipped) == 1
    encoder = load_encoder(with_encoder, "clip")
    frames = [2, 3, 6]
    data = [jpeg(frame) for frame in frames]
    shallow = encode_crops(encoder, data, ExtractConfig())
    deep = encode_crops(use_layer(encoder, "penultimate"), data, ExtractConfig(**settings))
    bundle = load_bundle(with_encoder, "models/both")
    features = np.concatenate([shallow, deep], axis=1)
    expected = predict_features(bundle, features, np.array(frames), 6)
    found = read_predictions(tmp_path / "x.csv", Task.VA)["someone"].values
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_an_ensemble_predicts_a_folder_and_encodes_it_once(
    with_encoder: Store, crops: Path, tmp_path: Path
):
    train(with_encoder, tiny.base(optimiser__epochs=1, run__seed=1), "clip", "other")
    names = ["mine", "other"]
    members = [(name, f"models/{name}") for name in names]
    make_ensemble(with_encoder, "both", members, "mean")
    found, read, skipped = [], [], []
    for name in (*names, "both"):
        done: list[int] = []
        out = tmp_path / f"{name}.csv"
        told = predict_to_file(
            with_encoder,
            name,
            out,
            frames=crops,
            progress=lambda of, _, done=done: done.append(of),
        )
        found.append(read_predictions(out, Task.VA)["someone"].values)
        read.append(done)
        skipped.append(told.skipped)
    np.testing.assert_allclose(found[2], (found[0] + found[1]) / 2, atol=1e-6)
    assert read[0] == read[2]
    assert skipped[0] == skipped[2]


def test_another_encoder_under_the_same_name_is_refused(
    with_encoder: Store, crops: Path, tmp_path: Path
):
    folder = encoder_folder("clip")
    write_manifest(with_encoder, folder, make_manifest("encoder", {"other": 1}, {}, []))
    with pytest.raises(ConflictError, match="not the one"):
        predict_to_file(with_encoder, "mine", tmp_path / "x.csv", frames=crops)


def test_a_folder_without_crops_is_refused(with_encoder: Store, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no crop"):
        predict_to_file(with_encoder, "mine", tmp_path / "x.csv", frames=tmp_path / "empty")
