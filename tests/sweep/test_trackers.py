"""Real trackers by their own clients: event files, MLflow in SQLite, W&B off line."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from raffect.store import Store
from raffect.sweep.tracker_clients import epochs_after, parameters
from raffect.sweep.trackers import make_callbacks
from tests.sweep.tracked_runs import SCORES, Driver, events, history, plan, sweep


@pytest.mark.ray
def test_tensorboard_shows_every_epoch_of_a_real_run(
    ray_local: None, planned: Store, tmp_path: Path, told: list[str]
) -> None:
    callbacks = make_callbacks(["tensorboard"], planned, "s", "va", told.append)
    assert sweep(callbacks, tmp_path / "tune") == {0: None, 1: None, 2: None}
    assert told == []
    for number, scores in SCORES.items():
        found = events(planned, number)
        assert found["score"] == list(enumerate(scores, start=1))
        assert [value for _, value in found["best"]] == [
            max(scores[:i]) for i in range(1, len(scores) + 1)
        ]
        assert [value for _, value in found["parts/arousal"]] == [
            round(score + 0.1, 6) for score in scores
        ]
        assert {"loss", "lr", "seconds", "parts/valence"} <= set(found)
    assert len(planned.names("sweeps/s/tensorboard/trial-00000")) == 1


def mlflow_runs(uri: str) -> dict[str, Any]:
    """Runs of the sweep's experiment by trial number, with the client to ask for more."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("raffect/s")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    found = {run.data.tags["raffect.trial"]: run for run in runs}
    assert len(found) == len(runs)
    return {"client": client, **found}


def mlflow_scores(runs: dict[str, Any], number: int) -> list[tuple[int, float]]:
    history = runs["client"].get_metric_history(runs[str(number)].info.run_id, "score")
    return [(entry.step, entry.value) for entry in history]


@pytest.fixture
def mlflow_uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    pytest.importorskip("mlflow")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return uri


@pytest.mark.ray
@pytest.mark.slow
def test_mlflow_has_a_run_for_each_trial(
    ray_local: None, planned: Store, mlflow_uri: str, tmp_path: Path, told: list[str]
) -> None:
    callbacks = make_callbacks(["mlflow"], planned, "s", "va", told.append)
    assert sweep(callbacks, tmp_path / "tune") == {0: None, 1: None, 2: None}
    assert told == []
    runs = mlflow_runs(mlflow_uri)
    for number, scores in SCORES.items():
        run = runs[str(number)]
        assert mlflow_scores(runs, number) == list(enumerate(scores, start=1))
        assert run.data.metrics["parts/valence"] == pytest.approx(scores[-1] - 0.1)
        assert run.data.metrics["best"] == max(scores)
        assert run.data.params == {"optimiser.lr": str(1e-3 * (number + 1))}
        assert run.data.tags["raffect.sweep"] == "s"
        assert run.data.tags["raffect.task"] == "va"
        assert run.info.run_name == f"trial-{number:05d}"
        assert run.info.status == ("FAILED" if number == 1 else "FINISHED")


@pytest.mark.slow
def test_mlflow_goes_on_with_the_run_that_a_killed_driver_left(
    planned: Store, mlflow_uri: str, told: list[str]
) -> None:
    killed = Driver(make_callbacks(["mlflow"], planned, "s", "va", told.append))
    killed.start(0)
    killed.result(0, SCORES[0][:2])
    killed.settle()
    later = Driver(make_callbacks(["mlflow"], planned, "s", "va", told.append))
    later.start(0)
    # From its checkpoint of epoch 1 it does epoch 2 again, which is known.
    later.result(0, SCORES[0][:2])
    later.result(0, SCORES[0])
    later.complete(0)
    later.start(1)
    later.end()
    assert told == []
    runs = mlflow_runs(mlflow_uri)
    assert mlflow_scores(runs, 0) == list(enumerate(SCORES[0], start=1))
    assert [runs[number].info.status for number in ("0", "1")] == ["FINISHED", "RUNNING"]


