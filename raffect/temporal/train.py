"""The stage `train`: one temporal model of one task, from features and labels in the store."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from raffect.affwild2.folds import check_fold
from raffect.config import TemporalConfig
from raffect.context import Context
from raffect.errors import RaffectError
from raffect.store import Manifest, Stage, Store, model_folder
from raffect.store.features import FeatureNames, plain_names
from raffect.store.layout import CHECKPOINT
from raffect.store.stage import StagePart, begun_with
from raffect.temporal.checks import (
    auxiliary_weights,
    check_model,
    describe_gaps,
    describe_idle,
    model_tasks,
)
from raffect.temporal.data import TaskData, check_groups, load_sources, load_task_data
from raffect.temporal.epochs import EpochResult
from raffect.temporal.seen import describe_seen, find_seen
from raffect.temporal.sharding import Sharding, choose_shards
from raffect.temporal.training import Trainer
from raffect.training.checkpoints import CheckpointFolder
from raffect.training.loop import NotFiniteError, run_epochs

OnEpoch = Callable[[EpochResult, int], object]
Counts = dict[str, float]


def train(
    store: Store,
    config: TemporalConfig,
    features: FeatureNames,
    name: str,
    workers: int = 1,
    on_epoch: OnEpoch = lambda result, epochs: None,
    context: Context = Context(),
    sharding: Sharding = Sharding(),
) -> Manifest:
    """Train a model into `models/NAME`; continue where an interrupted run stopped.

    The number of workers is no part of the settings: losses and gradients do not depend on it
    (reduce.py), so a run may continue on more or fewer. Where they hold only their share of the
    videos, the number of shares is (shares.py): it may continue on fewer.

    Ray starts the workers, and the context's cluster is used, only where there are several.
    `on_epoch` is called with each new epoch's result and the number of epochs in all.

    Raises:
        SettingsError: Settings that do not go together, too few validation videos to fit
            post-processing on, or too few training videos for all workers to have a share.
        NotThereError: No such features, or no labels of the task.
        ConflictError: A model of this name was made with other settings.
        RaffectError: Training diverged.
    """
    check_model(config)
    sources = load_sources(store, features)
    check_fold(store, config.task, config.fold)
    if config.postprocess == "fit":
        check_groups(store, config.task, config.fold)
    folder = model_folder(name)
    begun = None if context.overwrite else begun_with(store, folder)
    config = choose_shards(store, config, features, workers, sharding, begun, context)
    settings = {"features": plain_names(features), **config.identity()}
    stage = Stage(store, folder, "model", settings, sources, context.overwrite)
    if stage.finished is not None:
        return stage.finished
    auxiliary = tuple(auxiliary_weights(config))
    read = None
    if workers > 1:
        # Imported here: one process needs no Ray, which takes seconds to import.
        from raffect.engine import check_gpus, connect
        from raffect.temporal.shared import shared_reader

        connect(context.address)
        check_gpus(config.run.device, workers, context.address)
        read = shared_reader(context.address)
    data = load_task_data(store, features, config.task, auxiliary, config.fold, read)
    gaps = describe_gaps(data.train.trained_labels())
    seen = find_seen(store, sources, config.task, config.fold)
    told = describe_idle(config, model_tasks(config)) + gaps + describe_seen(seen, config.fold)
    for line in told:
        context.on_note(line)
    try:
        parts, counts = _train(stage, config, data, workers, on_epoch, context)
    except NotFiniteError as error:
        # Nothing is worth continuing: the same name is free for other settings.
        store.delete(folder)
        raise RaffectError(
            f"Training {store.where(folder)} diverged: {error}",
            "settings with which the loss stays finite",
            "Lower optimiser.lr, or set optimiser.clip_norm (e.g. --set optimiser.clip_norm=1).",
        ) from error
    notes = {
        "workers": workers,
        **({"absent": gaps} if gaps else {}),
        **({"seen": seen} if seen else {}),
    }
    manifest = stage.finish(parts, counts, notes=notes)
    CheckpointFolder(store, f"{folder}/{CHECKPOINT}").clear()
    return manifest


def _train(
    stage: Stage,
    config: TemporalConfig,
    data: TaskData,
    workers: int,
    on_epoch: OnEpoch,
    context: Context,
) -> tuple[list[StagePart], Counts]:
    checkpoints = CheckpointFolder(stage.store, f"{stage.folder}/{CHECKPOINT}")

    def tell(result: EpochResult) -> None:
        on_epoch(result, config.optimiser.epochs)

    if workers == 1:
        trainer = Trainer(config, data)
        run_epochs(trainer, checkpoints, tell)
        return _write_model(stage, trainer)
    from raffect.engine import share_of
    from raffect.training.ray_workers import train_on_workers

    share = share_of(workers, config.run.device, context.on_note)
    make, deliver = partial(Trainer, config), partial(_write_model, stage)
    return train_on_workers(make, data, workers, share, checkpoints, deliver, tell)


def _write_model(stage: Stage, trainer: Trainer) -> tuple[list[StagePart], Counts]:
    """Write the trainer's model into the stage's folder; its files, and the manifest's counts."""
    best = trainer.best
    assert best is not None
    counts = {
        "score": best.score,
        "epoch": best.epoch,
        "epochs": trainer.epoch,
        "parameters": trainer.parameter_count,
        "seconds": round(sum(epoch.seconds for epoch in trainer.history), 3),
    }
    files = trainer.model_files()
    return [stage.write_part(name, data) for name, data in files.items()], counts
