"""Fine-tuning without Ray: the pure loop over batches, its state, and its checkpoints."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from raffect.affwild2.scores import f1
from raffect.clip.augment import augment
from raffect.clip.encoder import CLASSES, FrameEncoder, to_images
from raffect.clip.lora import add_lora, plain_state
from raffect.clip.optimiser import (
    average,
    load_state_tensors,
    make_optimiser,
    rate,
    set_rate,
    state_tensors,
)
from raffect.config import FinetuneConfig, RunConfig
from raffect.store.layout import STATE_FACTS, STATE_TENSORS
from raffect.training.reduce import LOCAL, Reducer

Batch = tuple[Tensor, Tensor]
"""Pixels `(batch, height, width, 3)` uint8 and class indices `(batch,)` int64."""


class NotFiniteError(Exception):
    """The loss of an epoch is not finite; its weights are not kept."""


def autocast(run: RunConfig, device: torch.device) -> AbstractContextManager[Any]:
    """Mixed precision as the settings say; `auto` is bfloat16 on GPUs."""
    wanted = run.precision == "bfloat16" or (run.precision == "auto" and device.type == "cuda")
    return torch.autocast(device.type, torch.bfloat16) if wanted else nullcontext()


class Finetuner:
    """One worker's part of a fine-tuning run.

    The averaged weights (EMA) are what is validated, and those of the best epoch what is kept.

    Args:
        encoder: The encoder to tune.
        config: All settings.
        class_counts: Labelled training frames per class, `(8,)`.
        steps: Batches per epoch; with the epochs it is the schedule's length.
        device: Where to compute.
        reducer: Sums over the workers.
        wrap: Makes the model one whose gradients are averaged over the workers.

    Attributes:
        epoch: Finished epochs.
        history: Facts of every finished epoch, also of those before `restore`.
        best: The facts of the best epoch by validation macro F1 (the first of equals).
    """

    def __init__(
        self,
        encoder: FrameEncoder,
        config: FinetuneConfig,
        class_counts: NDArray[np.int64],
        steps: int,
        device: torch.device | str = "cpu",
        reducer: Reducer = LOCAL,
        wrap: Callable[[nn.Module], nn.Module] = lambda model: model,
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
        self.parallel = wrap(self.model)
        self.weights = class_weights(class_counts, config.class_weight_power).to(self.device)
        self.epoch = 0
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Any] | None = None
        self.best_state: dict[str, Tensor] = {}

    def run_epoch(self, train: Iterable[Batch], validation: Iterable[Batch]) -> dict[str, Any]:
        """Train one epoch, validate the averaged weights, and return the epoch's facts.

        Raises:
            NotFiniteError: On every worker, when the loss of any is not finite.
        """
        began = time.perf_counter()
        loss = self._train(train)
        if not np.isfinite(loss):
            raise NotFiniteError(f"The loss of epoch {self.epoch + 1} is {loss}.")
        parts = self._validate(validation)
        self.epoch += 1
        facts = {
            "epoch": self.epoch,
            "loss": loss,
            "macro_f1": float(np.mean(list(parts.values()))),
            "parts": parts,
            "lr": self.config.lr * self._rate(self.epoch * self.steps - 1),
            "seconds": time.perf_counter() - began,
        }
        self.history.append(facts)
        if self.best is None or facts["macro_f1"] > self.best["macro_f1"]:
            self.best = facts
            self.best_state = _to_cpu(plain_state(self.mean))
        return facts

    def _rate(self, step: int) -> float:
        warmup = round(self.config.warmup_epochs * self.steps)
        return rate(step, self.config.epochs * self.steps, warmup)

    def _train(self, batches: Iterable[Batch]) -> float:
        config, seed = self.config, self._epoch_seed()
        # Dropout and augmentation start anew each epoch: a resumed run repeats the same ones.
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        self.parallel.train()
        totals = torch.zeros(2, dtype=torch.float64, device=self.device)
        for index, (pixels, labels) in enumerate(batches):
            step = self.epoch * self.steps + index
            set_rate(self.optimiser, config.lr * self._rate(step))
            images = augment(to_images(pixels, self.device), config.augment, generator)
            labels = labels.to(self.device)
            with autocast(config.run, self.device):
                logits = self.parallel(images)
            loss = expression_loss(logits, labels, self.weights, config.label_smoothing)
            self.optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimiser.step()
            average(self.mean, self.model, config.ema_decay, step)
            totals += torch.stack(
                [loss.detach().double() * len(labels), totals.new_tensor(len(labels))]
            )
        summed = self.reducer.sum_in_place(totals)
        return float(summed[0] / summed[1].clamp(min=1))

    def _epoch_seed(self) -> int:
        entropy = (self.config.run.seed, self.epoch, self.reducer.rank)
        return int(np.random.SeedSequence(entropy).generate_state(1)[0])

    @torch.inference_mode()
    def _validate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """F1 per expression over the frames of all workers."""
        classes = len(CLASSES)
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

    def save(self, folder: Path) -> None:
        """Write all that is needed to go on exactly, as safetensors and JSON."""
        tensors = _prefixed("model", self.model.state_dict())
        tensors |= _prefixed("mean", self.mean.state_dict())
        tensors |= _prefixed("best", self.best_state)
        tensors |= _prefixed("optimiser", state_tensors(self.model, self.optimiser))
        save_file(_to_cpu(tensors), folder / STATE_TENSORS)
        facts = {"epoch": self.epoch, "history": self.history, "best": self.best}
        (folder / STATE_FACTS).write_text(json.dumps(facts), encoding="utf-8")

    def restore(self, folder: Path) -> None:
        """Go on from what `save` wrote."""
        tensors = load_file(folder / STATE_TENSORS)
        self.model.load_state_dict(_below("model", tensors))
        self.mean.load_state_dict(_below("mean", tensors))
        self.best_state = _below("best", tensors)
        load_state_tensors(self.model, self.optimiser, _below("optimiser", tensors))
        facts = json.loads((folder / STATE_FACTS).read_text(encoding="utf-8"))
        self.epoch, self.history, self.best = facts["epoch"], facts["history"], facts["best"]


def read_best(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights of the best epoch, and the facts (epoch, history, best), of a checkpoint."""
    facts = json.loads((folder / STATE_FACTS).read_text(encoding="utf-8"))
    return _below("best", load_file(folder / STATE_TENSORS)), facts


