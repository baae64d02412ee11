"""A user's mistake: one message with what was got, what is allowed and what to do; exit code 2."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from raffect.cli.app import run
from raffect.store import Store
from raffect.synthetic.tree import write_synthetic
from raffect.temporal.train import train
from raffect.testing.s3 import S3Server, environment, start_s3_server
from tests.builders import write_raw_tree
from tests.sweep import tiny

EXPR_TRAIN = "EXPR_Recognition_Challenge/Train_Set"
VA_TRAIN = "VA_Estimation_Challenge/Train_Set"


@dataclass
class Told:
    code: int
    message: str


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Callable[..., Told]:
    def call(*arguments: object) -> Told:
        code = run([str(argument) for argument in arguments])
        told = Told(code, capsys.readouterr().err)
        assert "Traceback" not in told.message
        return told

    return call


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return write_raw_tree(tmp_path / "raw")


def prepare(raw: Path, store: Path) -> list[object]:
    return ["prepare", "--images", raw / "images", "--annotations", raw / "annotations",
            "--store", store]  # fmt: skip


def first_annotation(raw: Path, folder: str) -> Path:
    return sorted((raw / "annotations" / folder).glob("*.txt"))[0]


@pytest.mark.parametrize(
    "command",
    [
        "check", "check --repair", "trials", "trials va", "trials va stop 1", "report va",
        "features", "features import . --name x", "extract", "train va", "tune va", "ablate va",
        "ensemble va", "retrain va", "enqueue va", "delete va",
        "predict models/va --split validation --out p.csv",
    ],
)  # fmt: skip
def test_a_store_that_does_not_exist(tell, tmp_path: Path, command: str):
    told = tell(*command.split(), "--store", tmp_path / "none")
    assert told.code == 2
    assert f"The store {tmp_path / 'none'} does not exist." in told.message
    assert "raffect prepare" in told.message
    assert not (tmp_path / "none").exists()
    tmp_path.joinpath("there").mkdir()
    assert "does not exist" not in tell(*command.split(), "--store", tmp_path / "there").message


@pytest.mark.parametrize(
    "command",
    [
        "tune va --stuck-minutes -1", "tune va --max-trial-minutes -1", "tune va --keep-models 0",
        "tune va --sampler best", "tune va --objective latency", "tune va --max-hours 0",
        "tune va --name a/b", "tune va --branch a/b", "train va --name a/b",
        "extract --name a/b", "finetune --name a/b", "ablate va --concurrent 0",
        "train va --set optimiser.lr=-1", "extract --set batch_size=0",
    ],
)  # fmt: skip
def test_settings_are_looked_at_before_anything_is_said(
    store: Store, capsys: pytest.CaptureFixture[str], command: str
):
    Path(store.uri).mkdir()
    assert run([*command.split(), "--store", store.uri]) == 2
    assert capsys.readouterr().out == ""
    assert store.names("") == []


@pytest.mark.parametrize("missing", ["images", "annotations"])
def test_a_missing_folder(tell, raw: Path, tmp_path: Path, missing: str):
    (raw / missing).rename(raw / "elsewhere")
    told = tell(*prepare(raw, tmp_path / "store"))
    assert told.code == 2
    assert str(raw / missing) in told.message
    assert "Next:" in told.message


@pytest.mark.parametrize("empty", ["images", "annotations"])
def test_an_empty_tree(tell, raw: Path, tmp_path: Path, empty: str):
    (raw / empty).rename(raw / "elsewhere")
    (raw / empty).mkdir()
    told = tell(*prepare(raw, tmp_path / "store"))
    assert told.code == 2
    assert str(raw / empty) in told.message


@pytest.mark.parametrize(
    ("folder", "old", "new", "words"),
    [
        (VA_TRAIN, "valence,arousal", "arousal,valence", ["valence,arousal"]),
        (EXPR_TRAIN, "Neutral,", "Calm,", ["Calm"]),
        (EXPR_TRAIN, "\n", "\n9\n", ["9", "line 2"]),
        (VA_TRAIN, "\n", "\nhappy,0.1\n", ["happy", "line 2"]),
    ],
)
def test_a_wrong_annotation(tell, raw: Path, tmp_path: Path, folder, old, new, words):
    path = first_annotation(raw, folder)
    path.write_text(path.read_text().replace(old, new, 1))
    told = tell(*prepare(raw, tmp_path / "store"))
    assert told.code == 2
    assert path.name in told.message
    assert "Allowed:" in told.message
    for word in words:
        assert word in told.message
    assert tell("check", "--store", tmp_path / "store").code == 2


@pytest.mark.parametrize(
    "command",
    [("train", "vad"), ("tune", "vad"), ("evaluate", "vad", "x.csv", "--annotations", ".")],
)
def test_an_unknown_task(tell, tmp_path: Path, command: tuple[str, ...]):
    store = [] if command[0] == "evaluate" else ["--store", tmp_path]
    told = tell(*command, *store)
    assert told.code == 2
    assert "'vad'" in told.message
    assert "va, expr, au" in told.message


@pytest.mark.parametrize("command", [("finetune",), ("train", "va"), ("tune", "va")])
@pytest.mark.parametrize(
    ("fold", "words"),
    [("6/5", ["'6/5'", "i from 1 to k"]), ("1/40", ["source videos are annotated", "smaller k"])],
)
def test_a_fold_that_does_not_divide(tell, store: Store, command, fold: str, words: list[str]):
    told = tell(*command, "--fold", fold, "--store", tiny.fill(store).uri)
    assert told.code == 2
    for word in words:
        assert word in told.message
    assert store.names("models") == store.names("sweeps") == store.names("encoders") == []


@pytest.mark.parametrize("command", ["train", "tune"])
@pytest.mark.parametrize("way", ["--set", "--config"])
def test_settings_of_another_task(tell, tmp_path: Path, command: str, way: str):
    file = tmp_path / "settings.yaml"
    file.write_text("task: au\n")
    what = "task=au" if way == "--set" else file
    told = tell(command, "va", way, what, "--store", tmp_path / "store")
    assert told.code == 2
    words = " ".join(told.message.split())
    assert f"`raffect {command} va` is for the task va; its settings say task = au." in words
    assert f"`raffect {command} au`" in words
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("option", ["--space", "--warm-start", "--branch"])
def test_what_belongs_to_one_task_is_refused_with_several(tell, tmp_path: Path, option: str):
    told = tell("tune", "va", "au", option, "other", "--store", tmp_path / "store")
    assert told.code == 2
    assert f"{option} with several tasks" in told.message
    assert not (tmp_path / "store").exists()


def test_infinite_options_of_a_sweep(tell, tmp_path: Path):
    options = ("--max-hours", "inf", "--max-latency-ms", "nan", "--gpus-per-trial", "inf")
    told = tell("tune", "va", *options, "--store", tmp_path / "store")
    assert told.code == 2
    for key in ("--max-hours", "--max-latency-ms", "--gpus-per-trial"):
        assert key in told.message
    assert "finite" in told.message


@pytest.mark.parametrize("command", [("train", "va"), ("tune", "va")])
def test_bad_settings_are_all_listed(tell, tmp_path: Path, command: tuple[str, ...]):
    told = tell(
        *command, "--store", tmp_path, "--set", "model.tcn.dept=4", "--set", "optimiser.lr=fast",
        "--set", "model.tcn.dropout=1.5",
    )  # fmt: skip
    assert told.code == 2
    for key in ("model.tcn.dept", "optimiser.lr", "model.tcn.dropout"):
        assert key in told.message


@pytest.mark.parametrize(
    ("command", "next_command"),
    [
        (("check",), "raffect prepare"),
        (("finetune", "--model", "raffect-tiny", "--pretrained", "none"), "raffect prepare"),
        (("extract",), "raffect"),
        (("train", "va"), "raffect extract"),
        (("tune", "va"), "raffect extract"),
        (("trials", "va"), "raffect tune"),
        (("report", "va"), "raffect tune"),
        (("predict", "va", "--split", "validation", "--out", "x.csv"), "raffect train"),
    ],
)
def test_a_store_that_was_never_prepared(tell, tmp_path: Path, command, next_command: str):
    (tmp_path / "store").mkdir()
    told = tell(*command, "--store", tmp_path / "store")
    assert told.code == 2
    assert str(tmp_path / "store") in told.message
    assert next_command in told.message
    assert Store(str(tmp_path / "store")).files("") == []


@pytest.mark.slow
def test_a_wrong_key(tell, raw: Path, s3_store: Store):
    with environment({"AWS_SECRET_ACCESS_KEY": "wrong"}):
        told = tell(*prepare(raw, s3_store.uri))
    assert told.code == 2
    assert "refuses access" in told.message
    assert s3_store.files("") == []


@pytest.mark.parametrize("typed", ["s3://raffect-none/crops/", "gs://b/crops", "s3:/b/crops"])
@pytest.mark.parametrize("option", ["--images", "--annotations", "--frames"])
def test_a_uri_is_told_as_it_was_typed(
    tell, raw: Path, store: Store, s3_environment, option: str, typed: str
):
    """pathlib makes `s3:/bucket` of `s3://bucket`."""
    if option == "--frames":
        tiny.fill(store)
        train(store, tiny.base(optimiser__epochs=1), "clip", "mine")
        told = tell("predict", "mine", option, typed, "--out", "x.csv", "--store", store.uri)
    else:
        options = {"--images": raw / "images", "--annotations": raw / "annotations", option: typed}
        told = tell("prepare", *itertools.chain(*options.items()), "--store", store.uri)
        assert store.files("") == []
    assert told.code == 2
    assert typed in told.message
    assert option in told.message
    assert "--store" not in told.message


@pytest.mark.slow
def test_a_server_that_is_down(tell, raw: Path):
    server: S3Server = start_s3_server()
    bucket = server.new_bucket()
    server.stop()
    with environment(server.environment()):
        told = tell(*prepare(raw, f"s3://{bucket}/x"))
    assert told.code == 2
    assert "does not answer" in told.message
    assert server.endpoint in told.message


@pytest.mark.slow
def test_no_cluster_at_the_address(raw: Path, tmp_path: Path):
    # In a process of its own: in this one Ray may have been started by another test.
    words = [*prepare(raw, tmp_path / "store"), "--address", "127.0.0.1:1"]
    done = subprocess.run(
        [sys.executable, "-m", "raffect", *map(str, words)], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "127.0.0.1:1" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_an_interruption_says_that_the_command_continues(raw: Path, tmp_path: Path):
    words = [sys.executable, "-m", "raffect", *map(str, prepare(raw, tmp_path / "store"))]
    command = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert command.stdout is not None
    command.stdout.readline()
    time.sleep(1)
    command.send_signal(signal.SIGINT)
    try:
        told = command.communicate(timeout=20)[1]
        assert "continues" in told
        assert "Traceback" not in told
    except subprocess.TimeoutExpired:
        # Ray can lose the first one; the second ends the command whatever it does.
        command.send_signal(signal.SIGINT)
        command.communicate(timeout=20)
    assert command.returncode == 130
    assert subprocess.run(words, capture_output=True).returncode == 0


def test_more_workers_than_cores(tell, tmp_path: Path):
    told = tell("finetune", "--workers", "1000", "--store", tmp_path / "store")
    assert told.code == 2
    assert "1000 workers" in told.message
    assert not (tmp_path / "store").exists()


def test_a_store_that_is_a_file(tell, tmp_path: Path):
    (tmp_path / "file").write_text("x")
    assert tell("trials", "--store", tmp_path / "file").code == 2


def test_predict_needs_to_know_what(tell, tmp_path: Path):
    told = tell("predict", "va", "--out", tmp_path / "x.csv", "--store", tmp_path)
    assert told.code == 2
    assert "--split" in told.message


def test_a_demo_of_too_few_videos(tell, tmp_path: Path):
    told = tell("demo", "--videos", "3", "--keep", tmp_path / "demo")
    assert told.code == 2
    assert "3 videos" in told.message
    assert "at least 6" in told.message
    assert not (tmp_path / "demo").exists()


def test_a_demo_of_another_size_is_told_what_to_do(tell, tmp_path: Path):
    keep = tmp_path / "demo"
    write_synthetic(keep / "raw", videos=6, frames=16, seed=0)
    told = tell("demo", "--videos", "8", "--keep", keep)
    assert told.code == 2
    assert "videos 6 (asked: 8)" in told.message
    assert "Give another folder, with --keep DIR" in told.message


def test_a_demo_never_advises_to_delete_what_is_not_its_own(tell, tmp_path: Path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "thesis.txt").write_text("mine")
    told = tell("demo", "--keep", tmp_path)
    assert told.code == 2
    assert "not a synthetic tree" in told.message
    assert "delete" not in told.message
    assert (tmp_path / "raw" / "thesis.txt").read_text() == "mine"


def test_an_unknown_option_is_the_users_mistake(tell):
    assert tell("check", "--nonsense").code == 2
