"""Fine-tune: CLIP's image tower learns the expression labels, on N workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load as load_tensors
from torch import Tensor

from raffect.affwild2.folds import load_fold
from raffect.affwild2.tasks import Task
from raffect.clip.encoder import EncoderDescription, build_encoder, restore
from raffect.clip.frozen import freeze
from raffect.clip.ingest import WINDOW, WorkerFrames, choose_frames, decode_table, read_frames
from raffect.clip.tower import find_architecture
from raffect.clip.training import Batch, FinetuneEpoch, Finetuner
from raffect.config import FinetuneConfig
from raffect.context import Context
from raffect.engine import check_gpus, check_room, connect, is_local, share_of
from raffect.errors import SettingsError
from raffect.store import DATASET, Manifest, Stage, Store, encoder_folder, read_manifest
from raffect.store.layout import (
    CHECKPOINT,
    CONFIG,
    ENCODER_WEIGHTS,
    FINETUNE_CHECKPOINTS,
    METRICS,
    STATE_FACTS,
    STATE_TENSORS,
)
from raffect.store.manifest import has_manifest
from raffect.store.raw import ahead
from raffect.store.stage import StagePart
from raffect.training.balance import describe_absent
from raffect.training.checkpoints import CheckpointFolder, json_bytes, pack_state, tensor_bytes
from raffect.training.loop import NotFiniteError
from raffect.training.ray_workers import train_on_workers
from raffect.training.reduce import Reducer


@dataclass(frozen=True)
class FinetuneRun:
    """All that the workers of a run need.

    `description` and `weights` (a safetensors file) are of the encoder to tune; `class_counts`
    `(8,)` of the training frames; `train` and `validation` hold each worker's frames, those of
    `train` equally many.
    """

    config: FinetuneConfig
    workers: int
    description: EncoderDescription
    weights: bytes
    class_counts: NDArray[np.int64]
    train: list[WorkerFrames]
    validation: list[WorkerFrames]

    @property
    def batch_size(self) -> int:
        """Batch of one worker."""
        return max(1, self.config.batch_size // self.workers)

    def frames(self) -> dict[str, int]:
        """Crops used, by split."""
        splits = {"train": self.train, "validation": self.validation}
        return {split: sum(own.rows for own in parts) for split, parts in splits.items()}


class WorkerFinetuner(Finetuner):
    """A Finetuner that draws each epoch's batches from its worker's frames."""

    def __init__(self, run: FinetuneRun, reducer: Reducer, device: torch.device) -> None:
        self._run = run
        steps = -(-run.train[0].rows // run.batch_size)
        encoder = restore(run.description, run.weights)
        super().__init__(encoder, run.config, run.class_counts, steps, device, reducer)

    def run_epoch(self) -> FinetuneEpoch:
        """Train one epoch, then validate (see `Finetuner.train_epoch`)."""
        rank, size = self.reducer.rank, self._run.batch_size
        seed = self.config.run.seed + self.epoch
        return self.train_epoch(
            batches_of(self._run.train[rank], size, seed),
            batches_of(self._run.validation[rank], size, None),
        )


def batches_of(frames: WorkerFrames, batch_size: int, seed: int | None) -> Iterator[Batch]:
    """An epoch's batches, mixed with a seed; without one in their order."""
    if not frames.rows:
        return
    window = None if seed is None else max(WINDOW, batch_size)
    mixed: Any = {"local_shuffle_buffer_size": window, "local_shuffle_seed": seed}
    if frames.preprocessing is None:
        for batch in frames.dataset.iter_torch_batches(
            batch_size=batch_size, prefetch_batches=2, **mixed
        ):
            yield batch["image"], batch["label"]
        return
    tables = frames.dataset.iter_batches(
        batch_size=batch_size, batch_format="pyarrow", prefetch_batches=1, **mixed
    )
    decode = partial(decode_table, preprocessing=frames.preprocessing)
    with ThreadPoolExecutor(frames.threads) as pool:
        for decoded in ahead(pool, decode, tables, frames.threads + 1):
            yield torch.from_numpy(decoded["image"]), torch.from_numpy(decoded["label"])


