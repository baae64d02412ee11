"""Batches of segments, gathered from arrays that stay where they are: see DeviceFeatures.

On the CPU that is the node's object store. On a GPU it is the GPU's memory where the features fit
and the process has it alone. Trials that share a GPU would each need a copy there, so that theirs
stay in the object store, which has one for all: a thread gathers the next batch into pinned
memory, and a stream of its own copies it, while the model computes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raffect.affwild2.tasks import Task
from raffect.config import FeaturePlace
from raffect.store.raw import ahead
from raffect.temporal.blocks import FeatureBlocks
from raffect.temporal.segments import Segments
from raffect.temporal.timelines import NO_ROW, Timelines, trainable

T = TypeVar("T")
_MOST = 0.5
"""Share of a GPU's free memory that features take at most; the rest is the model's."""


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
        stand_in: Segments that count for nothing, `(B,)` bool; None: there is none. A worker that
            has no segment of a batch passes one, as all have to join the all-reduce; and a batch
            that must have the shape of all others is filled up with them.
    """

    x: Tensor
    present: Tensor
    real: Tensor | None
    frames: Tensor
    values: dict[Task, Tensor]
    known: dict[Task, Tensor]
    stand_in: Tensor | None = None

    def tensors(self) -> Iterator[Tensor]:
        """All that it has."""
        found = (self.x, self.present, self.real, self.frames, self.stand_in)
        yield from (each for each in found if each is not None)
        yield from (*self.values.values(), *self.known.values())

    def send(self, device: torch.device) -> Batch:
        """The batch on another device; from memory that is pinned it is copied meanwhile."""

        def one(values: Tensor) -> Tensor:
            pins = device.type == "cuda" and not values.is_pinned()
            return (values.pin_memory() if pins else values).to(device, non_blocking=True)

        def known(values: Tensor | None) -> Tensor | None:
            return None if values is None else one(values)

        return Batch(
            x=one(self.x),
            present=one(self.present),
            real=known(self.real),
            frames=one(self.frames),
            values={task: one(values) for task, values in self.values.items()},
            known={task: one(values) for task, values in self.known.items()},
            stand_in=known(self.stand_in),
        )


class DeviceFeatures:
    """Features on the device: one tensor there; on the CPU blocks stay where they are.

    On the `host` they are where other processes of the node have them, too: on a GPU that is
    shared, or too small for them and the model.
    """

    def __init__(
        self,
        features: NDArray[np.floating] | FeatureBlocks | Tensor,
        device: torch.device,
        place: FeaturePlace = "auto",
        is_shared: bool = False,
    ) -> None:
        size = features.shape[0] * features.shape[1] * features.dtype.itemsize
        self.on_host = place == "host" or (
            place == "auto" and device.type == "cuda" and not _fits(size, device, is_shared)
        )
        self.pins = self.on_host and device.type == "cuda"
        if self.on_host:
            device = torch.device("cpu")
        self.device = device
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
        """Rows `(n, features)` as they are stored, by their numbers `(n,)`."""
        first = self.tensors[0]
        if self._blocks is None and not self.pins:
            return first.index_select(0, rows)
        shape = (len(rows), first.shape[1])
        found = torch.empty(shape, dtype=first.dtype, device=self.device, pin_memory=self.pins)
        if self._blocks is None:
            return torch.index_select(first, 0, rows, out=found)
        for here, block, inside in self._blocks.find(rows.numpy()):
            torch.index_select(self.tensors[block], 0, torch.from_numpy(inside), out=found[here])
        return found


def _fits(size: int, device: torch.device, is_shared: bool) -> bool:
    """Whether so many bytes leave a GPU room for a model."""
    return not is_shared and size <= _MOST * torch.cuda.mem_get_info(device)[0]


class DeviceTimelines:
    """Timelines and the features they point into, for batches on the device.

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
        self._home = home = features.device
        self._row = to_device(timelines.row, home)
        self._present = to_device(timelines.present, home)
        self._any_without_row = bool((timelines.row == NO_ROW).any())
        self._values: dict[Task, Tensor] = {}
        self._known: dict[Task, Tensor] = {}
        for task, labels in timelines.labels.items():
            known = trainable(task, labels.values, labels.valid)
            self._values[task] = to_device(labels.values, home)
            self._known[task] = to_device(known, home)

    def gather(
        self, segments: Segments, tasks: tuple[Task, ...] = (), fill: int | None = None
    ) -> Batch:
        """The batch of these segments, with the labels of these tasks.

        Filled up to `fill` segments it has the same tensors, of the same shapes, whatever it has.
        """
        count = len(segments)
        if fill is not None:
            segments = segments.fill(fill)
        start = torch.from_numpy(segments.start).to(self._home)
        length = torch.from_numpy(segments.real).to(self._home)
        position = torch.arange(segments.window, device=self._home)
        last = (start + length - 1)[:, None]
        frames = torch.minimum(start[:, None] + position, last)
        padded = fill is not None or bool((segments.real < segments.window).any())
        real = position < length[:, None] if padded else None
        stand_in = None if fill is None else torch.arange(fill, device=self._home) >= count
        counts = real
        if real is not None and stand_in is not None:
            counts = real & ~stand_in[:, None]
        known = {task: self._known[task][frames] for task in tasks}
        if counts is not None:
            known = {task: mask & counts[..., None] for task, mask in known.items()}
        batch = Batch(
            x=self._features_at(frames),
            present=self._present[frames],
            real=real,
            frames=frames,
            values={task: self._values[task][frames] for task in tasks},
            known=known,
            stand_in=stand_in,
        )
        if self.features.on_host:
            batch = batch.send(self.device)
        return replace(batch, x=batch.x.float())

    def each(self, items: Iterable[T], make: Callable[[T], list[Batch]]) -> Iterator[list[Batch]]:
        """The batches that are made of the items: of features on the host, the next in advance."""
        if not self.features.on_host:
            yield from map(make, items)
            return
        stream = None
        if self.features.pins:
            stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]

        def prepare(item: T) -> tuple[list[Batch], torch.cuda.Event | None]:
            if stream is None:
                return make(item), None
            with torch.cuda.stream(stream):
                return make(item), stream.record_event()

        with ThreadPoolExecutor(1) as pool:
            for batches, copied in ahead(pool, prepare, items, 1):
                if copied is not None:
                    now = torch.cuda.current_stream(self.device)
                    now.wait_event(copied)
                    # Or the memory would be the next batch's while this one is computed.
                    for tensor in chain.from_iterable(batch.tensors() for batch in batches):
                        tensor.record_stream(now)
                yield batches

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
