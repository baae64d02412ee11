import json
import os
import time
from functools import partial

import pytest
import ray

from raffect.affwild2.tasks import Task
from raffect.engine import Share
from raffect.errors import DataError, LostWorkError, RaffectError, SettingsError
from raffect.temporal.data import load_task_data
from raffect.temporal.train import train
from raffect.temporal.training import Trainer
from raffect.training.checkpoints import CheckpointFolder
from raffect.training.ray_workers import train_on_workers
from tests.durability import processes
from tests.temporal.builders import NO_DROPOUT, small_config

pytestmark = pytest.mark.ray


class InterruptedHereError(Exception):
    """Stands for a kill between two epochs."""


@pytest.mark.long
def test_two_workers_continue_a_run_of_one_to_the_same_model(small_store, ray_local):
    config = small_config(Task.VA, **NO_DROPOUT)
    alone = train(small_store, config, "clip", "alone")

    def interrupt(result, total):
        if result.epoch == 2:
            raise InterruptedHereError

    with pytest.raises(InterruptedHereError):
        train(small_store, config, "clip", "m", on_epoch=interrupt)
    seen = []
    together = train(
        small_store,
        config,
        "clip",
        "m",
        workers=2,
        on_epoch=lambda result, total: seen.append((result.epoch, total)),
    )
    assert seen == [(3, 4), (4, 4)]
    assert together.counts["score"] == pytest.approx(alone.counts["score"], abs=1e-5)
    histories = [
        json.loads(small_store.read_bytes(f"models/{name}/metrics.json"))["history"]
        for name in ("alone", "m")
    ]
    for one, two in zip(*histories, strict=True):
        assert two["loss"] == pytest.approx(one["loss"], abs=1e-5)
    left = {key.split("/")[2] for key in small_store.files("models/m")}
    assert left == {
        "config.json",
        "manifest.json",
        "metrics.json",
        "model.safetensors",
        "sums.parquet",
        "plan.json",
    }


@pytest.mark.long
def test_a_run_that_diverges_on_workers_is_one_message(small_store, ray_local):
    with pytest.raises(RaffectError, match="diverged"):
        train(small_store, small_config(Task.VA, optimiser__lr=1e30), "clip", "m", workers=2)
    assert small_store.files("models/m") == []


@pytest.mark.long
def test_a_mistake_met_by_a_worker_reaches_the_user(small_store, ray_local, monkeypatch):
    monkeypatch.setattr("raffect.training.ray_workers._MAX_FAILURES", 0)

    def deliver(trainer):
        raise DataError("The disk of the worker is full.")

    config = small_config(Task.VA, optimiser__epochs=1)
    data = load_task_data(small_store, "clip", Task.VA)
    checkpoints = CheckpointFolder(small_store, "sweeps/va/trials/00001/checkpoint")
    make, share = partial(Trainer, config), Share(0.5, 0)
    with pytest.raises(RaffectError, match="disk of the worker"):
        train_on_workers(make, data, 2, share, checkpoints, deliver, print)


@pytest.mark.long
def test_a_lost_actor_of_the_run_is_one_message_and_the_command_continues(small_store, ray_local):
    config = small_config(Task.VA)

    def lose(result, total):
        if result.epoch == 2:
            own = processes.descendants(os.getpid())
            processes.kill(processes.titled(own, b"ray::MessageQueue"))

    with pytest.raises(LostWorkError, match=r"ActorDiedError(.|\n)*it continues"):
        train(small_store, config, "clip", "m", workers=2, on_epoch=lose)
    seen = []
    train(small_store, config, "clip", "m", workers=2, on_epoch=lambda r, _: seen.append(r.epoch))
    assert seen[-1] == 4
    assert seen[0] > 1


def test_more_gpus_than_there_are_is_the_users_mistake(small_store, ray_local):
    with pytest.raises(SettingsError, match="this machine has 0"):
        train(small_store, small_config(Task.VA, run__device="cuda"), "clip", "m", workers=2)


def test_an_interrupted_run_frees_its_workers_at_once_and_continues(small_store, ray_local):
    cores = ray.available_resources()["CPU"]
    config = small_config(Task.VA, optimiser__epochs=200)

    def interrupt(result, total):
        if result.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(small_store, config, "clip", "m", workers=2, on_epoch=interrupt)
    until = time.monotonic() + 10
    while ray.available_resources().get("CPU", 0) < cores and time.monotonic() < until:
        time.sleep(0.2)
    assert ray.available_resources()["CPU"] == cores
    checkpoints = CheckpointFolder(small_store, "models/m/checkpoint")
    trainer = Trainer(config, load_task_data(small_store, "clip", Task.VA))
    assert checkpoints.restore_latest(trainer)
    assert trainer.epoch == 2
    assert small_store.names("models/m") == ["checkpoint", "plan.json"]
