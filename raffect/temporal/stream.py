"""Predictions while a video goes on: one frame at a time, from a state that is kept.

What a stream tells of a frame is what `predict_features` tells of the last frame of a video that
ends there: the segments that reach it (blending.py), each looking back to its own start, with
their weights. These segments run side by side, as lanes. A lane keeps what its convolutions'
kernels reach back to, and its Transformer's keys and values, so that every frame costs the same.
Keys and values can be kept because positions count from the segment's start; in a window that
slides by single frames, each frame would change all of them.

Exact but for rounding (4e-7 on the demo's models): predictions as the model makes them, and those
of a model without a Transformer with all its post-processing. Approximate:

- Smoothing. It takes earlier frames as they were told, and `predict_features` in part as they are
  with what came after them. With filters of the grid that validation chooses from, values of the
  demo's models differ by 0.0001 to 0.009 on average (CCC 0.993 to 1; 0.984 for EXPR's median of
  101 frames).
- Models of before raffect 0.3 (`blend = mean`) get this blend, too, and where more than MOST_LANES
  segments overlap their stride is larger.

Nobody looks ahead here. A whole video's prediction does: on the demo's validation split it scores
0.723 against 0.713 for VA, 0.581 against 0.513 for EXPR and 0.644 against 0.614 for AU.

Shapes: P persons, K lanes of each, L = P K lanes in a row, D features, C channels, W width, O
outputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention

from raffect.affwild2.tasks import SPECS
from raffect.store.features import dtype_of
from raffect.temporal.blending import blend_stride, fade
from raffect.temporal.data import sets_of
from raffect.temporal.heads import BatchNormHead
from raffect.temporal.inference import ModelBundle
from raffect.temporal.model import CausalConvolution, ResidualBlock, activate, sinusoids
from raffect.temporal.postprocess import Postprocess, postprocess
from raffect.training.device import whole_float32

MOST_LANES = 4
"""Segments that are kept side by side; by default it is two."""


@dataclass
class _Person:
    """One of the stream's persons.

    Attributes:
        frames: That it has had, from its first one with a crop.
        away: Frames since its last crop.
        raw: The model's own values of the last frames, `(kept, O)`; what a filter reaches back to.
        values: What it is told to be, `(O,)`.
    """

    frames: int
    away: int
    raw: NDArray[np.float32]
    values: NDArray[np.float32]


class Stream:
    """A model's predictions of persons who are seen frame by frame; each has its own state.

    A person's first frame is the first with a crop. Frames without one are filled in as in
    training, and have the values of the last crop. Who is away for a whole window is forgotten,
    and begins anew.
    """

    def __init__(self, bundle: ModelBundle) -> None:
        self.config, self.model = bundle.config, bundle.model.eval()
        self.task = self.config.task
        segments = self.config.segments
        self.window = segments.window
        stride = segments.predict_stride or blend_stride(self.window, segments.stride)
        self.stride = max(stride, -(-self.window // MOST_LANES))
        self.lanes = -(-self.window // self.stride)
        self._first, self._other = fade(self.window, self.stride)
        fitted = bundle.postprocess
        self._post: Postprocess | None = None if fitted is None else fitted.final
        filters = self._post.filters if self._post is not None else ()
        self._shift = max((each.shift for each in filters), default=0)
        self._reach = 1 + self._shift + max((each.half_width for each in filters), default=0)
        self._dtype = np.result_type(*(dtype_of(s.extract) for s in sets_of(bundle.lineage)))
        device = next(self.model.parameters()).device
        self._blocks = [_Block(block, device) for block in self.model.tcn.blocks]
        transformer = self.model.transformer
        layers = [] if transformer is None else transformer.layers
        self._layers = [_Layer(layer, self.window, device) for layer in layers]
        self._parts: list[_Block | _Layer] = [*self._blocks, *self._layers]
        self._positions = sinusoids(self.window, self.config.model.width, device)
        self._head = self.model.heads[self.task.value]
        self._held = torch.zeros((0, self.model.feature_dim), device=device)
        self._persons: dict[int, _Person] = {}
        self._clock = 0

    @property
    def persons(self) -> list[int]:
        """Those who have a state, in the order in which they came."""
        return list(self._persons)

    @property
    def lag(self) -> float:
        """Frames by which post-processing makes the values lag behind, on average of outputs."""
        filters = self._post.filters if self._post is not None else ()
        means = [
            (each.shift + each.half_width + max(0, each.shift - each.half_width)) / 2
            for each in filters
        ]
        return float(np.mean(means)) if means else 0.0

    @torch.inference_mode()
    def step(
        self, features: Mapping[int, NDArray[np.floating]], skipped: int = 0
    ) -> dict[int, NDArray[np.float32]]:
        """The values `(O,)` in the next frame of all who are known.

        Args:
            features: Those `(D,)` of the persons who have a crop in it; the others are away.
            skipped: Frames between the last one and this one, at which nobody looked: all persons
                stay as they were. The model knows time by frames alone; where the demo's models
                see every fourth frame, VA scores 0.649 with the others held, 0.647 with them as
                frames without a crop, and 0.423 without them. After a whole window of them all
                persons are forgotten.
        """
        with _one_thread():
            return self._step(features, skipped)

    def _step(
        self, features: Mapping[int, NDArray[np.floating]], skipped: int
    ) -> dict[int, NDArray[np.float32]]:
        if skipped >= self.window:
            self.forget(self.persons)
        for _ in range(skipped if self._persons else 0):
            self._advance([own.away == 0 for own in self._persons.values()])
        left = [
            person
            for person, own in self._persons.items()
            if person not in features and own.away + 1 >= self.window
        ]
        self.forget(left)
        for person in features:
            if person not in self._persons:
                self._join(person)
        if not self._persons:
            return {}
        if features:
            rows = [row for row, person in enumerate(self._persons) if person in features]
            seen = [features[person] for person in self._persons if person in features]
            stored = np.stack(seen).astype(self._dtype).astype(np.float32)
            self._held[rows] = torch.from_numpy(stored).to(self._held.device)
        self._advance([person in features for person in self._persons])
        for own in self._persons.values():
            # Later ones have its last crop's value, delayed or not.
            if own.away <= self._shift:
                own.values = self._finish(own.raw, len(own.raw) - own.away)
        return {person: own.values for person, own in self._persons.items()}

    def forget(self, persons: Iterable[int]) -> None:
        """Drop the state of persons: whoever comes back begins anew."""
        gone = set(persons) & set(self._persons)
        if not gone:
            return
        kept = [row for row, person in enumerate(self._persons) if person not in gone]
        self._persons = {key: own for key, own in self._persons.items() if key not in gone}
        self._held = self._held[kept]
        lanes = [row * self.lanes + k for row in kept for k in range(self.lanes)]
        for each in self._parts:
            each.keep(lanes)

    def _join(self, person: int) -> None:
        outputs = SPECS[self.task].outputs
        nothing = np.zeros((0, outputs), np.float32)
        self._persons[person] = _Person(0, 0, nothing, np.zeros(outputs, np.float32))
        self._held = _grown(self._held, 1)
        for each in self._parts:
            each.add(self.lanes)

    def _advance(self, present: list[bool]) -> None:
        """One frame more; `present` `(P,)` tells of whom there is a crop."""
        raw = self._predict(torch.tensor(present, device=self._held.device))
        for own, values, is_here in zip(self._persons.values(), raw, present, strict=True):
            own.frames += 1
            own.raw = np.concatenate([own.raw, values[None]])[-self._reach :]
            own.away = 0 if is_here else own.away + 1

    def _predict(self, present: Tensor) -> NDArray[np.float32]:
        """The model's own values `(P, O)` of the next frame."""
        device = self._held.device
        frame = np.array([own.frames for own in self._persons.values()])[:, None]
        newest = frame // self.stride
        # The segment of each lane: the newest one of all that take turns there.
        segment = newest - (newest - np.arange(self.lanes)) % self.lanes
        place = frame - segment * self.stride
        runs = (segment >= 0) & (place < self.window)
        place = np.where(runs, place, 0)
        weight = np.where(segment == 0, self._first[place], self._other[place]) * runs
        at = torch.from_numpy(place.ravel()).to(device)
        with whole_float32():
            x = self.model.embed(self._held[:, None], present[:, None])
            x = x[:, 0].repeat_interleave(self.lanes, dim=0)
            begins = at == 0
            for block in self._blocks:
                x = block.step(x, self._clock, begins)
            x = linear(x, self.model.project.weight.squeeze(-1), self.model.project.bias)
            if self._layers and self.model.positions:
                x = x + self._positions[at]
            for layer in self._layers:
                x = layer.step(x, at)
            x = x[:, None]
            counts = torch.ones(x.shape[:2], dtype=torch.bool, device=device)
            head = self._head
            outputs = head(x, counts) if isinstance(head, BatchNormHead) else head(x)
        self._clock += 1
        of_lanes = activate(self.task, outputs[:, 0].float()).double().cpu().numpy()
        values = of_lanes.reshape(*weight.shape, -1) * weight[..., None]
        means = values.sum(axis=1) / weight.sum(axis=1, keepdims=True)
        return np.asarray(means, np.float32)

    def _finish(self, raw: NDArray[np.float32], seen: int) -> NDArray[np.float32]:
        if self._post is None:
            return np.asarray(raw[-1])
        found = postprocess(self.task, self._post, raw, seen)
        return np.asarray(found[-1], np.float32)


