"""A store that an older raffect left (tests/data/README.md): it opens, continues and reports.

By the commands and the stored files alone, so that it holds whatever moves inside.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from raffect.cli.app import run

pytestmark = [pytest.mark.slow, pytest.mark.ray]

DATA = Path(__file__).parent / "data"
# The options of make_old_store.sh, which belong to what the names are bound to.
SMALL = [
    "--set", "segments.window=16", "--set", "segments.stride=12",
    "--set", "model.tcn.depth=1", "--set", "model.tcn.channels=[8]",
    "--set", "model.tcn.kernel=3", "--set", "model.width=8",
    "--set", "model.transformer.layers=1", "--set", "model.transformer.heads=2",
    "--set", "model.transformer.feedforward=16", "--set", "model.head_hidden=8",
    "--set", "optimiser.lr=5e-3", "--set", "optimiser.batch_size=4",
    "--set", "optimiser.epochs=6", "--set", "run.device=cpu",
]  # fmt: skip
TUNE = [
    "tune", "va", *SMALL,
    "--space", str(DATA / "old_store_space.py"), "--concurrent", "1", "--min-epochs", "2",
]  # fmt: skip
TOWER = [
    "finetune", "--model", "raffect-tiny", "--pretrained", "tower.safetensors",
    "--set", "encoder.head_dropout=0.99999999", "--set", "weight_decay=0",
    "--set", "layer_decay=1", "--set", "batch_size=32",
]  # fmt: skip
BRANCH = [*TUNE, "--branch", "branched", "--sampler", "random", "--seed", "1"]
SWEEPS = ("va", "branched", "killed")
VIDEO = "10-30-1280x720-1"
"""Its predictions from crops are in crops.csv."""
SEEDS = {("2", "0"): 0.07141109939671564, ("2", "1"): 0.010452327719918447}
"""Scores that `retrain` found, by trial and seed."""
HELD_EPOCHS = 3
"""Of trial 1 of the killed sweep, in its checkpoint; its study knows of one less."""
LEASE_S = 30
"""A lease of another machine is waited for that long."""


def unpack(folder: Path) -> Path:
    with tarfile.open(DATA / "store-0.1.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the old store, in which commands are given."""
    monkeypatch.chdir(unpack(tmp_path))
    return tmp_path


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Any:
    """Give a command of the old store; returns what it said."""

    def give(*words: str, code: int = 0) -> str:
        capsys.readouterr()
        got = run([*words, "--store", "store"])
        said = capsys.readouterr()
        assert got == code, said.out + said.err
        return said.out if code == 0 else said.err

    return give


