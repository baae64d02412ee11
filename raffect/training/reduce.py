"""Sums over the workers of a run: a null object for one process, a process group for several.

A loss is a function f of sums over frames, S = s_1 + ... + s_N (losses.py). Each of N workers
computes the same L = f(S). The backward pass of the summing all-reduce sums the N equal
derivatives, so that worker r gets N f'(S) ds_r; DDP's mean over workers is then f'(S) dS, the
gradient of the global batch, exactly.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class Reducer:
    """One process, the worker of rank 0 of 1: every sum is already whole."""

    rank: int = 0
    size: int = 1

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all workers, differentiable."""
        return values

    def sum_in_place(self, values: Tensor) -> Tensor:
        """The sum over all workers, without a gradient; `values` may be overwritten."""
        return values

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model whose backward pass leaves the global gradient on every worker."""
        return model

    def alone(self, wrapped: nn.Module) -> AbstractContextManager[object]:
        """Within it a wrapped model's passes add up a worker's own gradient; the next joins it."""
        return nullcontext()


class GroupReducer(Reducer):
    """The default process group of torch.distributed, which must be initialised."""

    def __init__(self) -> None:
        self.rank = dist.get_rank()
        self.size = dist.get_world_size()

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all workers, differentiable."""
        summed: Tensor = _SummingReduce.apply(values)
        return summed

    def sum_in_place(self, values: Tensor) -> Tensor:
        """The sum over all workers, without a gradient; `values` is overwritten."""
        dist.all_reduce(values)
        return values

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model in DistributedDataParallel, with rank 0's weights on every worker."""
        return nn.parallel.DistributedDataParallel(model)

    def alone(self, wrapped: nn.Module) -> AbstractContextManager[object]:
        """Within it a wrapped model's passes add up a worker's own gradient; the next joins it."""
        assert isinstance(wrapped, nn.parallel.DistributedDataParallel)
        return wrapped.no_sync()


class _SummingReduce(torch.autograd.Function):
    """All-reduce whose backward pass sums too (torch.distributed.nn's is undocumented)."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        summed = values.detach().clone(memory_format=torch.contiguous_format)
        dist.all_reduce(summed)
        return summed

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        summed = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(summed)
        return summed


LOCAL = Reducer()
