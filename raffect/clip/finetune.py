"""Fine-tune: CLIP's image tower learns the expression labels, by Ray Train on N workers."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from safetensors.torch import save as save_tensors

from raffect.affwild2.labels import load_labels
from raffect.affwild2.tasks import Task
from raffect.clip.encoder import FrameEncoder, build_encoder
from raffect.clip.encoder import to_bytes as encoder_bytes
from raffect.clip.ingest import Wanted, choose_frames, read_shares
from raffect.clip.training import read_best
from raffect.clip.workers import Job, OnEpoch, run_workers
from raffect.config import FinetuneConfig
from raffect.context import Context
from raffect.engine import (
    asks_for_gpus,
    check_gpus,
    check_room,
    connect,
    count_cpus,
    cpus_per_worker,
    tell_waiting,
)
from raffect.store import DATASET, Manifest, Stage, Store, encoder_folder, read_manifest
from raffect.store.layout import CONFIG, ENCODER_WEIGHTS, FINETUNE_CHECKPOINTS, METRICS
from raffect.store.manifest import has_manifest


def finetune(
    store: Store,
    name: str,
    config: FinetuneConfig,
    workers: int = 1,
    on_epoch: OnEpoch | None = None,
    context: Context = Context(),
) -> Manifest:
    """Tune an encoder on the EXPR training frames; the best epoch on EXPR validation is kept.

    Interrupted and given again, it goes on after the last finished epoch; given again when
    finished, it does nothing.

    Args:
        store: The store, with a dataset; the encoder goes there.
        name: Name of the encoder.
        config: All settings.
        workers: Workers of Ray Train, a GPU each where the cluster has as many.
        on_epoch: Called with each new epoch's facts: epoch, loss, macro_f1, parts, lr, seconds.
        context: How it is run.

    Raises:
        NotThereError: The store has no dataset, or the pretrained weights can't be had.
        SettingsError: The architecture, its weights or the devices can't be used, or the loss
            stopped being finite.
        DataError: There are no labelled crops.
        ConflictError: An encoder of that name was begun or made with other settings.
    """
    check_room(workers, context.address)
    folder = encoder_folder(name)
    sources = {DATASET: read_manifest(store, DATASET).digest()}
    # What can be wrong with the settings is found before anything is written.
    known = has_manifest(store, folder) and not context.overwrite
    encoder, wanted = (None, None) if known else _begin(store, config)
    check_gpus(config.run.device, workers, context.address)
    plan = {**config.canonical(), "workers": workers}
    stage = Stage(store, folder, "encoder", plan, sources, context.overwrite)
    if stage.finished is not None:
        return stage.finished
    assert encoder is not None
    assert wanted is not None
    connect(context.address)
    gpus = int(asks_for_gpus(config.run.device, workers))
    tell_waiting(context.on_note, workers, cpus_per_worker(workers, count_cpus()), gpus)
    job = _make_job(store, encoder, config, wanted, workers)
    with tempfile.TemporaryDirectory(prefix="raffect-") as local:
        run_workers(store, folder, job, on_epoch).to_directory(local)
        return _finish(stage, job, Path(local))


def _begin(store: Store, config: FinetuneConfig) -> tuple[FrameEncoder, Wanted]:
    wanted = choose_frames(load_labels(store, Task.EXPR), config.frame_stride)
    return build_encoder(config.encoder, config.head, config.run.seed), wanted


def _make_job(
    store: Store, encoder: FrameEncoder, config: FinetuneConfig, wanted: Wanted, workers: int
) -> Job:
    return Job(
        config=config,
        workers=workers,
        description=encoder.describe(),
        weights=encoder_bytes(encoder),
        class_counts=wanted.class_counts(),
        train=read_shares(store, wanted.train, encoder.preprocessing, workers, config.run.seed),
        validation=read_shares(store, wanted.validation, encoder.preprocessing, workers, None),
    )


def _finish(stage: Stage, job: Job, checkpoint: Path) -> Manifest:
    """Write the best epoch's encoder and the run's figures, then the manifest."""
    weights, facts = read_best(checkpoint)
    best = facts["best"]
    metrics = {
        "macro_f1": best["macro_f1"],
        "parts": best["parts"],
        "best_epoch": best["epoch"],
        "selected_on": "EXPR validation: the score of the best epoch is that of its selection",
        "frames": job.frames(),
        "training_frames_per_class": job.class_counts.tolist(),
        "history": facts["history"],
    }
    parts = [
        stage.write_part(ENCODER_WEIGHTS, save_tensors(weights)),
        stage.write_part(CONFIG, _json(job.description)),
        stage.write_part(METRICS, _json(metrics)),
    ]
    counts: dict[str, Any] = {
        "epochs": len(facts["history"]),
        "best_epoch": best["epoch"],
        "macro_f1": best["macro_f1"],
        "dim": job.description["dim"],
        "frames": job.frames(),
    }
    manifest = stage.finish(parts, counts)
    stage.store.delete(f"{stage.folder}/{FINETUNE_CHECKPOINTS}")
    return manifest


def _json(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=1) + "\n").encode()