@pytest.fixture(scope="module", autouse=True)
def going_on(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Any]]:
    """The killed sweep's command, given again: first it waits for the lease of the dead one."""
    folder = unpack(tmp_path_factory.mktemp("going-on"))
    words = [*TUNE, "--name", "killed", "--trials", "4", "--track", "none", "--store", "store"]
    process = subprocess.Popen(
        [sys.executable, "-m", "raffect", *words],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    yield folder, process
    process.kill()
    process.communicate()


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def golden(folder: Path, sweep: str) -> list[dict[str, Any]]:
    """What `trials SWEEP --json` printed when the store was made."""
    rows: list[dict[str, Any]] = read(folder / f"trials-{sweep}.json")
    return rows


def only(rows: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those rows that are wanted, by number; keys that are new are left out."""
    found = {row["number"]: row for row in rows}
    return [{key: found[old["number"]][key] for key in old} for old in wanted]


def files_of(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def seconds(history: list[dict[str, Any]]) -> list[float]:
    """What an epoch that is trained again has otherwise."""
    return [epoch["seconds"] for epoch in history]


def test_the_dataset_verifies(old: Path, say: Any) -> None:
    counts = json.loads(say("check", "--json"))
    assert counts["crops"] == {"readable": 145, "unreadable": []}
    assert counts["labels"]["va"]["validation"]["valid"] == 42


def test_the_sweeps_are_listed(old: Path, say: Any) -> None:
    found = {sweep["name"]: sweep for sweep in json.loads(say("trials", "--json"))}
    assert set(found) == set(SWEEPS)
    assert found["va"]["trials"] == {"COMPLETE": 3, "PRUNED": 1}
    assert found["killed"]["trials"] == {"COMPLETE": 1, "RUNNING": 1}
    assert {name: sweep["best"] for name, sweep in found.items()} == {
        name: max(row["score"] for row in golden(old, name) if row["state"] != "RUNNING")
        for name in SWEEPS
    }
    assert all(name in say("trials") for name in SWEEPS)
    assert "Different" not in say("trials", *SWEEPS)


@pytest.mark.parametrize("sweep", SWEEPS)
def test_a_leaderboard_is_what_it_was(old: Path, say: Any, sweep: str) -> None:
    wanted = golden(old, sweep)
    found = json.loads(say("trials", sweep, "--json"))
    assert [row["number"] for row in found] == [row["number"] for row in wanted]
    assert only(found, wanted) == wanted
    shown = say("trials", sweep)
    assert all(f"{row['score']:.4f}" in shown for row in wanted)
    assert ("Trial 2 over 2 seeds" in shown) == (sweep == "va")
    assert ("(va:2)" in shown) == (sweep == "branched")


@pytest.mark.parametrize(
    "model",
    ["models/va", "models/va-2-seed1", "va:best", "va:3", "branched", "branched:0", "killed:0"],
)
def test_a_model_predicts_its_score(old: Path, say: Any, model: str) -> None:
    say("predict", model, "--split", "validation", "--out", "out.csv")
    words = ["evaluate", "va", "out.csv", "--annotations", "annotations", "--json"]
    found = json.loads(say(*words))["score"]
    if model.startswith("models/"):
        wanted = read(old / "store" / model / "metrics.json")["score"]
    else:
        sweep, _, number = model.partition(":")
        rows = golden(old, sweep)
        best = max(rows, key=lambda row: row["score"] if row["state"] == "COMPLETE" else -1)
        row = next((row for row in rows if str(row["number"]) == number), best)
        wanted = row["score"]
    assert found == pytest.approx(wanted, abs=1e-6)


def test_the_encoder_sees_what_it_saw(old: Path, say: Any) -> None:
    """The crops of a folder go through the encoder and the model that was trained on it."""
    (shard,) = (old / "store/dataset/frames").glob("*.parquet")
    rows = pq.read_table(shard, columns=["video", "frame", "jpeg"]).to_pylist()
    crops = old / VIDEO
    crops.mkdir()
    for row in rows:
        if row["video"] == VIDEO:
            (crops / f"{row['frame']:05d}.jpg").write_bytes(row["jpeg"])
    say("predict", "sweeps/va", "--frames", str(crops), "--out", "new.csv")
    found, wanted = predictions(old / "new.csv"), predictions(old / "crops.csv")
    assert list(found) == list(wanted)
    for place, values in wanted.items():
        assert found[place] == pytest.approx(values, abs=1e-3)


def predictions(path: Path) -> dict[str, list[float]]:
    with path.open(newline="") as file:
        _, *rows = csv.reader(file)
    return {place: [float(value) for value in values] for place, *values in rows}


def test_what_is_finished_is_known_again(old: Path, say: Any) -> None:
    before = files_of(old / "store")
    say(*TOWER, "--set", "epochs=2")
    say("extract")
    say("train", "va", *SMALL)
    say(*TUNE, "--trials", "4")
    say(*BRANCH, "--trials", "2", "--track", "none")
    assert files_of(old / "store") == before
    assert "optimiser.lr: 0.005 -> 0.1" in say(
        "train", "va", *SMALL, "--set", "optimiser.lr=0.1", code=2
    )
    refused = say(*TUNE, "--trials", "5", "--reduction-factor", "2", code=2)
    assert "sweep.reduction_factor: 3 -> 2" in refused
    assert files_of(old / "store") == before


@pytest.mark.long
def test_a_sweep_is_extended(ray_local: None, old: Path, say: Any) -> None:
    wanted = golden(old, "va")
    models = {name: files_of(old / f"store/sweeps/va/trials/{name}") for name in numbers(4)}
    say(*TUNE, "--trials", "5")
    found = json.loads(say("trials", "va", "--json"))
    assert only(found, wanted) == wanted
    (new,) = [row for row in found if row["number"] == 4]
    assert len(found) == 5
    assert new["state"] in ("COMPLETE", "PRUNED")
    assert new["params"] not in [row["params"] for row in wanted]
    manifest = read(old / "store/sweeps/va/manifest.json")
    assert manifest["counts"]["trials"] == 5
    assert sum("trials/" in file["name"] for file in manifest["files"]) == 3 * 4 + 4
    for name, files in models.items():
        assert files_of(old / f"store/sweeps/va/trials/{name}") == files


def numbers(count: int) -> list[str]:
    return [f"{number:05d}" for number in range(count)]


@pytest.mark.long
def test_a_new_sweep_takes_the_old_trials_over(ray_local: None, old: Path, say: Any) -> None:
    say(*TUNE, "--branch", "new", "--trials", "1", "--seed", "2", "--track", "none")
    shown = say("trials", "new")
    assert all(f"(va:{number})" in shown for number in range(4))
    assert len(json.loads(say("trials", "new", "--json"))) == 5


@pytest.mark.long
def test_seeds_are_not_trained_again(ray_local: None, old: Path, say: Any) -> None:
    before = files_of(old / "store/models")
    found = json.loads(say("retrain", "va", "--seeds", "2", "--json"))
    assert files_of(old / "store/models") == before
    assert found["trial"] == 2
    assert [(one["seed"], one["model"], one["same"]) for one in found["seeds"]] == [
        (0, "va-2-seed0", True),
        (1, "va-2-seed1", None),
    ]
    for one in found["seeds"]:
        assert one["score"] == read(old / f"store/models/{one['model']}/metrics.json")["score"]


def test_a_report_shows_the_old_seeds(old: Path, say: Any) -> None:
    say("report", "va", "--csv", "tables")
    with (old / "tables/seeds.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["trial"], row["seed"]): float(row["score"]) for row in rows} == SEEDS


@pytest.mark.parametrize("sweep", SWEEPS)
def test_a_report_shows_the_old_trials(old: Path, say: Any, sweep: str) -> None:
    say("report", sweep, "--csv", "tables")
    page = (old / f"store/sweeps/{sweep}/report.html").read_text()
    wanted = golden(old, sweep)
    assert page.lower().startswith("<!doctype html>")
    assert all(f"{row['score']:.4f}" in page for row in wanted if row["state"] == "COMPLETE")
    with (old / "tables/trials.csv").open(newline="") as file:
        rows = {int(row["trial"]): row for row in csv.DictReader(file)}
    assert {number: row["state"] for number, row in rows.items()} == {
        row["number"]: row["state"] for row in wanted
    }
    for row in wanted:
        assert float(rows[row["number"]]["score"]) == pytest.approx(row["score"], abs=1e-6)


@pytest.mark.long
def test_killed_fine_tuning_goes_on(ray_local: None, old: Path, say: Any) -> None:
    encoder = old / "store/encoders/killed"
    (state,) = encoder.glob("train/*/state.json")
    before = read(state)["history"]
    say(*TOWER, "--name", "killed", "--set", "epochs=3")
    history = read(encoder / "metrics.json")["history"]
    assert [epoch["epoch"] for epoch in before] == [1]
    assert [epoch["epoch"] for epoch in history] == [1, 2, 3]
    assert history[:1] == before
    assert not (encoder / "train").exists()


@pytest.mark.long
def test_a_killed_sweep_goes_on(going_on: tuple[Path, Any], tmp_path: Path) -> None:
    folder, process = going_on
    said, _ = process.communicate(timeout=LEASE_S + 300)
    assert process.returncode == 0, said
    assert "on raffect-old may still be at this sweep" in " ".join(said.split())
    checkpoint = unpack(tmp_path) / "store/sweeps/killed/trials/00001/checkpoint"
    held = read(checkpoint / f"epoch-{HELD_EPOCHS:05d}/state.json")["history"]
    assert len(held) == HELD_EPOCHS

    trials = folder / "store/sweeps/killed/trials"
    history = read(trials / "00001/metrics.json")["history"]
    assert [epoch["epoch"] for epoch in history] == [1, 2, 3, 4, 5, 6]
    assert seconds(history)[:HELD_EPOCHS] == seconds(held)
    listed = subprocess.run(
        [sys.executable, "-m", "raffect", "trials", "killed", "--json", "--store", "store"],
        cwd=folder,
        capture_output=True,
        check=True,
    )
    rows = json.loads(listed.stdout)
    assert sorted(row["number"] for row in rows) == [0, 1, 2, 3]
    assert {row["state"] for row in rows} <= {"COMPLETE", "PRUNED"}
    first, interrupted = golden(folder, "killed")
    assert only(rows, [first]) == [first]
    assert next(row["params"] for row in rows if row["number"] == 1) == interrupted["params"]
    left = {path.name for path in trials.rglob("*") if path.is_file()}
    assert left == {"model.safetensors", "config.json", "metrics.json", "sums.parquet"}
