"""The temporal model of the recipe: TCN, 1x1 convolution, Transformer encoder, MLP heads.

Source: Zhou et al., ABAW6. The VA head has no tanh, as in the recipe: the CCC loss sees the whole
error, and predictions are clipped to [-1, 1] afterwards (`activate`).

Shapes: B segments, T frames (the window), D features of S sets, W `model.width`, O outputs of a
task.
    x (B, T, D) -> TCN (B, C, T) -> project (B, T, W) -> Transformer (B, T, W) -> head (B, T, O)
The TCN and its padding mask have frames last, as torch's convolutions want them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad
from torch.nn.utils.parametrizations import weight_norm

from raffect.affwild2.tasks import Task
from raffect.config import ModelConfig, TCNConfig, TemporalConfig
from raffect.temporal.checks import check_model, model_tasks
from raffect.temporal.data import Lineage
from raffect.temporal.dropout import Dropout, SelfAttention
from raffect.temporal.heads import BatchNormHead, make_head
from raffect.temporal.normalise import Normalise, spread


class ModelDescription(TypedDict):
    """All of a model but its weights, as config.json holds it.

    `feature_dims` has those of each of several sets of features.
    """

    config: Mapping[str, Any]
    feature_dim: int
    feature_dims: NotRequired[list[int]]
    lineage: Lineage


class ModelMetrics(TypedDict):
    """What training measured, as metrics.json holds it.

    `score`, the mean of `parts`, is that of the best epoch (from 1) on validation; `selection`
    says how it was chosen. `data` is the data's digest; `history` holds EpochResults as JSON.
    With post-processing, `raw` is the score without it, and `postprocess` a CrossFitted as JSON.
    """

    task: str
    metric: str
    selection: str
    score: float
    parts: dict[str, float]
    best_epoch: int
    epochs: int
    parameters: int
    data: str
    history: list[dict[str, Any]]
    raw: NotRequired[float | None]
    postprocess: NotRequired[dict[str, Any]]


class TemporalModel(nn.Module):
    """Outputs per frame for the main task and the auxiliary tasks in use.

    `feature_dim` is the number of features, or of those of each set.
    """

    def __init__(self, config: TemporalConfig, feature_dim: int | Sequence[int]) -> None:
        super().__init__()
        check_model(config)
        model = config.model
        self.dims = (feature_dim,) if isinstance(feature_dim, int) else tuple(feature_dim)
        self.feature_dim = sum(self.dims)
        self.normalise = Normalise(model.input, self.dims)
        # Added where the crop is missing; zero at first: the neighbour's feature as it is.
        self.missing = nn.Parameter(torch.zeros(self.feature_dim))
        self.tcn = TCN(self.feature_dim, model.tcn)
        self.project = nn.Conv1d(self.tcn.outputs, model.width, 1)
        self.transformer = _transformer(model)
        self.positions = model.transformer.positions == "sinusoidal"
        self.heads = nn.ModuleDict(
            {task.value: make_head(model, task) for task in model_tasks(config)}
        )

    def forward(
        self,
        x: Tensor,
        present: Tensor,
        real: Tensor | None = None,
        back_only: bool | Tensor = False,
        stand_in: Tensor | None = None,
    ) -> dict[Task, Tensor]:
        """Outputs before `activate`, in float32; arbitrary but finite where padded.

        `x` is `(B, T, D)`, `present` (frames with a crop of their own) and `real` (not padding;
        None: all) `(B, T)` bool; the outputs of each task are `(B, T, O)`. `present` may be
        `(B, T, S)`: which sets of features have a row of their own. Told to look back only (a
        graph by a `()` tensor), the Transformer shows each frame no later one. Batch norm takes no
        statistics of padding, nor of segments that are a `stand_in` `(B,)` (batches.py).
        """
        padding = None if real is None else ~real
        x = self.embed(x, present)
        x = zero(x, None if padding is None else padding[..., None]).transpose(1, 2)
        x = self.tcn(x, None if padding is None else padding[:, None]).transpose(1, 2)
        # A 1x1 convolution; its weights are stored as those of one.
        x = linear(x, self.project.weight.squeeze(-1), self.project.bias)
        if self.transformer is not None:
            if self.positions:
                x = x + sinusoids(x.shape[1], x.shape[2], x.device)
            later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).triu(1)
            if isinstance(back_only, Tensor):
                # Not to be compared with a causal mask, as None would have it.
                x = self.transformer(x, later & back_only, padding, is_causal=False)
            elif back_only:
                # Padding is at the end, so that no real frame sees it.
                x = self.transformer(x, mask=later)
            else:
                x = self.transformer(x, src_key_padding_mask=padding)
        counts = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        counts = counts if real is None else real
        if stand_in is not None:
            counts = counts & ~stand_in[:, None]
        return {
            Task(name): (head(x, counts) if isinstance(head, BatchNormHead) else head(x)).float()
            for name, head in self.heads.items()
        }

    def embed(self, x: Tensor, present: Tensor) -> Tensor:
        """The TCN's input `(B, T, D)`: normalised, and told which frames are not their own."""
        absent = ~present if present.dim() == 3 else (~present)[..., None]
        absent = absent.expand(*absent.shape[:2], len(self.dims))
        return self._embed_missing(self.normalise(x, absent), absent)

    def _embed_missing(self, x: Tensor, absent: Tensor) -> Tensor:
        """Add each set's embedding where `absent` `(B, T, S)`.

        By a product of thin matrices: a sum over the whole batch, of which next to nothing is
        absent, takes longer than all that a model without TCN and Transformer does.
        """
        sets = torch.eye(len(self.dims), dtype=torch.bool, device=x.device)
        embeddings = spread(sets, self.dims) * self.missing
        found = torch.addmm(x.flatten(0, 1), absent.flatten(0, 1).to(x.dtype), embeddings)
        return found.view_as(x)


