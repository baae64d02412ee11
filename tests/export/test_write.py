"""Exporting models of a store: folders that are whole, run without raffect, and tell no secret."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import ModelCard

from raffect.affwild2.predictions import read_predictions
from raffect.affwild2.tasks import Task
from raffect.cli.app import run
from raffect.config import EncoderConfig
from raffect.errors import ConflictError, DamagedError, DataError
from raffect.export.layout import FORMATS, MANIFEST, read_export
from raffect.export.write import describe_encoder, export
from raffect.predict.files import predict_to_file
from raffect.predict.models import resolve
from raffect.store import Store
from raffect.temporal.ensembling import make_ensemble
from raffect.temporal.train import train
from tests.export.made import draw_crops
from tests.predict.test_files import fill_with_encoder, write_made
from tests.sweep import tiny

REFUSES = """
import sys

class Refuses:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("raffect", "ray"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Refuses())
"""


@pytest.fixture
def filled(store: Store) -> Store:
    """An encoder, and the model `mine` of its features, with a Transformer and post-processing."""
    fill_with_encoder(store)
    changes = {"model__transformer__layers": 1, "model__input": "zscore"}
    train(store, tiny.base(optimiser__epochs=1, **changes), "clip", "other")
    return store


def make(store: Store, name: str, out: Path, *formats: str, overwrite: bool = False) -> Path:
    export(store, resolve(store, name), name, formats or FORMATS[:1], out, overwrite)
    return out


def run_alone(program: Path, crops: Path, out: Path, *words: str) -> np.ndarray:
    """What a program of an exported folder predicts in a process without raffect and Ray."""
    guard = out.parent / "guard"
    guard.mkdir(exist_ok=True)
    (guard / "sitecustomize.py").write_text(REFUSES)
    command = [sys.executable, str(program), str(crops), str(out), *words]
    environment = {**os.environ, "PYTHONPATH": str(guard), "PYTHONWARNINGS": "ignore"}
    probe = [sys.executable, "-c", "import raffect"]
    assert subprocess.run(probe, env=environment, capture_output=True).returncode
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=out.parent)
    assert done.returncode == 0, done.stderr
    (found,) = read_predictions(out, Task.VA).values()
    return found.values


def test_a_folder_runs_without_raffect_and_gives_its_numbers(filled: Store, tmp_path: Path):
    crops = draw_crops(tmp_path / "someone", [2, 3, *range(6, 60), 75])
    folder = make(filled, "other", tmp_path / "made")
    predict_to_file(filled, "other", tmp_path / "ours.csv", frames=crops)
    expected = read_predictions(tmp_path / "ours.csv", Task.VA)["someone"].values
    found = run_alone(folder / "run.py", crops, tmp_path / "theirs.csv")
    np.testing.assert_allclose(found, expected, atol=1e-5)
    lines = [(tmp_path / f"{who}.csv").read_text().splitlines() for who in ("ours", "theirs")]
    ours, theirs = ([line.split(",")[0] for line in of] for of in lines)
    assert ours == theirs


@pytest.mark.long
def test_every_format_of_an_ensemble_of_several_sets_gives_its_numbers(
    filled: Store, tmp_path: Path
):
    settings = {"layer": "penultimate", "dtype": "float32"}
    write_made(filled, "deep", 256, **settings)
    changes = {"model__input": "zscore", "model__transformer__layers": 2}
    train(filled, tiny.base(optimiser__epochs=1, **changes), ["clip", "deep"], "both")
    members = [(name, f"models/{name}") for name in ("mine", "both")]
    make_ensemble(filled, "pair", members, "mean")
    crops = draw_crops(tmp_path / "someone", [2, *range(6, 50)], size=64)
    folder = make(filled, "pair", tmp_path / "made", *FORMATS)
    predict_to_file(filled, "pair", tmp_path / "ours.csv", frames=crops)
    expected = read_predictions(tmp_path / "ours.csv", Task.VA)["someone"].values
    for program in ("run.py", "run_graphs.py", "run_graphs.py torchscript"):
        name, *words = program.split()
        found = run_alone(folder / name, crops, tmp_path / "theirs.csv", *words)
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_files_are_listed_with_their_digests_and_tell_nothing_of_this_machine(
    filled: Store, tmp_path: Path
):
    folder = make(filled, "other", tmp_path / "made", "folder", "torchscript")
    manifest = json.loads((folder / MANIFEST).read_text())
    names = {path.name for path in folder.iterdir()} - {MANIFEST}
    assert {entry["name"] for entry in manifest["files"]} == names
    secrets = [str(tmp_path), str(Path.cwd()), str(Path.home()) + "/", filled.uri, sys.prefix]
    for entry in manifest["files"]:
        data = (folder / entry["name"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == entry["sha256"]
        assert not [secret for secret in secrets if secret.encode() in data], entry["name"]
    assert not list(tmp_path.glob(".made*"))


@pytest.mark.long
def test_onnx_files_tell_nothing_of_this_machine(filled: Store, tmp_path: Path):
    folder = make(filled, "other", tmp_path / "made", "onnx")
    for file in folder.glob("*.onnx"):
        data = file.read_bytes()
        for secret in (str(tmp_path), str(Path.cwd()), sys.prefix, ".py"):
            assert secret.encode() not in data


def test_the_paths_of_pretrained_weights_stay_here():
    from raffect.clip.encoder import build_encoder

    encoder = build_encoder(EncoderConfig(model="raffect-tiny", pretrained=None))
    encoder.config = EncoderConfig(model="raffect-tiny", pretrained="/home/somebody/own.pt")
    told = describe_encoder(encoder, "encoder.safetensors").encoder
    assert told.pretrained == "own.pt"
    repository = "local-dir:/home/somebody/tower"
    encoder.config = EncoderConfig(model=repository, pretrained=repository)
    told = describe_encoder(encoder, "encoder.safetensors").encoder
    assert (told.model, told.pretrained) == ("local-dir:tower", "local-dir:tower")


def test_the_card_says_what_it_is(filled: Store, tmp_path: Path):
    folder = make(filled, "other", tmp_path / "made")
    card = ModelCard.load(folder / "README.md")
    assert card.data.library_name == "raffect"
    assert card.data.license == "other"
    (result,) = card.data.eval_results
    model = read_export(folder).model
    assert result.metric_value == pytest.approx(model.score, abs=1e-4)
    for text in (f"{model.score:.4f}", "Aff-Wild2", "`valence`", "agreement", "arXiv:2503.09929"):
        assert text in card.text


def test_a_model_of_imported_features_comes_without_an_encoder(filled: Store, tmp_path: Path):
    from raffect.store import features_folder, read_manifest
    from raffect.store.manifest import write_manifest

    folder = features_folder("clip")
    manifest = read_manifest(filled, folder)
    own = manifest.model_copy(update={"config": {"imported": "0" * 64, "dtype": "float16"}})
    write_manifest(filled, folder, own)
    train(filled, tiny.base(optimiser__epochs=1), "clip", "foreign")
    out = make(filled, "foreign", tmp_path / "made")
    assert {path.name for path in out.iterdir()} == {
        MANIFEST, "README.md", "config.json", "preprocessing.json", "postprocess.json",
        "model.safetensors", "temporal.py", "video.py",
    }  # fmt: skip
    assert "no encoder" in (out / "README.md").read_text()


def test_what_is_there_is_replaced_only_where_an_export_wrote_it(filled: Store, tmp_path: Path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("x")
    for overwrite in (False, True):
        with pytest.raises(ConflictError, match="no folder that"):
            make(filled, "mine", other, overwrite=overwrite)
    assert (other / "thesis.tex").exists()
    empty = tmp_path / "empty"
    empty.mkdir()
    folder = make(filled, "mine", empty)
    with pytest.raises(ConflictError, match="holds an exported model"):
        make(filled, "other", folder)
    assert read_export(folder).model.name == "mine"
    make(filled, "other", folder, overwrite=True)
    assert read_export(folder).model.name == "other"


def test_nothing_is_left_of_an_export_that_fails(filled: Store, tmp_path: Path):
    filled.write_bytes("models/mine/model.safetensors", b"cut")
    with pytest.raises(DamagedError):
        make(filled, "mine", tmp_path / "made")
    folder = make(filled, "other", tmp_path / "made")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    filled.delete("models/other/model.safetensors")
    with pytest.raises(DamagedError):
        make(filled, "other", tmp_path / "made", overwrite=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_where_nothing_can_be_written_is_said(filled: Store, tmp_path: Path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="can't be written"):
        make(filled, "mine", tmp_path / "file" / "made")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["mine", "--format", "pickle"], "folder, onnx, torchscript"),
        (["absent"], "holds no model"),
    ],
)
def test_wrong_words_are_one_message(
    filled: Store, tmp_path: Path, words: list[str], said: str, capsys: pytest.CaptureFixture
):
    command = ["export", *words, "--out", str(tmp_path / "made"), "--store", filled.uri]
    assert run(command) == 2
    error = capsys.readouterr().err
    assert error.startswith("Error: ")
    assert said in error
    assert not (tmp_path / "made").exists()