def finetune(
    store: Store,
    name: str,
    config: FinetuneConfig,
    workers: int = 1,
    on_epoch: Callable[[FinetuneEpoch], object] = lambda record: None,
    context: Context = Context(),
) -> Manifest:
    """Tune an encoder on the EXPR training frames; the best epoch on EXPR validation is kept.

    Interrupted and given again, it goes on after the last finished epoch; given again when
    finished, it does nothing.

    Each of the Ray Train workers has a GPU where the cluster has as many. Of no epochs comes the
    encoder as it is (see `freeze`).

    Raises:
        NotThereError: The store has no dataset, or the pretrained weights can't be had.
        SettingsError: The architecture, its weights or the devices can't be used, there is no
            such fold of the videos, or the loss stopped being finite.
        DataError: There are no labelled crops.
        ConflictError: An encoder of that name was begun or made with other settings.
    """
    if config.epochs == 0:
        return freeze(store, name, config, context)
    check_room(workers, context.address)
    folder = encoder_folder(name)
    sources = {DATASET: read_manifest(store, DATASET).digest()}
    # What can be wrong with the settings is found before anything is written.
    encoder = chosen = None
    if context.overwrite or not has_manifest(store, folder):
        chosen = choose_frames(load_fold(store, Task.EXPR, config.fold), config.frame_stride)
        encoder = build_encoder(config.encoder, config.head, config.run.seed, guess=False)
    else:
        # Else an unknown architecture would be told as other settings than the encoder's.
        find_architecture(config.encoder.model)
    check_gpus(config.run.device, workers, context.address)
    plan = {**config.identity(), "workers": workers}
    stage = Stage(store, folder, "encoder", plan, sources, context.overwrite)
    if stage.finished is not None:
        return stage.finished
    assert encoder is not None
    assert chosen is not None
    class_counts = chosen.class_counts()
    for line in describe_absent(class_counts):
        context.on_note(line)
    connect(context.address)
    share = share_of(workers, config.run.device, context.on_note)
    seen, here = encoder.preprocessing, is_local(context.address)
    run = FinetuneRun(
        config=config,
        workers=workers,
        description=encoder.describe(),
        weights=tensor_bytes(encoder.state_dict()),
        class_counts=class_counts,
        train=read_frames(store, chosen.train, seen, workers, config.run.seed, here),
        validation=read_frames(store, chosen.validation, seen, workers, None, here),
    )
    checkpoints = CheckpointFolder(store, f"{folder}/{CHECKPOINT}")
    adopt_ray_checkpoint(store, folder, checkpoints)
    try:
        parts, best, epochs = train_on_workers(
            WorkerFinetuner,
            run,
            workers,
            share,
            checkpoints,
            partial(_write_encoder, stage, run),
            on_epoch,
            leaves_cores=True,
        )
    except NotFiniteError as error:
        raise SettingsError(
            f"{error} Fine-tuning has diverged.",
            "a learning rate at which it does not",
            "Give a smaller --set lr, with --overwrite or another --name.",
        ) from None
    counts = {
        "epochs": epochs,
        "best_epoch": best["epoch"],
        "macro_f1": best["macro_f1"],
        "dim": run.description["dim"],
        "frames": run.frames(),
    }
    manifest = stage.finish(parts, counts)
    checkpoints.clear()
    return manifest


def _write_encoder(
    stage: Stage, run: FinetuneRun, finetuner: Finetuner
) -> tuple[list[StagePart], FinetuneEpoch, int]:
    """Write the best epoch's encoder: its files, that epoch, and the number of epochs."""
    best = finetuner.best
    assert best is not None
    metrics = {
        "macro_f1": best["macro_f1"],
        "parts": best["parts"],
        "best_epoch": best["epoch"],
        "selected_on": "EXPR validation: the score of the best epoch is that of its selection",
        "frames": run.frames(),
        "training_frames_per_class": run.class_counts.tolist(),
        "history": finetuner.history,
    }
    parts = [
        stage.write_part(ENCODER_WEIGHTS, tensor_bytes(finetuner.best_weights)),
        stage.write_part(CONFIG, json_bytes(run.description)),
        stage.write_part(METRICS, json_bytes(metrics)),
    ]
    return parts, best, finetuner.epoch


def adopt_ray_checkpoint(store: Store, folder: str, checkpoints: CheckpointFolder) -> None:
    """Continue a run that raffect 0.1 began: Ray Train kept its checkpoints, named in a snapshot.

    Nothing happens where there are none. Theirs are deleted last: interrupted, it is done again.
    """
    old = f"{folder}/{FINETUNE_CHECKPOINTS}"
    try:
        snapshot = store.read_json(f"{old}/checkpoint_manager_snapshot.json")
        latest = f"{old}/{snapshot['latest_checkpoint_result']['checkpoint_dir_name']}"
        facts = store.read_json(f"{latest}/{STATE_FACTS}")
        tensors = store.read_bytes(f"{latest}/{STATE_TENSORS}")
    except FileNotFoundError:
        # Begun, and interrupted before the end of its first epoch: it begins again.
        store.delete(old)
        return
    groups: dict[str, dict[str, Tensor]] = {}
    for key, value in load_tensors(tensors).items():
        group, _, name = key.partition(":")
        groups.setdefault(group, {})[name] = value
    checkpoints.write(facts["epoch"], pack_state(groups, {"history": facts["history"]}))
    store.delete(old)
