"""raffect from Python: the same numbers, names and errors as the commands', without Ray."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import raffect
from raffect.affwild2.evaluation import evaluate as evaluate_files
from raffect.affwild2.folds import load_fold
from raffect.affwild2.predictions import VideoPredictions, read_predictions
from raffect.affwild2.tasks import Split, Task
from raffect.cli.app import run
from raffect.errors import DataError, NotThereError, SettingsError
from raffect.store import Store
from raffect.temporal.inference import load_bundle, predict_features
from raffect.temporal.train import train
from tests.builders import RawTree
from tests.cli.test_results import leave
from tests.sweep import tiny


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = tiny.fill(Store(str(tmp_path_factory.mktemp("api") / "store")))
    train(store, tiny.base(optimiser__epochs=2), "clip", "mine")
    return store


def test_what_is_offered_is_what_is_there() -> None:
    for name in raffect.__all__:
        assert getattr(raffect, name).__doc__, name
    assert set(raffect.__all__) < set(dir(raffect))
    with pytest.raises(AttributeError, match="nothing"):
        _ = raffect.nothing


def test_a_store_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotThereError, match="does not exist"):
        raffect.open_store(tmp_path / "none")


def test_an_empty_store_has_an_empty_table(store: Store) -> None:
    store.write_bytes("dataset/x", b"")
    opened = raffect.open_store(store.uri)
    assert opened.sweeps().empty
    assert (opened.models(), opened.features()) == ([], [])


def test_a_sweep_is_a_table_of_its_trials_as_the_command_tells_them(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    leave(store, "s", [0.1, 0.3, -1, 0.2])
    opened = raffect.open_store(store.uri)
    view = raffect.load_sweep(opened, "s")
    table = view.to_dataframe()
    assert run(["trials", "s", "--store", store.uri, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert list(table.index) == [one["number"] for one in told]
    for one in told:
        row = table.loc[one["number"]]
        assert (row["score"], row["state"]) == (one["score"], one["state"]) or one["score"] is None
        for key, value in one["params"].items():
            assert row[key] == value
    assert opened.sweeps().loc["s", "best"] == table["score"].max() == 0.3
    assert opened.sweeps().loc["s", "trials"] == 4
    curves = view.curves()
    for number, row in table.dropna(subset="score").iterrows():
        assert curves.loc[number]["score"].max() == row["score"]
        assert len(curves.loc[number]) == row["epochs"]


def test_a_model_predicts_a_split_as_the_command_does(trained: Store, tmp_path: Path) -> None:
    model = raffect.load_model(trained.uri, "mine")
    assert (model.task, model.columns) == ("va", ["valence", "arousal"])
    assert model.feature_dim == tiny.DIM
    table = model.predict(split="validation")
    out = tmp_path / "x.csv"
    words = ["predict", "mine", "--split", "validation", "--out", str(out)]
    assert run([*words, "--store", trained.uri]) == 0
    for video, of in read_predictions(out, Task.VA).items():
        np.testing.assert_allclose(table.loc[video].to_numpy(), of.values, atol=1e-6)
        assert list(table.loc[video].index) == of.frames.tolist()


def test_a_model_predicts_features(trained: Store) -> None:
    model = raffect.load_model(trained.uri, "mine")
    features = np.random.default_rng(0).normal(size=(50, tiny.DIM)).astype(np.float16)
    table = model.predict(features)
    expected = predict_features(
        load_bundle(trained, "models/mine"), features, np.arange(1, 51), 50
    )
    np.testing.assert_array_equal(table.to_numpy(), expected)
    assert table.index.tolist() == list(range(1, 51))
    gaps = model.predict(features[:3], numbers=[2, 5, 7])
    assert gaps.index.tolist() == list(range(1, 8))


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({}, SettingsError, "one of features, frames, split and video"),
        ({"features": np.zeros((2, 8)), "split": "train"}, SettingsError, "one of"),
        ({"features": np.zeros((2, 9))}, DataError, r"\(crops, 8\)"),
        ({"features": np.zeros((0, 8))}, DataError, "shape"),
        ({"features": np.zeros(8)}, DataError, "shape"),
        ({"features": np.full((2, 8), np.nan)}, DataError, "finite"),
        ({"features": np.zeros((2, 8)), "numbers": [2, 1]}, DataError, "ascending"),
        ({"features": np.zeros((2, 8)), "numbers": [0, 1]}, DataError, "from 1 on"),
        ({"features": np.zeros((2, 8)), "numbers": [1]}, DataError, "2 ascending"),
        ({"split": "test"}, SettingsError, "test"),
    ],
)
def test_what_can_t_be_predicted_is_one_message(
    trained: Store, given: dict, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        raffect.load_model(trained.uri, "mine").predict(**given)


def test_predictions_are_scored_from_a_table_or_a_file(trained: Store, tmp_path: Path) -> None:
    model = raffect.load_model(trained.uri, "mine")
    table = model.predict(split="validation")
    tree = RawTree(tmp_path)
    labels = load_fold(trained, Task.VA, None)
    held = {name: of for name, of in labels.items() if of.split is Split.VALIDATION}
    for name, of in held.items():
        rows = [f"{v},{a}" for v, a in of.values.tolist()]
        tree.annotate(Task.VA, Split.VALIDATION, name, rows)
    found = raffect.evaluate("va", table, tree.annotations)
    own = {name: VideoPredictions(name, np.arange(1, 61), table.loc[name].to_numpy())
           for name in held}  # fmt: skip
    assert found.score == pytest.approx(evaluate_files(Task.VA, own, held).score, abs=1e-6)
    assert found.score == pytest.approx(model.score, abs=1e-4)
    out = tmp_path / "x.csv"
    words = ["predict", "mine", "--split", "validation", "--out", str(out)]
    assert run([*words, "--store", trained.uri]) == 0
    assert raffect.evaluate("va", out, tree.annotations).score == pytest.approx(found.score)
    with pytest.raises(DataError, match="by video and frame"):
        raffect.evaluate("va", table.reset_index(drop=True), tree.annotations)
    with pytest.raises(DataError, match="a, b"):
        raffect.evaluate("va", pd.DataFrame({"a": [1], "b": [2]}), tree.annotations)


def test_wrong_settings_of_a_search_are_told_before_ray_starts(trained: Store) -> None:
    with pytest.raises(SettingsError, match=r"model\.tcn\.depth"):
        raffect.tune(trained.uri, "va", settings={"model.tcn.dpth": 2})
    with pytest.raises(SettingsError, match="--sampler"):
        raffect.tune(trained.uri, "va", sampler="bayes")


@pytest.mark.ray
def test_a_search_is_that_of_the_command(trained: Store, ray_local: None) -> None:
    small = {**tiny.SIZES, "optimiser.epochs": 1}
    view = raffect.tune(trained.uri, "va", name="api", settings=small, trials=2, concurrent=1)
    assert len(view.to_dataframe()) == 2
    model = raffect.load_model(trained.uri, "api")
    assert model.score == view.rows[0].score
    assert raffect.load_model(trained.uri, "api:1").task == "va"


def test_loading_and_predicting_start_no_ray(trained: Store) -> None:
    code = (
        "import sys, numpy as np, raffect; assert 'torch' not in sys.modules;"
        f"store = raffect.open_store({trained.uri!r}); store.sweeps();"
        f"model = raffect.load_model(store, 'mine'); model.predict(np.zeros((3, {tiny.DIM})));"
        "sys.exit('ray' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_type_checkers_are_told_the_same() -> None:
    stub = Path(str(raffect.__file__)).with_suffix(".pyi").read_text(encoding="utf-8")
    names: dict[str, list[str]] = {}
    exec(stub[stub.index("__all__") :], names)
    assert names["__all__"] == raffect.__all__
    assert all(f"import {name} as {name}\n" in stub for name in raffect.__all__)
