"""Fine-tuning without Ray: the loop over batches, its loss, its state."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable
from typing import TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import log_softmax

from raffect.affwild2.scores import f1
from raffect.clip.augment import augment
from raffect.clip.encoder import CLASSES, FrameEncoder, to_images
from raffect.clip.lora import add_lora, plain_state
from raffect.clip.optimiser import make_optimiser, set_rate
from raffect.config import FinetuneConfig
from raffect.training.balance import class_weights
from raffect.training.checkpoints import pack_state, unpack_state
from raffect.training.device import autocast
from raffect.training.loop import NotFiniteError
from raffect.training.optim import (
    learning_rate,
    load_optimiser_tensors,
    optimiser_tensors,
    update_average,
)
from raffect.training.reduce import LOCAL, Reducer

Batch = tuple[Tensor, Tensor]
"""Pixels `(batch, height, width, 3)` uint8 and class indices `(batch,)` int64."""


class FinetuneEpoch(TypedDict):
    """The record of an epoch (from 1), as metrics.json holds it.

    `loss` is the mean over the epoch's frames, `macro_f1` and `parts` (F1 per expression) are of
    the averaged weights on validation, `lr` is the head's at the last step.
    """

    epoch: int
    loss: float
    macro_f1: float
    parts: dict[str, float]
    lr: float
    seconds: float


class Finetuner:
    """One worker of a fine-tuning run.

    The averaged weights (EMA) are validated. `best` is the epoch with the best macro F1 so far,
    the first of equals; `best_weights` are its averaged weights, with the adapters merged.
    `class_counts` `(8,)` are labelled training frames per class, `steps` batches per epoch.
    """

    def __init__(
        self,
        encoder: FrameEncoder,
        config: FinetuneConfig,
        class_counts: NDArray[np.int64],
        steps: int,
        device: torch.device | str = "cpu",
        reducer: Reducer = LOCAL,
    ) -> None:
        self.config = config
        self.device = torch.device(device)
        self.reducer = reducer
        self.steps = steps
        torch.manual_seed(config.run.seed)
        if config.lora_rank:
            add_lora(encoder.visual, config.lora_rank)
        self.model = encoder.to(self.device)
        self.mean = copy.deepcopy(self.model).requires_grad_(False)
        self.optimiser = make_optimiser(self.model, config)
        self.parallel = reducer.wrap(self.model)
        weights = class_weights(class_counts, config.class_weight_power, over_frames=True)
        self.weights = torch.tensor(weights, dtype=torch.float32, device=self.device)
        self.epoch = 0
        self.history: list[FinetuneEpoch] = []
        self.best: FinetuneEpoch | None = None
        self.best_weights: dict[str, Tensor] = {}

    @property
    def done(self) -> bool:
        """Whether no epoch is left."""
        return self.epoch >= self.config.epochs

    def train_epoch(self, train: Iterable[Batch], validation: Iterable[Batch]) -> FinetuneEpoch:
        """Train one epoch, then validate the averaged weights.

        Raises:
            NotFiniteError: On every worker, when the loss of any is not finite.
        """
        began = time.perf_counter()
        loss = self._train(train)
        if not np.isfinite(loss):
            raise NotFiniteError(f"The loss of epoch {self.epoch + 1} is {loss}.")
        parts = self._validate(validation)
        self.epoch += 1
        record = FinetuneEpoch(
            epoch=self.epoch,
            loss=loss,
            macro_f1=float(np.mean(list(parts.values()))),
            parts=parts,
            lr=learning_rate(self.config, self.epoch * self.steps - 1, self.steps),
            seconds=time.perf_counter() - began,
        )
        self.history.append(record)
        if self.best is None or record["macro_f1"] > self.best["macro_f1"]:
            self.best = record
            state = plain_state(self.mean)
            self.best_weights = {k: v.detach().to("cpu", copy=True) for k, v in state.items()}
        return record

    def _train(self, batches: Iterable[Batch]) -> float:
        config = self.config
        entropy = (config.run.seed, self.epoch, self.reducer.rank)
        seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        # Dropout and augmentation start anew each epoch: a resumed run repeats the same ones.
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        self.parallel.train()
        # The sum of the frames' losses, and the number of frames.
        totals = torch.zeros(2, dtype=torch.float64, device=self.device)
        for index, (pixels, labels) in enumerate(batches):
            step = self.epoch * self.steps + index
            set_rate(self.optimiser, learning_rate(config, step, self.steps))
            images = augment(to_images(pixels, self.device), config.augment, generator)
            labels = labels.to(self.device)
            with autocast(config.run, self.device):
                logits = self.parallel(images)
            loss = expression_loss(logits, labels, self.weights, config.label_smoothing)
            self.optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimiser.step()
            update_average(self.mean, self.model, config.ema_decay, step)
            totals += torch.stack(
                [loss.detach().double() * len(labels), totals.new_tensor(len(labels))]
            )
        summed = self.reducer.sum_in_place(totals)
        return float(summed[0] / summed[1].clamp(min=1))

    @torch.inference_mode()
    def _validate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """F1 per expression over the frames of all workers."""
        classes = len(CLASSES)
        # Frames by true class (rows) and predicted class (columns), flattened.
        confusion = torch.zeros(classes * classes, dtype=torch.int64, device=self.device)
        self.mean.eval()
        for pixels, labels in batches:
            with autocast(self.config.run, self.device):
                logits = self.mean(to_images(pixels, self.device))
            pairs = labels.to(self.device) * classes + logits.argmax(1)
            confusion += torch.bincount(pairs, minlength=classes * classes)
        summed = self.reducer.sum_in_place(confusion)
        table = summed.view(classes, classes).cpu().numpy()
        values = f1(table.diagonal(), table.sum(axis=0), table.sum(axis=1))
        return dict(zip(CLASSES, values.tolist(), strict=True))

    def save(self) -> bytes:
        """All that is needed to go on exactly, see `checkpoints.pack_state`."""
        groups = {
            "model": self.model.state_dict(),
            "mean": self.mean.state_dict(),
            "best": self.best_weights,
            "optimiser": optimiser_tensors(self.model, self.optimiser),
        }
        return pack_state(groups, {"history": self.history})

    def restore(self, state: bytes) -> None:
        """Go on from what `save` returned."""
        groups, facts = unpack_state(state)
        self.model.load_state_dict(groups["model"])
        self.mean.load_state_dict(groups["mean"])
        self.best_weights = groups["best"]
        load_optimiser_tensors(self.model, self.optimiser, groups["optimiser"])
        self.history = facts["history"]
        self.epoch = len(self.history)
        # max() gives the first of equals, as train_epoch does.
        self.best = max(self.history, key=lambda record: record["macro_f1"], default=None)


def expression_loss(logits: Tensor, labels: Tensor, weights: Tensor, smoothing: float) -> Tensor:
    """Mean of the weighted cross entropy of logits `(batch, 8)` to class indices `(batch,)`.

    The weights `(8,)` are applied here, because torch's own weighting divides by the batch's sum
    of weights: the mean of two workers' losses would not be the loss of both batches. Labels are
    smoothed over the classes that have a weight.
    """
    log_p = log_softmax(logits.float(), dim=-1)
    present = (weights > 0).float()
    smooth = (log_p * present).sum(dim=-1) / present.sum()
    mixed = (1 - smoothing) * log_p.gather(1, labels[:, None])[:, 0] + smoothing * smooth
    return -(weights[labels] * mixed).mean()