@pytest.mark.ray
@pytest.mark.long
def test_wandb_has_a_run_for_each_trial(
    ray_local: None,
    planned: Store,
    tmp_path: Path,
    told: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    callbacks = make_callbacks(["wandb"], planned, "s", "va", told.append)
    assert sweep(callbacks, tmp_path / "tune") == {0: None, 1: None, 2: None}
    assert told == []
    found = {run["number"]: run for run in map(wandb_run, tmp_path.rglob("*.wandb"))}
    for number, scores in SCORES.items():
        run = found[number]
        assert run["scores"] == list(enumerate(scores, start=1))
        assert run["group"] == "s"
        assert run["tags"] == ["s", "va", f"trial-{number:05d}"]
        assert run["config"] == {"optimiser.lr": 1e-3 * (number + 1)}


def wandb_run(path: Path) -> dict[str, Any]:
    """What W&B wrote off line: records in blocks of 32 KiB, as LevelDB's log has them."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, part = path.read_bytes(), 7, b""
    found: dict[str, Any] = {"scores": []}
    while at + 7 <= len(data):
        size, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        part += data[at + 7 : at + 7 + size]
        at += 7 + size
        # A record that does not fit into its block is cut in pieces; 1 and 4 are last ones.
        if kind in (1, 4):
            record = Record.FromString(part)
            part = b""
            if record.WhichOneof("record_type") == "history":
                items = {"/".join(i.nested_key) or i.key: i for i in record.history.item}
                score = json.loads(items["score"].value_json)
                found["scores"].append((json.loads(items["_step"].value_json), score))
            elif record.WhichOneof("record_type") == "run":
                run = record.run
                found |= {"group": run.run_group, "tags": list(run.tags)}
                found["number"] = int(run.run_id.split("-")[0])
                own = (item for item in run.config.update if item.key != "_wandb")
                found["config"] = {item.key: json.loads(item.value_json) for item in own}
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
    return found


def test_a_trial_that_goes_on_after_a_kill_has_each_epoch_once(
    planned: Store, told: list[str]
) -> None:
    killed = Driver(make_callbacks(["tensorboard"], planned, "s", "va", told.append))
    killed.start(0)
    killed.result(0, SCORES[0][:2])
    killed.settle()
    later = Driver(make_callbacks(["tensorboard"], planned, "s", "va", told.append))
    later.start(0)
    later.result(0, SCORES[0][:2])
    # Its process was lost, and has another one.
    later.start(0)
    later.result(0, SCORES[0][:1])
    later.result(0, SCORES[0])
    later.complete(0)
    later.start(1)
    later.result(1, SCORES[1])
    later.end()
    assert told == []
    assert events(planned, 0)["score"] == list(enumerate(SCORES[0], start=1))
    assert events(planned, 1)["score"] == [(1, 0.4)]


def test_a_running_trial_is_seen_in_the_store(planned: Store, told: list[str]) -> None:
    driver = Driver(make_callbacks(["tensorboard"], planned, "s", "va", told.append))
    driver.start(0)
    driver.result(0, SCORES[0][:1])
    driver.result(0, SCORES[0][:2])
    driver.settle()
    assert events(planned, 0)["score"][0] == (1, 0.1)
    driver.end()
    assert events(planned, 0)["score"] == [(1, 0.1), (2, 0.3)]


def test_object_storage_gets_one_copy_of_a_short_trial(
    s3_store: Store, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan(s3_store)
    copies: list[str] = []
    write = s3_store.write_bytes
    monkeypatch.setattr(s3_store, "write_bytes", lambda k, d: copies.append(k) or write(k, d))
    driver = Driver(make_callbacks(["tensorboard"], s3_store, "s", "va", told.append))
    driver.start(0)
    for epochs in (1, 2, 3):
        driver.result(0, SCORES[0][:epochs])
    driver.settle()
    assert copies == []
    driver.complete(0)
    driver.settle()
    assert len(copies) == 1
    assert events(s3_store, 0)["score"] == list(enumerate(SCORES[0], start=1))
    driver.start(2)
    driver.result(2, SCORES[2])
    driver.end()
    assert events(s3_store, 2)["score"] == list(enumerate(SCORES[2], start=1))
    assert told == []


def test_hyperparameters_are_what_differs(planned: Store, told: list[str]) -> None:
    data = pytest.importorskip("tensorboard.plugins.hparams.plugin_data_pb2")
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    driver = Driver(make_callbacks(["tensorboard"], planned, "s", "va", told.append))
    driver.start(2)
    driver.result(2, SCORES[2])
    driver.complete(2)
    driver.end()
    found = accumulator.EventAccumulator(planned.path("sweeps/s/tensorboard/trial-00002"))
    found.Reload()
    content = found.PluginTagToContent("hparams")["_hparams_/session_start_info"]
    parameters = data.HParamsPluginData.FromString(content).session_start_info.hparams
    assert set(parameters) == {"sweep", "task", "trial", "optimiser.lr"}
    assert parameters["optimiser.lr"].number_value == pytest.approx(3e-3)
    assert parameters["sweep"].string_value == "s"


def test_parameters_are_those_searched_and_those_that_are_not_the_bases() -> None:
    settings = {"a": {"b": 1, "c": None}, "d": (1, 2), "e": "x", "f": None}
    base = {"a": {"b": 1, "c": 2}, "d": (1, 2), "e": "y", "f": None}
    found = parameters(settings, base, {"d": "", "f": "", "a.b": ""})
    assert found == {"a.b": 1, "a.c": "None", "d": "(1, 2)", "e": "x", "f": "None"}


def test_new_epochs_have_the_best_score_of_all() -> None:
    found = epochs_after(history([0.3, 0.1, 0.4]), 1)
    assert [epoch for epoch, _ in found] == [2, 3]
    assert [values["best"] for _, values in found] == [0.3, 0.4]
    assert "raw" not in found[0][1]
    ((_, values),) = epochs_after([replace(history([0.3])[0], raw=0.2)], 0)
    assert (values["score"], values["raw"]) == (0.3, 0.2)
    assert found[0][1]["parts/valence"] == 0.0
    assert found[0][1]["parts/arousal"] == pytest.approx(0.2)
