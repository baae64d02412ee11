"""The training loop of one temporal model: plain PyTorch that knows neither Ray nor the store."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raffect.affwild2.scores import Score, score
from raffect.affwild2.tasks import SPECS, Task
from raffect.config import OptimiserConfig, TemporalConfig
from raffect.settings import build, override
from raffect.temporal.batches import Batch, DeviceTimelines, to_device
from raffect.temporal.data import TaskData
from raffect.temporal.epochs import EpochResult
from raffect.temporal.losses import WeightedLosses, task_loss
from raffect.temporal.model import TemporalModel, auxiliary_weights, check_model, model_tasks
from raffect.temporal.prediction import predict_resident
from raffect.temporal.segments import Segments, index_segments
from raffect.training.checkpoints import ModelFiles, read_state, write_state
from raffect.training.device import autocast, choose_device, seeded
from raffect.training.reduce import LOCAL, Reducer

_INITIALISE, _SHUFFLE, _DROPOUT = range(3)
_CHECK_EVERY = 50
"""Steps between looks at the loss: each look makes a GPU wait."""


class NotFiniteError(Exception):
    """The loss, the weights or the predictions are NaN or infinite; the run can't go on."""


class ResidentData:
    """A task's data on a device; trials that share a process share it.

    Args:
        data: The task's data.
        device: Where trials compute.
    """

    def __init__(self, data: TaskData, device: torch.device) -> None:
        self.data = data
        self.device = device
        features = to_device(data.features, device)
        self.train = DeviceTimelines(features, data.train, device)
        self.validation = DeviceTimelines(features, data.validation, device)


