"""The training of one temporal model, in plain PyTorch: neither Ray nor the store."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from raffect.affwild2.scores import Score, score
from raffect.affwild2.sums import VideoSums, sums_of_videos
from raffect.affwild2.tasks import SPECS, Task
from raffect.config import OptimiserConfig, TemporalConfig
from raffect.settings import build, override
from raffect.store.layout import CONFIG, METRICS, MODEL_WEIGHTS, SUMS
from raffect.temporal.backward import backward
from raffect.temporal.batches import Batch
from raffect.temporal.checks import auxiliary_weights, check_model, model_tasks
from raffect.temporal.data import TaskData
from raffect.temporal.epochs import EpochResult
from raffect.temporal.heads import BatchNorm
from raffect.temporal.inference import predict_resident
from raffect.temporal.losses import WeightedLosses, task_loss
from raffect.temporal.model import (
    ModelDescription,
    ModelMetrics,
    TemporalModel,
)
from raffect.temporal.postprocess import (
    CrossFitted,
    cross_fit,
    group_videos,
    postprocess_videos,
)
from raffect.temporal.resident import ResidentData
from raffect.temporal.segments import index_segments
from raffect.temporal.shares import BatchOrder, Shares
from raffect.temporal.timelines import scored_videos
from raffect.training.checkpoints import json_bytes, pack_state, tensor_bytes, unpack_state
from raffect.training.device import autocast, check_compiler, choose_device, seeded
from raffect.training.loop import NotFiniteError
from raffect.training.optim import (
    AdamW,
    decay_groups,
    learning_rate,
    load_optimiser_tensors,
    optimiser_tensors,
)
from raffect.training.reduce import LOCAL, Reducer

_INITIALISE, _SHUFFLE, _DROPOUT = range(3)
_CHECK_EVERY = 50
"""Steps between checks of the loss; each check synchronises with the GPU."""


@dataclass(frozen=True)
class Validation:
    """What an epoch's predictions are worth on validation.

    Attributes:
        score: The challenge's, of the predictions after post-processing, if there is any.
        sums: Those of each video that it follows from (sums.py).
        fitted: The post-processing.
        raw: The score without it; None if there is none.
    """

    score: Score
    sums: NDArray[np.float64]
    fitted: CrossFitted | None = None
    raw: float | None = None


class Trainer:
    """Trains one model, epoch by epoch, and keeps the weights of the best.

    The numbers follow from settings, data and number of workers alone: on the CPU they are the
    same to the bit whatever the process did before. It computes where resident data lies, else on
    `device`, by default that of the settings. `best` is the epoch with the best score so far, the
    first of equals.

    Raises:
        SettingsError: Settings that do not go together, a GPU that is not there, or too few
            videos to fit post-processing on.
    """

    def __init__(
        self,
        config: TemporalConfig,
        data: TaskData | ResidentData,
        reducer: Reducer = LOCAL,
        device: torch.device | None = None,
    ) -> None:
        check_model(config)
        whole = data if isinstance(data, TaskData) else data.data
        shares = Shares.of(whole, config.optimiser.shards, reducer)
        if isinstance(data, TaskData):
            data = ResidentData(
                data, device or choose_device(config.run.device), shares, config.run.features
            )
        assert whole.task is config.task
        self.config = config
        self.data = whole
        self.epoch = 0
        self.history: list[EpochResult] = []
        self.best: EpochResult | None = None
        self._resident = data
        self._device = data.device
        self._reducer = reducer
        self._tasks = model_tasks(config)
        self._shares = shares
        self._segments = index_segments(whole.train, config.segments)
        of = shares.of_segments(whole.train, self._segments)
        key = (config.run.seed, _SHUFFLE)
        self._order = BatchOrder(shares, of, config.optimiser.batch_size, key)
        with seeded(self._device, config.run.seed, _INITIALISE):
            model = TemporalModel(config, self.data.dims)
        if config.model.input == "zscore":
            model.normalise.learn(*data.statistics(shares))
        self.model = model.to(self._device)
        self.parameter_count = sum(value.numel() for value in self.model.parameters())
        for module in self.model.modules():
            if isinstance(module, BatchNorm):
                module.reducer = reducer
        self._parallel = self._wrapped = reducer.wrap(self.model)
        if config.run.compile:
            check_compiler(self._device)
            # Typed as if it gave a function.
            self._wrapped = cast("nn.Module", torch.compile(self._parallel, dynamic=False))
        self._losses = self._make_losses()
        settings = config.optimiser
        groups = decay_groups(self.model, settings.weight_decay)
        self._optimiser = AdamW(groups, lr=settings.lr)
        self._best_weights: dict[str, Tensor] = {}
        self._best_fitted: CrossFitted | None = None
        fits = config.postprocess == "fit"
        self._groups = group_videos(config.task, self.data.validation) if fits else None
        # By epoch, of those that were the best so far: no other can be the score of this model.
        self._sums: dict[int, NDArray[np.float64]] = {}

    def _make_losses(self) -> WeightedLosses:
        labels = self.data.train.trained_labels()
        assert set(self._tasks) <= set(labels), "load_task_data was not given the auxiliary tasks"
        losses = {task: task_loss(task, self.config.losses, labels[task]) for task in self._tasks}
        weights = {self.config.task: 1.0, **auxiliary_weights(self.config)}
        return WeightedLosses(losses, weights, self._reducer).to(self._device)

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps per epoch; the last batch may be smaller."""
        return self._order.steps

    @property
    def done(self) -> bool:
        """Whether the budget is used up, or the settings say that it is not worth going on."""
        return is_done(self.config.optimiser, self.history)

    def run_epoch(self) -> EpochResult:
        """Train one epoch, then validate.

        Raises:
            NotFiniteError: The loss, the weights or the predictions are not finite.
        """
        began = time.perf_counter()
        with seeded(self._device, self.config.run.seed, _DROPOUT, self.epoch, self._reducer.rank):
            loss = self._train_epoch()
        found = self.validate()
        self.epoch += 1
        epoch = EpochResult(
            epoch=self.epoch,
            loss=loss,
            score=found.score.value,
            parts=found.score.parts,
            seconds=time.perf_counter() - began,
            lr=self._optimiser.param_groups[0]["lr"],
            raw=found.raw,
        )
        self.history.append(epoch)
        if self.best is None or epoch.score > self.best.score:
            self.best = epoch
            self._best_fitted = found.fitted
            self._sums[epoch.epoch] = found.sums
            state = self.model.state_dict()
            self._best_weights = {k: v.detach().to("cpu", copy=True) for k, v in state.items()}
        return epoch

    def _train_epoch(self) -> float:
        self._wrapped.train()
        total = torch.zeros((), dtype=torch.float64, device=self._device)
        for step, micro_batches in enumerate(self._batches()):
            total += self._step(step, micro_batches)
            if step % _CHECK_EVERY == 0 and not torch.isfinite(total):
                break
        mean = float(total) / self.steps_per_epoch
        if not math.isfinite(mean):
            raise NotFiniteError(f"The loss is {mean} in epoch {self.epoch + 1}.")
        weights = torch.stack([value.detach().sum() for value in self.model.parameters()])
        if not torch.isfinite(weights).all():
            raise NotFiniteError(f"Weights are not finite after epoch {self.epoch + 1}.")
        return mean

    def _step(self, step: int, micro_batches: list[Batch]) -> Tensor:
        settings = self.config.optimiser
        done = self.epoch * self.steps_per_epoch + step
        for group in self._optimiser.param_groups:
            group["lr"] = learning_rate(settings, done, self.steps_per_epoch)
        self._optimiser.zero_grad(set_to_none=True)
        alone = partial(self._reducer.alone, self._parallel)
        loss = backward(self._forward, self._losses, micro_batches, alone)
        if settings.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), settings.clip_norm)
        self._optimiser.step()
        return loss

    def _forward(self, batch: Batch) -> dict[Task, Tensor]:
        with autocast(self.config.run, self._device):
            outputs: dict[Task, Tensor] = self._wrapped(
                batch.x, batch.present, batch.real, stand_in=batch.stand_in
            )
        return outputs

    def _batches(self) -> Iterator[list[Batch]]:
        """This worker's micro-batches of each batch, in an order that seed and epoch decide."""
        parts, fill = self.config.optimiser.accumulation, None
        if self.config.run.compile:
            fill = -(-self._order.largest // parts)

        def make(own: NDArray[np.int64]) -> list[Batch]:
            split = np.array_split(own, parts)
            if self._reducer.size == 1 and fill is None:
                split = [part for part in split if len(part)]
            # A worker that has no segment of a batch passes a stand-in.
            return [
                self._resident.train.gather(
                    self._segments.take(part), self._tasks, fill or (None if len(part) else 1)
                )
                for part in split
            ]

        return self._resident.train.each(self._order.epoch(self.epoch), make)

    def validate(self) -> Validation:
        """The challenge's score on validation; every annotated valid frame counts once."""
        timelines = self._resident.validation
        predictions = predict_resident(
            self.model, self.config, timelines, self._reducer, self._shares
        )
        if not np.isfinite(predictions).all():
            raise NotFiniteError(f"Predictions are not finite after epoch {self.epoch + 1}.")
        task, validation = self.config.task, self.data.validation
        labels = validation.labels[task]
        known = labels.values[labels.valid]
        raw, fitted = None, None
        if self._groups is not None:
            raw = score(task, predictions[labels.valid], known).value
            fitted = cross_fit(task, predictions, validation, self._groups)
            predictions = postprocess_videos(task, fitted, predictions, validation)
        found = score(task, predictions[labels.valid], known)
        _, spans = scored_videos(validation, task)
        valid = [labels.valid[span] for span in spans]
        predicted = [predictions[span][of] for span, of in zip(spans, valid, strict=True)]
        true = [labels.values[span][of] for span, of in zip(spans, valid, strict=True)]
        return Validation(found, sums_of_videos(task, predicted, true), fitted, raw)

    def save(self) -> bytes:
        """All that is needed to go on exactly, see `checkpoints.pack_state`."""
        fitted = self._best_fitted
        groups = {
            "model": self.model.state_dict(),
            "best": self._best_weights,
            "sums": {str(epoch): torch.from_numpy(of) for epoch, of in self._sums.items()},
            "optimiser": optimiser_tensors(self.model, self._optimiser),
        }
        facts = {
            "config": self.config.canonical(),
            "data": self.data.digest,
            "history": [asdict(result) for result in self.history],
            "postprocess": None if fitted is None else fitted.canonical(),
        }
        return pack_state(groups, facts)

    def restore(self, state: bytes) -> None:
        """Go on from what `save` returned for the same settings and data.

        Raises:
            ValueError: It is of other settings or data.
        """
        groups, facts = unpack_state(state)
        before = build(TemporalConfig, facts["config"])
        if (_numbers(before), facts["data"]) != (_numbers(self.config), self.data.digest):
            raise ValueError("the checkpoint was saved with other settings or data")
        self.model.load_state_dict(groups["model"])
        self._best_weights = groups["best"]
        fitted = facts.get("postprocess")
        self._best_fitted = None if fitted is None else build(CrossFitted, fitted)
        # Checkpoints of before 0.4 have none.
        kept = groups.get("sums", {})
        self._sums = {epoch: kept[str(epoch)].numpy() for epoch in sorted(map(int, kept))}
        load_optimiser_tensors(self.model, self._optimiser, groups["optimiser"])
        self.history = [EpochResult(**result) for result in facts["history"]]
        self.epoch = len(self.history)
        # max() gives the first of equals, as run_epoch does.
        self.best = max(self.history, key=lambda result: result.score, default=None)

    @property
    def sums(self) -> VideoSums:
        """The sums of validation's videos at the epochs that were the best when they ended."""
        videos, _ = scored_videos(self.data.validation, self.config.task)
        values = np.stack(list(self._sums.values()))
        return VideoSums(self.config.task, videos, tuple(self._sums), values)

    def model_files(self) -> dict[str, bytes]:
        """The model of the best epoch as files that inference.py reads: content by name."""
        best, task = self.best, self.config.task
        assert best is not None
        description = ModelDescription(
            config=self.config.canonical(),
            feature_dim=self.model.feature_dim,
            lineage=self.data.lineage,
        )
        if len(self.model.dims) > 1:
            description["feature_dims"] = list(self.model.dims)
        metrics = ModelMetrics(
            task=task.value,
            metric=SPECS[task].score_name,
            selection="the best epoch on validation",
            score=best.score,
            parts=best.parts,
            best_epoch=best.epoch,
            epochs=self.epoch,
            parameters=self.parameter_count,
            data=self.data.digest,
            history=[asdict(result) for result in self.history],
        )
        if self._best_fitted is not None:
            metrics |= {"raw": best.raw, "postprocess": self._best_fitted.canonical()}
        sums = {SUMS: self.sums.to_bytes()} if best.epoch in self._sums else {}
        # The metrics last: with them the model of a trial is whole.
        return {
            MODEL_WEIGHTS: tensor_bytes(self._best_weights),
            **sums,
            CONFIG: json_bytes(description),
            METRICS: json_bytes(metrics),
        }


def is_done(settings: OptimiserConfig, history: Sequence[EpochResult]) -> bool:
    """Whether a run with these epochs has used its budget, or its patience."""
    if len(history) >= settings.epochs:
        return True
    if settings.patience is None or not history:
        return False
    best = max(history, key=lambda result: result.score)
    return len(history) - best.epoch >= settings.patience


def _numbers(config: TemporalConfig) -> TemporalConfig:
    """The settings without those of memory and speed, and of how epochs are validated."""
    others = {"segments.blend": "crossfade", "segments.predict_stride": None}
    where = {"run.features": "auto", "run.compile": False}
    return override(config, {"optimiser.accumulation": 1, **where, **others})
