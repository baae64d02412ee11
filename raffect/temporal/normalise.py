"""Normalising a model's input, set by set, in the model: predictions need no other statistics.

Shapes as in model.py; S sets of features lie side by side in D.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import normalize

from raffect.config import InputNormalisation
from raffect.temporal.data import TaskData
from raffect.temporal.rows import Features
from raffect.temporal.shares import Shares

_CHUNK = 1024
"""Rows whose float64 stays in a processor's cache."""
_CONSTANT = 1e-6
"""Features that vary by less, of their mean, are rounding noise in float32."""


class Normalise(nn.Module):
    """`zscore` by statistics that training has set, or `l2`: each set's length in a frame is 1."""

    mean: Tensor
    std: Tensor

    def __init__(self, how: InputNormalisation, dims: Sequence[int]) -> None:
        super().__init__()
        self.how = how
        self.dims = list(dims)
        if how == "zscore":
            self.register_buffer("mean", torch.zeros(sum(dims), dtype=torch.float64))
            self.register_buffer("std", torch.ones(sum(dims), dtype=torch.float64))

    def learn(self, mean: NDArray[np.float64], std: NDArray[np.float64]) -> None:
        """Take statistics `(D,)` of the training frames."""
        self.mean.copy_(torch.from_numpy(mean))
        self.std.copy_(torch.from_numpy(std))

    def forward(self, x: Tensor, absent: Tensor) -> Tensor:
        """`x` `(B, T, D)` normalised; `absent` `(B, T, S)` says which sets have no row there."""
        if self.how == "none":
            return x
        parts = torch.split(x, self.dims, dim=-1)
        if self.how == "l2":
            return torch.cat([normalize(part, dim=-1) for part in parts], dim=-1)
        # A video without any row of a set has zeros there, which are to be its mean.
        blank = absent & torch.stack([(part == 0).all(dim=-1) for part in parts], dim=-1)
        scaled = (x - self.mean.float()) / self.std.float()
        return scaled.masked_fill(spread(blank, self.dims), 0.0)


def spread(mask: Tensor, dims: Sequence[int]) -> Tensor:
    """A mask per set `(B, T, S)` as one per feature `(B, T, D)`; of one set as it is."""
    if len(dims) == 1:
        return mask
    ones = torch.split(mask, 1, dim=-1)
    pairs = zip(ones, dims, strict=True)
    return torch.cat([one.expand(*one.shape[:-1], dim) for one, dim in pairs], dim=-1)


def training_statistics(
    data: TaskData, shares: Shares | None = None, device: torch.device | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation `(features,)` over the training frames that have a row.

    A set's are those of its own frames. They do not depend on how files and rows are ordered. The
    deviation is the population's, and 1 where a feature does not vary. Where this worker holds
    only its `shares` of the videos, workers put theirs together on `device`.
    """
    shares = shares or Shares.of(data, 1)
    present = data.train.present.reshape(data.train.frames, -1)
    share = np.repeat(shares.train, data.train.lengths)
    means, deviations = [], []
    for i, dim in enumerate(data.dims):
        first = sum(data.dims[:i])
        # Per share: frames, means, and sums of squares.
        found = np.zeros((shares.count, 2 * dim + 1))
        for own in shares.own:
            rows = data.train.row[present[:, i] & (share == own)]
            found[own] = _moments(data.features, rows, slice(first, first + dim))
        if shares.is_part:
            summed = shares.reducer.sum_in_place(torch.from_numpy(found).to(device))
            found = summed.cpu().numpy()
        frames, mean, square = 0.0, np.zeros(dim), np.zeros(dim)
        for count, *more in (np.split(of, [1, dim + 1]) for of in found):
            frames = _merge(frames, mean, square, float(count[0]), *more)
        std = np.sqrt(square / max(1, frames))
        means.append(mean)
        deviations.append(np.where(std > _CONSTANT * np.abs(mean), std, 1.0))
    return np.concatenate(means), np.concatenate(deviations)


def _moments(features: Features, rows: NDArray[np.int64], columns: slice) -> NDArray[np.float64]:
    """Of some rows: their number, the features' means, and their sums of squares around these."""
    dim = columns.stop - columns.start
    mean, square = np.zeros(dim), np.zeros(dim)
    for start in range(0, len(rows), _CHUNK):
        chunk = features[rows[start : start + _CHUNK]][:, columns].astype(np.float64)
        own = chunk.mean(axis=0)
        chunk -= own
        _merge(start, mean, square, len(chunk), own, np.einsum("ij,ij->j", chunk, chunk))
    return np.concatenate([[len(rows)], mean, square])


def _merge(
    frames: float,
    mean: NDArray[np.float64],
    square: NDArray[np.float64],
    more: float,
    own: NDArray[np.float64],
    squares: NDArray[np.float64],
) -> float:
    """Add the means and sums of squares of more frames as in Chan et al. (1983); all frames."""
    if more:
        share = more / (frames + more)
        square += squares + frames * share * (own - mean) ** 2
        mean += share * (own - mean)
    return frames + more