class Trainer:
    """Trains one model, epoch by epoch, and keeps the weights of the best.

    The numbers follow from settings, data and number of workers alone: on the CPU they are the
    same to the bit whatever the process did before.

    Args:
        config: Settings.
        data: The data, or the data that already lies on the device.
        reducer: The other workers of the run; none by default.
        device: Where to compute; by default what the settings say.

    Attributes:
        epoch: Finished epochs.
        history: Results of all finished epochs, also after `restore`.
        best: The epoch with the best score so far, the first of equals.
        parameter_count: Number of trained values.

    Raises:
        SettingsError: Settings that do not go together, or a GPU that is not there.
    """

    def __init__(
        self,
        config: TemporalConfig,
        data: TaskData | ResidentData,
        reducer: Reducer = LOCAL,
        device: torch.device | None = None,
    ) -> None:
        check_model(config)
        if isinstance(data, TaskData):
            data = ResidentData(data, device or choose_device(config.run.device))
        assert data.data.task is config.task
        self.config = config
        self.data = data.data
        self.epoch = 0
        self.history: list[EpochResult] = []
        self.best: EpochResult | None = None
        self._resident = data
        self._device = data.device
        self._reducer = reducer
        self._tasks = model_tasks(config)
        self._segments = index_segments(self.data.train, config.segments)
        with seeded(self._device, config.run.seed, _INITIALISE):
            model = TemporalModel(config, self.data.features.shape[1])
        self.model = model.to(self._device)
        self.parameter_count = sum(value.numel() for value in self.model.parameters())
        self._wrapped = reducer.wrap(self.model)
        self._losses = self._make_losses()
        settings = config.optimiser
        self._optimiser = torch.optim.AdamW(
            self.model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay
        )
        self._best_weights: dict[str, Tensor] = {}

    def _make_losses(self) -> WeightedLosses:
        labels = self.data.train.labels
        assert set(self._tasks) <= set(labels), "load_task_data was not given the auxiliary tasks"
        losses = {task: task_loss(task, self.config.losses, labels[task]) for task in self._tasks}
        weights = {self.config.task: 1.0, **auxiliary_weights(self.config)}
        return WeightedLosses(losses, weights, self._reducer).to(self._device)

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps per epoch; the last batch may be smaller."""
        return math.ceil(len(self._segments) / self.config.optimiser.batch_size)

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
        result = self.validate()
        self.epoch += 1
        epoch = EpochResult(
            epoch=self.epoch,
            loss=loss,
            score=result.value,
            parts=result.parts,
            seconds=time.perf_counter() - began,
            lr=self._optimiser.param_groups[0]["lr"],
        )
        self.history.append(epoch)
        if self.best is None or epoch.score > self.best.score:
            self.best = epoch
            self._best_weights = _copy(self.model.state_dict())
        return epoch

    def _train_epoch(self) -> float:
        self._wrapped.train()
        total = torch.zeros((), dtype=torch.float64, device=self._device)
        for step, parts in enumerate(self._batches()):
            total += self._step(step, parts)
            if step % _CHECK_EVERY == 0 and not torch.isfinite(total):
                break
        mean = float(total) / self.steps_per_epoch
        if not math.isfinite(mean):
            raise NotFiniteError(f"The loss is {mean} in epoch {self.epoch + 1}.")
        weights = torch.stack([value.detach().sum() for value in self.model.parameters()])
        if not torch.isfinite(weights).all():
            raise NotFiniteError(f"Weights are not finite after epoch {self.epoch + 1}.")
        return mean

    def _step(self, step: int, parts: list[Batch]) -> Tensor:
        settings = self.config.optimiser
        done = self.epoch * self.steps_per_epoch + step
        for group in self._optimiser.param_groups:
            group["lr"] = learning_rate(settings, done, self.steps_per_epoch)
        self._optimiser.zero_grad(set_to_none=True)
        loss = backward(self._forward, self._losses, parts)
        if settings.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), settings.clip_norm)
        self._optimiser.step()
        return loss

    def _forward(self, batch: Batch) -> dict[Task, Tensor]:
        with autocast(self.config.run, self._device):
            outputs: dict[Task, Tensor] = self._wrapped(batch.x, batch.present, batch.real)
        return outputs

    def _batches(self) -> Iterator[list[Batch]]:
        """This worker's part of each global batch, in an order that the seed and epoch decide."""
        size = self.config.optimiser.batch_size
        key = (self.config.run.seed, _SHUFFLE, self.epoch)
        order = np.random.default_rng(key).permutation(len(self._segments))
        for first in range(0, len(order), size):
            index = order[first : first + size]
            own = index[self._reducer.rank :: self._reducer.size]
            split = np.array_split(own, self.config.optimiser.accumulation)
            if self._reducer.size == 1:
                split = [part for part in split if len(part)]
            yield [self._part(part, index) for part in split]

    def _part(self, own: NDArray[np.int64], index: NDArray[np.int64]) -> Batch:
        if len(own):
            return self._gather(self._segments.take(own))
        # A worker left over by the last batch takes part in its sums, with no label that counts.
        batch = self._gather(self._segments.take(index[:1]))
        for known in batch.known.values():
            known.zero_()
        return batch

    def _gather(self, segments: Segments) -> Batch:
        return self._resident.train.gather(segments, self._tasks)

    def validate(self) -> Score:
        """The challenge's score on validation; every annotated valid frame counts once."""
        timelines = self._resident.validation
        predictions = predict_resident(self.model, self.config, timelines, self._reducer)
        if not np.isfinite(predictions).all():
            raise NotFiniteError(f"Predictions are not finite after epoch {self.epoch + 1}.")
        labels = self.data.validation.labels[self.config.task]
        return score(self.config.task, predictions[labels.valid], labels.values[labels.valid])

    def save(self, folder: Path) -> None:
        """Write all that is needed to go on exactly into a local folder."""
        names = [name for name, _ in self.model.named_parameters()]
        moments = self._optimiser.state_dict()["state"]
        optimiser = {
            f"{names[index]}/{key}": value
            for index, state in moments.items()
            for key, value in state.items()
        }
        weights = {
            "model": self.model.state_dict(),
            "best": self._best_weights,
            "optimiser": optimiser,
        }
        facts = {
            "config": self.config.canonical(),
            "data": self.data.digest,
            "history": [asdict(result) for result in self.history],
        }
        write_state(folder, weights, facts)

    def restore(self, folder: Path) -> None:
        """Go on from what `save` wrote for the same settings and data.

        Raises:
            ValueError: It was written for other settings or data.
        """
        weights, facts = read_state(folder)
        before = build(TemporalConfig, facts["config"])
        if (_numbers(before), facts["data"]) != (_numbers(self.config), self.data.digest):
            raise ValueError(f"{folder} was saved with other settings or data")
        self.model.load_state_dict(weights["model"])
        self._best_weights = weights["best"]
        self._restore_optimiser(weights["optimiser"])
        self.history = [EpochResult(**result) for result in facts["history"]]
        self.epoch = len(self.history)
        # max() gives the first of equals, as run_epoch does.
        self.best = max(self.history, key=lambda result: result.score, default=None)

    def _restore_optimiser(self, tensors: dict[str, Tensor]) -> None:
        state: dict[int, dict[str, Tensor]] = {}
        for index, (name, _) in enumerate(self.model.named_parameters()):
            prefix = f"{name}/"
            own = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            if own:
                state[index] = own
        groups = self._optimiser.state_dict()["param_groups"]
        self._optimiser.load_state_dict({"state": state, "param_groups": groups})

    def write_model(self, folder: Path) -> None:
        """Write the model of the best epoch: weights, settings, metrics (bundle.py reads them)."""
        assert self.best is not None
        files = ModelFiles(self._best_weights, self._describe(), self._metrics(self.best))
        files.write(folder)

    def _describe(self) -> dict[str, Any]:
        return {
            "config": self.config.canonical(),
            "feature_dim": self.model.feature_dim,
            "lineage": self.data.lineage,
        }

    def _metrics(self, best: EpochResult) -> dict[str, Any]:
        return {
            "task": self.config.task.value,
            "metric": SPECS[self.config.task].score_name,
            "selection": "the best epoch on validation",
            "score": best.score,
            "parts": best.parts,
            "best_epoch": best.epoch,
            "epochs": self.epoch,
            "parameters": self.parameter_count,
            "data": self.data.digest,
            "history": [asdict(result) for result in self.history],
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
    """The settings without the one that only decides how much memory a step takes."""
    return override(config, {"optimiser.accumulation": 1})


def learning_rate(settings: OptimiserConfig, step: int, steps_per_epoch: int) -> float:
    """Rate of a step (from 0): linear over the warm-up, then a cosine towards 0 at the end."""
    warm = settings.warmup_epochs * steps_per_epoch
    if step < warm:
        return settings.lr * min(1.0, (step + 1) / warm)
    rest = settings.epochs * steps_per_epoch - warm
    share = min(1.0, (step - warm) / max(rest, 1.0))
    return settings.lr * 0.5 * (1 + math.cos(math.pi * share))


def _copy(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights apart from the model, in the machine's memory."""
    return {name: value.detach().to("cpu", copy=True) for name, value in weights.items()}


Forward = Callable[[Batch], dict[Task, Tensor]]


def backward(forward: Forward, losses: WeightedLosses, parts: Sequence[Batch]) -> Tensor:
    """Leave the gradient of the parts' common loss on the model; returns the loss.

    A loss is a function f of sums S over all frames (losses.py), and no mean over parts: CCC of
    half a batch is another thing. So several parts are passed twice, as in GradCache (Gao et al.,
    "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup", 2021): first
    without a gradient for S, then each with its own graph, down which f'(S) is sent. Dropout
    falls the same way both times. Memory is that of the largest part; one more forward pass is
    the price.

    Args:
        forward: The model's outputs of a part.
        losses: The losses, which know of other workers; each of these passes as many parts.
        parts: Disjoint parts of the batch.
    """
    if len(parts) == 1:
        only = parts[0]
        loss: Tensor = losses(forward(only), only.values, only.known)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()
    device = parts[0].x.device
    states, sums = [], []
    with torch.no_grad():
        for part in parts:
            states.append(_random_state(device))
            sums.append(losses.statistics(forward(part), part.values, part.known))
    total = losses.reducer.sum_in_place(torch.stack(sums).sum(0)).requires_grad_()
    loss = losses.value(total)
    (slope,) = torch.autograd.grad(loss, total)
    # DDP takes the mean over workers of gradients that belong to a sum (reduce.py).
    slope = slope * losses.reducer.size
    for part, state in zip(parts, states, strict=True):
        _set_random_state(device, state)
        own = losses.statistics(forward(part), part.values, part.known)
        own.backward(slope)  # type: ignore[no-untyped-call]
    return loss.detach()


def _random_state(device: torch.device) -> Tensor:
    state: Tensor
    if device.type == "cuda":
        state = torch.cuda.get_rng_state(device)
    else:
        state = torch.random.get_rng_state()
    return state


def _set_random_state(device: torch.device, state: Tensor) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.random.set_rng_state(state)