class _Convolution:
    """A causal convolution that keeps the frames which its kernel reaches back to, in a ring."""

    def __init__(self, of: CausalConvolution, device: torch.device) -> None:
        weight = of.convolution.weight.detach()
        outputs, inputs, self.kernel = weight.shape
        self.dilation = of.convolution.dilation[0]
        # (C', K C), for frames side by side, the latest last.
        self.weight = weight.permute(0, 2, 1).reshape(outputs, -1).contiguous()
        self.bias = of.convolution.bias
        self.ring = torch.zeros((0, of.reach + 1, inputs), device=device)

    def step(self, x: Tensor, clock: int, begins: Tensor) -> Tensor:
        """`(L, C)` to `(L, C')`; lanes that begin have seen nothing."""
        size = self.ring.shape[1]
        self.ring.masked_fill_(begins[:, None, None], 0.0)
        self.ring[:, clock % size] = x
        back = range(self.kernel - 1, -1, -1)
        seen = self.ring[:, [(clock - i * self.dilation) % size for i in back]]
        return linear(seen.flatten(1), self.weight, self.bias)


class _Block:
    """A residual block of the TCN."""

    def __init__(self, of: nn.Module, device: torch.device) -> None:
        assert isinstance(of, ResidualBlock)
        self.convolutions = [_Convolution(each, device) for each in (of.first, of.second)]
        self.activations = of.activations
        self.residual = None if isinstance(of.residual, nn.Identity) else of.residual

    def step(self, x: Tensor, clock: int, begins: Tensor) -> Tensor:
        """`(L, C)` to `(L, C')`."""
        y = x
        for convolution, activation in zip(self.convolutions, self.activations, strict=False):
            y = activation(convolution.step(y, clock, begins))
        if self.residual is not None:
            x = linear(x, self.residual.weight.squeeze(-1), self.residual.bias)
        found: Tensor = self.activations[2](y + x)
        return found

    def add(self, lanes: int) -> None:
        """More lanes, at the end."""
        for each in self.convolutions:
            each.ring = _grown(each.ring, lanes)

    def keep(self, lanes: list[int]) -> None:
        """These lanes alone."""
        for each in self.convolutions:
            each.ring = each.ring[lanes]


