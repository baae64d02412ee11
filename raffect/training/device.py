"""Device, precision and random numbers of a model in training or prediction."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import numpy as np
import torch

from raffect.config import Device, RunConfig
from raffect.errors import SettingsError


def choose_device(wanted: Device) -> torch.device:
    """The device; auto is the GPU where there is one.

    Raises:
        SettingsError: A GPU is wanted and none can be used.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise SettingsError(
            "run.device = cuda, and this machine has no GPU that PyTorch can use.",
            "auto, cpu",
            "Leave run.device at auto, or ask for a machine with a GPU.",
        )
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(wanted)


def autocast(run: RunConfig, device: torch.device) -> AbstractContextManager[object]:
    """Mixed precision as the settings say; `auto` is bfloat16 on GPUs, float32 on CPUs."""
    use = run.precision == "bfloat16" or (run.precision == "auto" and device.type == "cuda")
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=use)


@contextmanager
def seeded(device: torch.device, *key: int) -> Iterator[None]:
    """Seed PyTorch's generators from `key` for a block; their state is restored afterwards.

    So a run's numbers do not depend on what the process did before, and checkpoints hold no
    generator state: that of each epoch follows from the seed and the epoch.
    """
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0]))
        yield


def free_memory() -> None:
    """Return PyTorch's cached GPU memory to the device, e.g. after running out of it."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