def _prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}:{name}": tensor for name, tensor in tensors.items()}


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    start = f"{prefix}:"
    return {name[len(start) :]: t for name, t in tensors.items() if name.startswith(start)}


def _to_cpu(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: t.detach().to("cpu", copy=True).contiguous() for name, t in tensors.items()}


def class_weights(counts: NDArray[np.int64], power: float) -> Tensor:
    """Weights `count ** -power` per class, scaled so that their mean over the frames is 1.

    Power 0 is no weighting, 1 the inverse class frequency. Classes without a frame weigh 0.
    """
    present = counts > 0
    weights = np.where(present, np.maximum(counts, 1.0) ** -power, 0.0)
    mean = float((weights * counts).sum() / max(1, counts.sum()))
    return torch.tensor(weights / (mean or 1.0), dtype=torch.float32)


def expression_loss(logits: Tensor, labels: Tensor, weights: Tensor, smoothing: float) -> Tensor:
    """Mean over the batch of each frame's weighted cross entropy.

    Args:
        logits: `(batch, 8)`.
        labels: Class indices `(batch,)`.
        weights: Per class, `(8,)`. Torch's own weighting divides by the batch's sum of weights,
            so that the mean of two workers' losses would not be the loss of both batches.
        smoothing: Share of the target that is spread over all classes.
    """
    losses = functional.cross_entropy(
        logits.float(), labels, reduction="none", label_smoothing=smoothing
    )
    return (weights[labels] * losses).mean()