class _Layer:
    """A layer of the Transformer, with the keys and values of the segment so far."""

    def __init__(self, of: nn.Module, window: int, device: torch.device) -> None:
        assert isinstance(of, nn.TransformerEncoderLayer)
        self.layer, self.attention = of, of.self_attn
        shape = (0, window, self.attention.embed_dim)
        self.keys, self.values = (
            torch.zeros(shape, device=device),
            torch.zeros(shape, device=device),
        )

    def step(self, x: Tensor, place: Tensor) -> Tensor:
        """`(L, W)` to the same; `place` `(L,)` is that of the frame in each lane's segment."""
        own, heads = self.attention, self.attention.num_heads
        query, key, value = linear(x, own.in_proj_weight, own.in_proj_bias).chunk(3, dim=-1)
        lanes = torch.arange(len(x), device=x.device)
        self.keys[lanes, place], self.values[lanes, place] = key, value
        seen = int(place.max()) + 1

        def split(of: Tensor) -> Tensor:
            return of.view(*of.shape[:2], heads, -1).transpose(1, 2)

        behind = torch.arange(seen, device=x.device) <= place[:, None]
        found = scaled_dot_product_attention(
            split(query[:, None]),
            split(self.keys[:, :seen]),
            split(self.values[:, :seen]),
            behind[:, None, None],
        )
        layer = self.layer
        x = layer.norm1(x + own.out_proj(found.transpose(1, 2).flatten(1)))
        more: Tensor = layer.linear2(layer.activation(layer.linear1(x)))
        y: Tensor = layer.norm2(x + more)
        return y

    def add(self, lanes: int) -> None:
        """More lanes, at the end."""
        self.keys, self.values = _grown(self.keys, lanes), _grown(self.values, lanes)

    def keep(self, lanes: list[int]) -> None:
        """These lanes alone."""
        self.keys, self.values = self.keys[lanes], self.values[lanes]


@contextmanager
def _one_thread() -> Iterator[None]:
    """Operations on a few rows are too small for several threads: where others compute, too,
    their waiting for each other takes ten times as long."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _grown(state: Tensor, lanes: int) -> Tensor:
    return torch.cat([state, state.new_zeros((lanes, *state.shape[1:]))])
