"""Batches of segments, gathered where the model computes, from arrays that stay there."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raffect.affwild2.tasks import Task
from raffect.temporal.blocks import FeatureBlocks
from raffect.temporal.segments import Segments
from raffect.temporal.timelines import NO_ROW, Timelines, trainable


@dataclass(frozen=True)
class Batch:
    """A batch of segments; B segments, W frames, D features, L label values.

    Attributes:
        x: Features, `(B, W, D)` float32; arbitrary where padded.
        present: Frames with a crop of their own, `(B, W)` bool; of several sets of features, which
            of them have a row there, `(B, W, sets)`.
        real: Frames that are not padding, `(B, W)` bool; None: all are real.
        frames: Timeline entry of each frame, `(B, W)` int64; arbitrary where padded.
        values: Per task, labels `(B, W, L)` float32.
        known: Per task, which labels may be trained on, `(B, W, L)` bool; never padding.
        stand_in: It counts for nothing: a worker that has no segment of a batch passes it, as all
            have to join the all-reduce.
    """

    x: Tensor
    present: Tensor
    real: Tensor | None
    frames: Tensor
    values: dict[Task, Tensor]
    known: dict[Task, Tensor]
    stand_in: bool = False


class DeviceFeatures:
    """Features on the device: one tensor there; on the CPU blocks stay where they are."""

    def __init__(
        self, features: NDArray[np.floating] | FeatureBlocks | Tensor, device: torch.device
    ) -> None:
        arrays = features.arrays if isinstance(features, FeatureBlocks) else [features]
        if not len(features):
            # Somewhere for the rows of videos without crops to point to.
            tensors = [torch.zeros((1, features.shape[1]), device=device)]
        elif device.type == "cpu" or len(arrays) == 1:
            tensors = [to_device(array, device) for array in arrays]
        else:
            dtype = torch.from_numpy(np.empty(0, features.dtype)).dtype
            tensors = [torch.empty(features.shape, dtype=dtype, device=device)]
            parts = torch.split(tensors[0], [len(array) for array in arrays])
            for part, array in zip(parts, arrays, strict=True):
                part.copy_(to_device(array, torch.device("cpu")))
        self._blocks: FeatureBlocks | None = None
        if isinstance(features, FeatureBlocks) and len(tensors) > 1:
            self._blocks = features
        self.tensors = tensors

    def take(self, rows: Tensor) -> Tensor:
        """Rows `(n, features)` float32, by their numbers `(n,)`."""
        if self._blocks is None:
            return self.tensors[0].index_select(0, rows).float()
        first = self.tensors[0]
        found = first.new_empty((len(rows), first.shape[1]))
        for here, block, inside in self._blocks.find(rows.numpy()):
            torch.index_select(self.tensors[block], 0, torch.from_numpy(inside), out=found[here])
        return found.float()


class DeviceTimelines:
    """Timelines and the features they point into, on the device.

    On the CPU nothing is copied: arrays in Ray's object store serve all workers of a node. The
    features `(rows, features)` are float16 or float32, in an array or blocks of them, or in a
    tensor already on the device.
    """

    def __init__(
        self,
        features: NDArray[np.floating] | FeatureBlocks | Tensor | DeviceFeatures,
        timelines: Timelines,
        device: torch.device,
    ) -> None:
        self.timelines = timelines
        self.device = device
        if not isinstance(features, DeviceFeatures):
            features = DeviceFeatures(features, device)
        self.features = features
        self._row = to_device(timelines.row, device)
        self._present = to_device(timelines.present, device)
        self._any_without_row = bool((timelines.row == NO_ROW).any())
        self._values: dict[Task, Tensor] = {}
        self._known: dict[Task, Tensor] = {}
        for task, labels in timelines.labels.items():
            known = trainable(task, labels.values, labels.valid)
            self._values[task] = to_device(labels.values, device)
            self._known[task] = to_device(known, device)

    def gather(self, segments: Segments, tasks: tuple[Task, ...] = ()) -> Batch:
        """The batch of these segments, with the labels of these tasks."""
        start = torch.from_numpy(segments.start).to(self.device)
        length = torch.from_numpy(segments.real).to(self.device)
        position = torch.arange(segments.window, device=self.device)
        last = (start + length - 1)[:, None]
        frames = torch.minimum(start[:, None] + position, last)
        padded = bool((segments.real < segments.window).any())
        real = position < length[:, None] if padded else None
        known = {task: self._known[task][frames] for task in tasks}
        if real is not None:
            known = {task: mask & real[..., None] for task, mask in known.items()}
        return Batch(
            x=self._features_at(frames),
            present=self._present[frames],
            real=real,
            frames=frames,
            values={task: self._values[task][frames] for task in tasks},
            known=known,
        )

    def _features_at(self, frames: Tensor) -> Tensor:
        row = self._row[frames].flatten()
        index = row.clamp_min(0) if self._any_without_row else row
        x = self.features.take(index)
        if self._any_without_row:
            x.masked_fill_((row == NO_ROW)[:, None], 0.0)
        return x.view(*frames.shape, -1)


def to_device(values: NDArray[Any] | Tensor, device: torch.device) -> Tensor:
    """A tensor on the device; on the CPU it shares the array's memory."""
    if isinstance(values, Tensor):
        return values.to(device)
    with warnings.catch_warnings():
        # Arrays of Ray's object store are read-only, and nothing here writes to them.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(values).to(device)
