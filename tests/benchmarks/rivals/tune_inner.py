"""Ray's own way with Ray 2.60: Tune, an inner TorchTrainer per trial, segments through Ray Data.

A function trainable runs `TorchTrainer.fit()` and forwards its reports with TuneReportCallback,
as Ray's manual shows. Written as one would who knows its traps: a trial's own function takes next
to no CPU, and its worker a little less than a slot, so that both find room; the parquet files are
read and decoded once, before the first trial, and stay in the object store, so that no task of
Ray Data waits for the CPUs that workers hold; health checks are quick; the dashboard runs where
it is installed, because trials that ASHA stops free their place through it. Search by
OptunaSearch, pruning by Tune's ASHA. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import ray
import ray.data
import ray.train
import torch
from optuna.samplers import TPESampler
from ray import tune
from ray.train.torch import TorchTrainer, prepare_model
from ray.tune.integration.ray_train import TuneReportCallback
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler
from ray.tune.search.optuna import OptunaSearch

from raffect.settings import override
from tests.benchmarks import narrow, workload
from tests.benchmarks.rivals import loop

ENVIRONMENT = {
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "OMP_NUM_THREADS": "1",
}
BOOLEAN = ("present", "real", "valid")
VALIDATION_BATCH = 32
WORKER_CPUS = 0.9
GOAL = {"metric": "score", "mode": "max"}


def train_worker(config: dict[str, Any]) -> None:
    """What the worker of a trial runs."""
    settings = override(workload.base(), config["params"])
    model = prepare_model(loop.make_model(settings, config["dim"]))
    size = settings.optimiser.batch_size
    steps = math.ceil(config["segments"] / size)
    epochs = loop.train(
        settings,
        model,
        lambda: batches("train", size, shuffle=4 * size),
        steps,
        lambda: batches("validation", VALIDATION_BATCH, shuffle=None),
        config["labels"],
    )
    best = -1.0
    for epoch, score in enumerate(epochs, 1):
        best = max(best, score)
        ray.train.report({"score": best, "epoch": epoch})


def batches(split: str, size: int, shuffle: int | None) -> Iterator[dict[str, torch.Tensor]]:
    shard = ray.train.get_dataset_shard(split)
    for batch in shard.iter_torch_batches(batch_size=size, local_shuffle_buffer_size=shuffle):
        yield {name: of.bool() if name in BOOLEAN else of for name, of in batch.items()}


def trial(config: dict[str, Any], datasets: dict[str, Any], facts: dict[str, Any]) -> None:
    """Tune's trainable: waits for the inner run."""
    with tempfile.TemporaryDirectory(prefix="rival-") as folder:
        TorchTrainer(
            train_worker,
            train_loop_config={"params": config, **facts},
            scaling_config=ray.train.ScalingConfig(
                num_workers=1, resources_per_worker={"CPU": WORKER_CPUS}
            ),
            datasets=datasets,
            run_config=ray.train.RunConfig(
                name=tune.get_context().get_trial_id(),
                storage_path=folder,
                callbacks=[TuneReportCallback()],
            ),
        ).fit()


def read(folder: Path, split: str) -> Any:
    return ray.data.read_parquet(str(folder / f"{split}.parquet")).materialize()


def describe(train: Any, validation: Any) -> dict[str, Any]:
    """What a worker needs to know besides its batches."""
    rows = validation.take_all()
    frames = np.concatenate([row["frames"] for row in rows])
    values = np.zeros((frames.max() + 1, 2), np.float32)
    valid = np.zeros(len(values), bool)
    values[frames] = np.concatenate([row["values"] for row in rows])
    valid[frames] = np.concatenate([row["valid"] for row in rows]).astype(bool)
    dim = rows[0]["x"].shape[-1]
    return {"labels": (values, valid), "segments": train.count(), "dim": dim}


def search(folder: Path, trials: int, slots: int, rung: int) -> dict[str, Any]:
    """Run the sweep; its counts and times."""
    datasets = {split: read(folder, split) for split in ("train", "validation")}
    facts = describe(datasets["train"], datasets["validation"])
    scheduler = (
        ASHAScheduler(
            time_attr="epoch",
            max_t=workload.base().optimiser.epochs,
            grace_period=rung,
            reduction_factor=3,
            **GOAL,
        )
        if rung
        else FIFOScheduler()
    )
    trainable = tune.with_parameters(trial, datasets=datasets, facts=facts)
    with tempfile.TemporaryDirectory(prefix="rival-") as local:
        began = time.time()
        results = tune.Tuner(
            tune.with_resources(trainable, {"cpu": 0.01}),
            tune_config=tune.TuneConfig(
                search_alg=OptunaSearch(narrow.space, sampler=TPESampler(seed=0), **GOAL),
                scheduler=scheduler,
                num_samples=trials,
                max_concurrent_trials=slots,
            ),
            run_config=tune.RunConfig(name="rival", storage_path=local, verbose=0),
        ).fit()
        ended = time.time()
    assert not results.errors, results.errors
    epochs = sum(int(result.metrics["epoch"]) for result in results)
    return {"trials": len(results), "epochs": epochs, "began": began, "ended": ended}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--trials", type=int, required=True)
    parser.add_argument("--slots", type=int, required=True)
    parser.add_argument("--rung", type=int, default=0, help="0: no pruning")
    chosen = parser.parse_args()
    # A token of its own, or ray.init() would leave one in the home folder.
    os.environ.update({**ENVIRONMENT, "RAY_AUTH_TOKEN": secrets.token_hex(32)})
    ray.init(
        address="local",
        include_dashboard=importlib.util.find_spec("aiohttp_cors") is not None,
        log_to_driver=False,
        runtime_env={"env_vars": ENVIRONMENT},
    )
    found = search(chosen.folder, chosen.trials, chosen.slots, chosen.rung)
    print(json.dumps(found), file=sys.__stdout__)


if __name__ == "__main__":
    main()