def _transformer(model: ModelConfig) -> nn.TransformerEncoder | None:
    settings = model.transformer
    if not settings.layers:
        return None
    layer = nn.TransformerEncoderLayer(
        model.width, settings.heads, settings.feedforward, settings.dropout, batch_first=True
    )
    layer.self_attn = SelfAttention.of(layer.self_attn)
    layer.dropout, layer.dropout1, layer.dropout2 = (Dropout(settings.dropout) for _ in range(3))
    encoder = nn.TransformerEncoder(layer, settings.layers, enable_nested_tensor=False)
    # TransformerEncoder deep-copies one layer: without this all would start with equal weights.
    for copy in encoder.layers:
        for parameter in copy.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
    return encoder


def sinusoids(frames: int, width: int, device: torch.device) -> Tensor:
    """Positions `(frames, width)` of Vaswani et al. (2017), counted from the segment's start."""
    position = torch.arange(frames, dtype=torch.float32, device=device)[:, None]
    step = torch.arange(0, width, 2, dtype=torch.float32, device=device)
    angle = position * torch.exp(step * (-math.log(10_000.0) / width))
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)[:, :width]


def activate(task: Task, outputs: Tensor) -> Tensor:
    """Predictions from outputs `(..., outputs)`: VA clipped to [-1, 1], else probabilities."""
    if task is Task.VA:
        return outputs.clamp(-1.0, 1.0)
    return outputs.softmax(dim=-1) if task is Task.EXPR else outputs.sigmoid()


def count_parameters(config: TemporalConfig, feature_dim: int) -> int:
    """Number of trained values of a model, without making one."""
    with torch.device("meta"):
        return sum(value.numel() for value in TemporalModel(config, feature_dim).parameters())


class CausalConvolution(nn.Module):
    """Weight-normed convolution over `(batch, channels, frames)` that sees no later frame."""

    def __init__(self, inputs: int, outputs: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.reach = (kernel - 1) * dilation
        self.convolution = weight_norm(nn.Conv1d(inputs, outputs, kernel, dilation=dilation))

    def forward(self, x: Tensor) -> Tensor:
        """As many frames as came in."""
        y: Tensor = self.convolution(pad(x, (self.reach, 0)))
        return y


class ResidualBlock(nn.Module):
    """Two causal convolutions, each with PReLU and dropout, beside a residual path."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, dilation: int, dropout: float
    ) -> None:
        super().__init__()
        self.first = CausalConvolution(inputs, outputs, kernel, dilation)
        self.second = CausalConvolution(outputs, outputs, kernel, dilation)
        self.activations = nn.ModuleList(nn.PReLU() for _ in range(3))
        self.dropout = Dropout(dropout)
        same = inputs == outputs
        self.residual = nn.Identity() if same else nn.Conv1d(inputs, outputs, 1)

    def forward(self, x: Tensor, padding: Tensor | None) -> Tensor:
        """`(batch, inputs, frames)` to `(batch, outputs, frames)`, zero where padded."""
        y = zero(self.dropout(self.activations[0](self.first(x))), padding)
        y = self.dropout(self.activations[1](self.second(y)))
        return zero(self.activations[2](y + self.residual(x)), padding)


class TCN(nn.Module):
    """Residual blocks with dilations 1, 2, 4, ...; no blocks at depth 0."""

    def __init__(self, inputs: int, config: TCNConfig) -> None:
        super().__init__()
        channels = (inputs, *config.block_channels())
        self.outputs = channels[-1]
        self.blocks = nn.ModuleList(
            ResidualBlock(channels[i], channels[i + 1], config.kernel, 2**i, config.dropout)
            for i in range(config.depth)
        )

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        """`(batch, inputs, frames)`, zero where padded, to `(batch, outputs, frames)`.

        `padding` is `(batch, 1, frames)` bool, True where padded; None: nowhere.
        """
        for block in self.blocks:
            x = block(x, padding)
        return x


def zero(x: Tensor, padding: Tensor | None) -> Tensor:
    """`x` with zeros where padded, whatever is there (NaN included)."""
    return x if padding is None else x.masked_fill(padding, 0.0)
